package nydusimage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ErrNydus is wrapped by the error of [OpenOCI] about an image that is Nydus.
var ErrNydus = errors.New("a Nydus image")

// An OCI is an image that is not Nydus, resolved: the source of a Nydus image.
// Its manifest and config are in memory, verified. It must be closed.
type OCI struct {
	// Reference is what the image was asked for by, fully spelled; nil for a
	// path.
	Reference name.Reference
	// Descriptor is that of what the reference names: an index or the manifest.
	Descriptor v1.Descriptor
	// Digest is that of the manifest.
	Digest   v1.Hash
	Manifest *v1.Manifest
	// RawManifest and RawConfig are the documents as stored.
	RawManifest, RawConfig []byte
	Config                 *v1.ConfigFile
	// Layers are the layers as stored, compressed or not, bottom first. Their
	// bytes are not verified: the reader of a whole layer must do that.
	Layers []Layer

	limits  Limits
	store   store
	closers closers
}

// Limits are the bounds that the image was opened with.
func (i *OCI) Limits() Limits { return i.limits.WithDefaults() }

// OpenOCI resolves an OCI or docker image as [Open] does a Nydus image. From an
// index it takes the manifest of the platform that is not marked as Nydus. A
// Nydus image is an error that wraps [ErrNydus].
func OpenOCI(ctx context.Context, target string, o Options) (*OCI, error) {
	where, doc, reference, err := find(ctx, target, &o)
	if err != nil {
		return nil, err
	}
	i := &OCI{Reference: reference, Descriptor: doc.Descriptor, limits: o.Limits, store: where}
	if doc, err = selectManifest(ctx, where, doc, target, &o, preferOCI); err != nil {
		return nil, err
	}
	if err := i.read(ctx, doc, target); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

// Close frees what reading the image has taken.
func (i *OCI) Close() error { return i.closers.close() }

func (i *OCI) read(ctx context.Context, doc *document, target string) error {
	manifest, err := parseManifest(doc)
	if err != nil {
		return err
	}
	i.Digest, i.Manifest, i.RawManifest = doc.Digest, manifest, doc.raw
	if notNydus(manifest) == "" {
		return fmt.Errorf("%s cannot be the source of a Nydus image: it is %w", target, ErrNydus)
	}
	if i.RawConfig, err = readBlob(ctx, i.store, manifest.Config, maxConfig); err != nil {
		return fmt.Errorf("read the config: %w", err)
	}
	if i.Config, err = parse(i.RawConfig, v1.ParseConfigFile); err != nil {
		return fmt.Errorf("config %s: %w", manifest.Config.Digest, err)
	}
	created := CreatedBy(i.Config.History, len(manifest.Layers))
	for n, d := range manifest.Layers {
		source, err := i.store.blob(d)
		if err != nil {
			return err
		}
		i.closers.add(source)
		layer := Layer{Descriptor: d, Source: source}
		if len(i.Config.RootFS.DiffIDs) == len(manifest.Layers) {
			layer.DiffID = i.Config.RootFS.DiffIDs[n].String()
		}
		if created != nil {
			layer.CreatedBy = created[n]
		}
		i.Layers = append(i.Layers, layer)
	}
	return nil
}

// closers are what an image holds open. They are safe for concurrent use.
type closers struct {
	mu   sync.Mutex
	list []io.Closer
}

// add takes a source that has to be closed; others it leaves out.
func (c *closers) add(source any) {
	closer, ok := source.(io.Closer)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, closer)
}

func (c *closers) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, closer := range c.list {
		errs = append(errs, closer.Close())
	}
	c.list = nil
	return errors.Join(errs...)
}
