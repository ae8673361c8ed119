// Package nydusimage resolves a reference to a Nydus image: index, manifest,
// config, bootstrap and data blobs, from a registry or an OCI layout, a folder or an archive of one.
//
// A Nydus image's manifest lists data blobs and, last, the bootstrap layer: a
// tar archive with the merged bootstrap of the whole image (image/image.boot)
// and, for RAFS v6, each blob's table of chunks (image/<blob>.blob.meta).
//
// [Open] follows the chain of digests: the reference gives a manifest, its
// digest vouches for the config and the bootstrap layer, whose digests are
// checked. [Image.Bootstrap] reads the latter. Data blobs are not read here;
// [Layer.Source] gives their ranges.
package nydusimage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/ocicrypt"
)

var (
	// ErrNotFound is wrapped by errors about an image that is not there.
	ErrNotFound = errors.New("not found")
	// ErrUnauthorized is wrapped by errors about missing or refused credentials.
	ErrUnauthorized = errors.New("no access")
	// ErrPlatform is wrapped by errors about an index without the platform.
	ErrPlatform = errors.New("no image for the platform")
	// ErrInvalid is wrapped by errors about manifests and configs that
	// contradict their specification.
	ErrInvalid = errors.New("invalid image")
)

// Options say how an image is found and read. The zero value reads with the
// default transport and the credentials of the docker and podman command lines.
type Options struct {
	// Transport carries all requests; it knows about TLS and proxies. nil is
	// http.DefaultTransport.
	Transport http.RoundTripper
	// Credentials are tried in order for the host of the reference, before
	// what Keychain has for it.
	Credentials []authn.Authenticator
	// Exclusive says that Credentials replace the keychain.
	Exclusive bool
	// Keychain has credentials by host. nil is the configuration files of
	// docker and podman and their credential helpers.
	Keychain authn.Keychain
	// Mirrors lists, by host, the registries that are asked first.
	Mirrors map[string][]string
	// PlainHTTP allows plain HTTP to hosts other than this machine.
	PlainHTTP bool
	// Platform selects from an index. nil is linux/amd64; an empty OS stands
	// for any.
	Platform *v1.Platform
	// Manifest, if not nil, is what to read of an index: one that [Platforms] lists.
	Manifest *v1.Descriptor
	// Metadata, if not nil, keeps bootstraps from one call to the next.
	Metadata *MetadataCache
	// Twin reads, for an image that is not Nydus, the Nydus image that names it as
	// its subject.
	Twin bool
	// Keys decrypt bootstrap layers that are encrypted; nil is none.
	Keys *ocicrypt.Keys
	// Limits bound what the image may take; the zero value is the defaults.
	Limits Limits
	// Traffic, if not nil, counts requests and bytes.
	Traffic *Traffic
	// Notice, if not nil, is told what a person should know, a line each.
	Notice func(string)
}

func (o *Options) notice(format string, args ...any) {
	if o.Notice != nil {
		o.Notice(fmt.Sprintf(format, args...))
	}
}

// An Image is a Nydus image that has been resolved. Its manifest and config are
// in memory, verified.
type Image struct {
	// Reference is what the image was asked for by, fully spelled; nil for a
	// path.
	Reference name.Reference
	// Descriptor is that of what the reference names: an index or the manifest.
	Descriptor v1.Descriptor
	// Digest is that of the Nydus manifest.
	Digest   v1.Hash
	Manifest *v1.Manifest
	// RawManifest and RawConfig are the documents as stored.
	RawManifest, RawConfig []byte
	// TwinOf is the image that was asked for, of which this one says that it is
	// the twin (Options.Twin); else zero.
	TwinOf v1.Hash
	// Config is the image's configuration as the source image had it: without
	// the history entry and the diff ID that the converter appended.
	Config *v1.ConfigFile
	// Layers are the data layers, bottom first.
	Layers []Layer
	// BootstrapLayer is the layer that [Image.Bootstrap] reads.
	BootstrapLayer v1.Descriptor
	// Metadata, which may be nil, is where metadata is kept.
	Metadata *MetadataCache
	// Traffic, which may be nil, counts what is read of the image.
	Traffic *Traffic

	limits  Limits
	store   store
	keys    *ocicrypt.Keys
	ahead   *ahead // nil where nothing was fetched ahead
	closers closers
}

// A Layer is one data layer of a Nydus image.
type Layer struct {
	v1.Descriptor
	// DiffID is what the config says of it.
	DiffID string
	// CreatedBy is the command that made it, by the image's history; "" where
	// the history does not map one to one to the layers. The order of layers,
	// which it goes by, is not always that of the manifest: package nydusmount
	// tells.
	CreatedBy string
	// Ref is the digest of the OCI layer in which the data lies, of a layer that
	// only has an index to it (zran); else zero.
	Ref v1.Hash
	// Source gives the blob's bytes.
	Source blob.Source
}

// BlobID is the ID, as bootstraps name it, of the blob that holds the layer's
// data: the digest without algorithm, that of the OCI layer where the data lies
// there.
func (l *Layer) BlobID() string {
	if l.Refers() {
		return l.Ref.Hex
	}
	return l.Digest.Hex
}

// MetaIDs are the IDs under which a bootstrap layer may carry the layer's blob.meta:
// nydusify names it after the layer, nydusd takes it by the ID of the blob that holds
// the data.
func (l *Layer) MetaIDs() []string { return slices.Compact([]string{l.Digest.Hex, l.BlobID()}) }

// Refers says whether the layer's data lies in an OCI layer: see [Layer.Ref].
func (l *Layer) Refers() bool { return l.Ref != v1.Hash{} }

// A NotNydusError says that a reference is an image, but not a Nydus image.
type NotNydusError struct {
	Target string // what the user gave
	// Reference is the target fully spelled; nil for a path.
	Reference name.Reference
	// Descriptor is that of what the reference names: an index or the manifest.
	Descriptor v1.Descriptor
	Digest     v1.Hash // of the manifest that was found
	Reason     string
}

func (e *NotNydusError) Error() string {
	return fmt.Sprintf("%s is not a Nydus image: %s", e.Target, e.Reason)
}

// Open resolves what the user gave: a reference, or a path (see [IsPath]) to an
// OCI layout, a folder or a tar archive of one. The image must be closed.
func Open(ctx context.Context, target string, o Options) (*Image, error) {
	where, doc, reference, err := find(ctx, target, &o)
	if err != nil {
		return nil, err
	}
	found := doc.Descriptor
	o.Traffic.NoteMetadata(found.Size)
	if doc, err = selectManifest(ctx, where, doc, target, &o, preferNydus); err != nil {
		return nil, err
	}
	image := &Image{
		Reference: reference, Descriptor: found, Metadata: o.Metadata, Traffic: o.Traffic,
		limits: o.Limits.WithDefaults(), store: where, keys: o.Keys,
	}
	err = image.read(ctx, doc, target)
	var plain *NotNydusError
	if o.Twin && errors.As(err, &plain) {
		err = image.readTwin(ctx, doc.Digest, plain, &o)
	}
	if err != nil {
		return nil, errors.Join(err, image.Close())
	}
	return image, nil
}

// readTwin reads the Nydus twin of an image that turned out to be another.
func (i *Image) readTwin(ctx context.Context, of v1.Hash, plain *NotNydusError, o *Options) error {
	doc, err := twin(ctx, i.store, of)
	if errors.Is(err, errNoTwin) {
		plain.Reason += "; " + err.Error()
		return plain
	}
	if err != nil {
		return err
	}
	o.notice("scanning %s, which says that it is the Nydus twin of %s: nothing proves that", doc.Digest, of)
	i.TwinOf = of
	i.Descriptor = doc.Descriptor
	return i.read(ctx, doc, plain.Target)
}

// Data gives the bytes of the OCI layer to which a layer refers (see
// [Layer.Ref]). It is in the image's repository, but not in its manifest: size,
// in bytes, is that of the bootstrap's blob table.
func (i *Image) Data(l *Layer, size int64) (blob.Source, error) {
	source, err := i.store.blob(v1.Descriptor{Digest: l.Ref, Size: size})
	if err != nil {
		return nil, err
	}
	i.closers.add(source)
	return source, nil
}

// InRegistry says whether the image lies in a registry, not in a layout.
func (i *Image) InRegistry() bool {
	_, is := i.store.(*registry)
	return is
}

// Close frees what reading the image has taken.
func (i *Image) Close() error { return i.closers.close() }

// find opens the place that holds the image and reads the document that the
// target names there.
func find(ctx context.Context, target string, o *Options) (store, *document, name.Reference, error) {
	if IsPath(target) {
		where, doc, err := openLayout(ctx, target, o.Traffic)
		return where, doc, nil, err
	}
	reference, err := parseReference(target, o)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("read the reference %q: %w", target, err)
	}
	where, doc, err := openRegistry(ctx, reference, o)
	return where, doc, reference, err
}

func (i *Image) read(ctx context.Context, doc *document, target string) error {
	i.Digest = doc.Digest
	if doc.Digest != i.Descriptor.Digest {
		i.Traffic.NoteMetadata(doc.Size)
	}
	manifest, err := parseManifest(doc)
	if err != nil {
		return err
	}
	i.Manifest, i.RawManifest = manifest, doc.raw
	if reason := notNydus(manifest); reason != "" {
		return &NotNydusError{Target: target, Reference: i.Reference, Descriptor: i.Descriptor, Digest: doc.Digest, Reason: reason}
	}
	data, bootstrap, err := splitLayers(manifest)
	i.BootstrapLayer = bootstrap
	if err != nil {
		return fmt.Errorf("manifest %s: %w", doc.Digest, err)
	}

	i.fetchAhead(ctx)
	rawConfig, err := readBlob(ctx, i.store, manifest.Config, maxConfig)
	if err != nil {
		return fmt.Errorf("read the config: %w", err)
	}
	i.RawConfig = rawConfig
	i.Traffic.NoteMetadata(int64(len(rawConfig)))
	config, diffIDs, err := sourceConfig(rawConfig, len(data))
	if err != nil {
		return fmt.Errorf("config %s: %w", manifest.Config.Digest, err)
	}
	i.Config = config
	created := CreatedBy(config.History, len(data))
	for n, d := range data {
		source, err := i.store.blob(d)
		if err != nil {
			return err
		}
		i.closers.add(source)
		layer := Layer{Descriptor: d, DiffID: d.Digest.String(), Source: source}
		if layer.Ref, err = reference(d); err != nil {
			return fmt.Errorf("manifest %s: layer %d: %w", doc.Digest, n+1, err)
		}
		if diffIDs != nil {
			layer.DiffID = diffIDs[n].String()
		}
		if created != nil {
			layer.CreatedBy = created[n]
		}
		i.Layers = append(i.Layers, layer)
	}
	return nil
}
