package nydusmount

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// startTimeout is how long nydusd may take until it serves.
const startTimeout = 30 * time.Second

var (
	// ErrNydusd is wrapped by errors about nydusd: it is not there, does not
	// start, or has ended.
	ErrNydusd = errors.New("nydusd")
	// ErrRefused is wrapped by errors about what nydusd cannot honour.
	ErrRefused = errors.New("nydusd cannot do that")
	// ErrLeft is wrapped by errors about what could not be taken away when nydusd was
	// ended. The next start tries again.
	ErrLeft = errors.New("left behind")
	// ErrMountPoint is wrapped by errors about a folder that cannot be mounted at.
	ErrMountPoint = errors.New("mount point")
	// ErrBackend is wrapped by errors about an image whose data is not where the
	// image is: the user must say where, and nydusd read it.
	ErrBackend = errors.New("the data lies in a backend of its own")
)

// Options say how nydusd mounts an image. The zero value finds nydusd, infers
// the backend from the image and mounts in a folder of its own.
type Options struct {
	// Program is nydusd: a path or a name; "" is $NYDUSD, then "nydusd" in PATH.
	Program string
	// Backend is where nydusd reads blobs. The zero value is the image's registry,
	// with the login that gave the manifest, or the folder of its OCI layout; an
	// image whose data is in neither is refused then ([ErrBackend]).
	Backend Backend
	// SkipVerify lets the registry's TLS certificate go unverified.
	SkipVerify bool
	// MountPoint is an empty folder, see [CheckMountPoint]; "" is one of nydusd's
	// own.
	MountPoint string
	// Prefetch lets nydusd fetch the whole image in the background.
	Prefetch bool
	// StartTimeout is how long nydusd may take until it serves; 0 is 30 s.
	StartTimeout time.Duration
}

// Nydusd mounts an image through nydusd, which runs until the mount is closed
// or ctx ends: then reads that wait fail. The tree is that of the bootstrap, whose
// digest was verified; nydusd gives the bytes of its files. There are no trees of
// layers.
func Nydusd(ctx context.Context, image *nydusimage.Image, o Options) (*Mount, error) {
	bootstrap, err := image.Bootstrap(ctx)
	if err != nil {
		return nil, err
	}
	d, err := startDaemon(ctx, image, bootstrap, o)
	if err != nil {
		return nil, err
	}
	d.EndWith(ctx)
	files, err := openMounted(d, bootstrap.Tree)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	m := &Mount{
		Image:    image,
		Merged:   &View{Tree: bootstrap.Tree, source: files, Vouched: true},
		Layers:   make([]*View, len(image.Layers)),
		Ordered:  InOrder(image, bootstrap),
		NoLayers: "nydusd shows the merged image only",
		Warnings: keyWarnings(image, bootstrap.Tree, nil),
		Verified: verification(bootstrap),
		daemon:   d,
	}
	return m, nil
}

// verification says how far nydusd verifies an image's data.
func verification(b *nydusimage.Bootstrap) Verification {
	super := b.Tree.Superblock()
	switch {
	case external(b) != nil:
		return NoDigests
	case super.Version != rafs.V5:
		return NotVerified
	case super.Compressor == rafs.CompressorGzip:
		return NotVerifiedGzip
	}
	return VerifiedByNydusd
}

// StartDaemon starts nydusd for an image and returns when it serves, or when
// ctx ends. It runs until it is closed.
func StartDaemon(ctx context.Context, image *nydusimage.Image, o Options) (*Daemon, error) {
	bootstrap, err := image.Bootstrap(ctx)
	if err != nil {
		return nil, err
	}
	return startDaemon(ctx, image, bootstrap, o)
}

func startDaemon(ctx context.Context, image *nydusimage.Image, bootstrap *nydusimage.Bootstrap, o Options) (*Daemon, error) {
	if why := elsewhere(image, bootstrap); why != "" && o.Backend.Type == "" {
		return nil, fmt.Errorf("%w (%s), and none was named", ErrBackend, why)
	}
	if o.MountPoint != "" {
		var err error
		if o.MountPoint, err = CheckMountPoint(o.MountPoint); err != nil {
			return nil, err
		}
	}
	if err := checkFUSE(); err != nil {
		return nil, err
	}
	program, err := findNydusd(o.Program)
	if err != nil {
		return nil, err
	}
	j := job{Program: program, Bootstrap: bootstrap.File, MountPoint: o.MountPoint, StartTimeout: o.StartTimeout, MaxDisk: image.Limits().Temp.Allowed()}
	if j.StartTimeout == 0 {
		j.StartTimeout = startTimeout
	}
	backend := o.Backend
	if backend.Type == "" {
		if backend, j.Links, err = inferBackend(ctx, image, o.SkipVerify); err != nil {
			return nil, err
		}
	}
	if j.Config, err = nydusdConfig(backend, bootstrap.Tree.Superblock().Version == rafs.V5, o.Prefetch); err != nil {
		return nil, fmt.Errorf("configure nydusd: %w", err)
	}
	j.Secrets = backend.secrets()
	d, err := launch(ctx, j)
	if features := newer(bootstrap); features != "" && errors.Is(err, ErrNydusd) {
		err = fmt.Errorf("%w (the image has %s, which nydusd 2.2 does not read: a newer one may)", err, features)
	}
	return d, err
}
