package testimage

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// refNameAnnotation names a manifest in an OCI layout.
const refNameAnnotation = "org.opencontainers.image.ref.name"

// Push pushes an image (a *Nydus is one) or an index to ref, "host/repository:tag", and returns its digest. Loopback
// hosts are spoken to over plain HTTP. Credentials go in as remote.WithAuth.
func Push(t testing.TB, ref string, thing any, options ...remote.Option) v1.Hash {
	t.Helper()
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatalf("push: %v", err)
	}
	switch thing := thing.(type) {
	case v1.ImageIndex:
		err = remote.WriteIndex(parsed, thing, options...)
	case v1.Image:
		err = remote.Write(parsed, thing, options...)
	default:
		t.Fatalf("push %s: a %T is neither an image nor an index", ref, thing)
	}
	if err != nil {
		t.Fatalf("push %s: %v", ref, err)
	}
	digest, err := thing.(interface{ Digest() (v1.Hash, error) }).Digest()
	if err != nil {
		t.Fatalf("push %s: digest: %v", ref, err)
	}
	return digest
}

// WriteLayout writes images and indexes, by tag, as an OCI layout into the folder dir.
func WriteLayout(t testing.TB, dir string, things map[string]any) {
	t.Helper()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatalf("write the OCI layout %s: %v", dir, err)
	}
	for _, tag := range slices.Sorted(maps.Keys(things)) {
		named := layout.WithAnnotations(map[string]string{refNameAnnotation: tag})
		switch thing := things[tag].(type) {
		case v1.ImageIndex:
			err = path.AppendIndex(thing, named)
		case v1.Image:
			err = path.AppendImage(thing, named)
		default:
			t.Fatalf("write %q to the OCI layout: a %T is neither an image nor an index", tag, thing)
		}
		if err != nil {
			t.Fatalf("write %q to the OCI layout %s: %v", tag, dir, err)
		}
	}
}
