package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/authn/github"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/aquasecurity/trivy-db/pkg/db"
	"github.com/aquasecurity/trivy/pkg/cache"
	tartifact "github.com/aquasecurity/trivy/pkg/commands/artifact"
	"github.com/aquasecurity/trivy/pkg/fanal/applier"
	fartifact "github.com/aquasecurity/trivy/pkg/fanal/artifact"
	"github.com/aquasecurity/trivy/pkg/fanal/image/registry"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
	"github.com/aquasecurity/trivy/pkg/flag"
	"github.com/aquasecurity/trivy/pkg/log"
	"github.com/aquasecurity/trivy/pkg/rpc/client"
	tscan "github.com/aquasecurity/trivy/pkg/scan"
	"github.com/aquasecurity/trivy/pkg/scan/langpkg"
	"github.com/aquasecurity/trivy/pkg/scan/local"
	"github.com/aquasecurity/trivy/pkg/scan/ospkg"
	"github.com/aquasecurity/trivy/pkg/vulnerability"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/artifact"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A service opens one image and gives Trivy's runner what scans it.
type service struct {
	*session
	options flag.Options // with this image as target
	traffic nydusimage.Traffic
	meter   *meter
	started time.Time

	image    *nydusimage.Image
	artifact *artifact.Artifact // nil for an image that is not Nydus
	mount    *nydusmount.Mount  // nil until it is needed
}

// close frees what the scan has taken.
func (s *service) close() {
	s.meter.stop()
	if s.image != nil {
		if err := s.image.Close(); err != nil {
			log.Debug("Failed to close the image", log.Err(err))
		}
	}
}

// unmount ends the mount, if there is one, when all has been read. Its error says what is
// left behind.
func (s *service) unmount() error {
	if s.mount == nil {
		return nil
	}
	err := s.mount.Close()
	if err != nil && !errors.Is(err, nydusmount.ErrLeft) {
		log.Warn("Failed to unmount the image", log.Err(err))
		return nil
	}
	return err
}

// initialize implements [tartifact.InitializeScanService].
func (s *service) initialize(ctx context.Context, config tartifact.ScannerConfig) (tscan.Service, func(), error) {
	if err := s.restoreMisconf(ctx, s.options, &config.ArtifactOption); err != nil {
		return tscan.Service{}, nil, err
	}
	target := config.Target
	if s.options.Input != "" && !nydusimage.IsPath(target) {
		target = "./" + target
	}
	if !slices.Contains(config.ArtifactOption.ImageOption.ImageSources, ftypes.RemoteImageSource) {
		// A daemon's image store holds no Nydus images.
		return s.assemble(ctx, config, s.plainArtifact(ctx, config, nil))
	}
	imageOptions, err := s.imageOptions(ctx, target)
	if err != nil {
		return tscan.Service{}, nil, ourError{err}
	}
	img, err := nydusimage.Open(ctx, target, imageOptions)
	var plain *nydusimage.NotNydusError
	switch {
	case errors.As(err, &plain) && s.ours.requireNydus:
		return tscan.Service{}, nil, ourError{fmt.Errorf("--require-nydus: %w", err)}
	case errors.As(err, &plain):
		log.Info(fmt.Sprintf("%s; scanning it as trivy image does", plain))
		if s.ours.evidence != "" {
			log.Warn("There is no evidence for an image that is not Nydus")
		}
		return s.assemble(ctx, config, s.plainArtifact(ctx, config, plain))
	case err != nil:
		return tscan.Service{}, nil, ourError{err}
	}
	s.image = img
	return s.assemble(ctx, config, func(c cache.ArtifactCache) (fartifact.Artifact, func(), error) {
		analyzers, err := s.analyzersFor(config.ArtifactOption)
		if err != nil {
			return nil, nil, err
		}
		s.meter = newMeter(s.stderr, s.options, &s.traffic, size(img))
		s.artifact = artifact.New(img, s.openMount, c, analyzers, artifact.Options{
			Name:          config.Target,
			Mount:         s.ours.way(),
			RequireLayers: s.ours.requireLayers,
			MaxFile:       s.ours.bounds.file,
			Projects:      s.projects(s.options),
			OwnChecks:     len(s.options.CheckPaths)+len(s.options.DataPaths)+len(s.options.ConfigFileSchemas) > 0,
			RawChecks:     s.rawChecks,
			Warn:          func(line string) { log.Warn(oneLine(line)) },
			Progress:      s.meter.update,
		})
		return scanned{s.artifact, s}, func() {}, nil
	})
}

// openMount mounts the image as --mount says. ahead is of no use to nydusd.
func (s *service) openMount(ctx context.Context, ahead func(*rafs.Tree) []rafs.Chunk) (m *nydusmount.Mount, err error) {
	boundMemory(s.image)
	if s.ours.mount == mountNydusd {
		s.mount, err = nydusmount.Nydusd(ctx, s.image, s.ours.nydusd.mount(s.options))
	} else {
		if s.sharesResults() {
			ahead = nil
		}
		s.mount, err = nydusmount.Native(ctx, s.image, nydusmount.AllowUnverified(s.ours.unverified), nydusmount.WholeBlobs(s.ours.verify == verifyFull), nydusmount.Ahead(ahead))
	}
	return s.mount, err
}

// sharesResults says whether the scan cache may know an image that this machine has
// not seen: then no data is wanted.
func (s *service) sharesResults() bool {
	return s.options.ServerAddr != "" || cache.NewType(s.options.CacheBackend) == cache.TypeRedis
}

// A scanned artifact marks its errors as ours. What Trivy itself asks a registry
// for while it is inspected, documents attached to the image, is kept off plain
// HTTP as our own requests are.
type scanned struct {
	*artifact.Artifact
	service *service
}

func (s scanned) Inspect(ctx context.Context) (fartifact.Reference, error) {
	if r := s.service.image.Reference; r != nil {
		ctx = s.service.guard(ctx, r.Context().RegistryStr())
	}
	reference, err := s.Artifact.Inspect(ctx)
	s.service.meter.stop() // what follows reads nothing of the image
	if err != nil {
		return reference, ourError{err}
	}
	return reference, nil
}

// newArtifact makes an artifact over a cache.
type newArtifact func(cache.ArtifactCache) (fartifact.Artifact, func(), error)

// assemble puts an artifact in front of Trivy's detection, in this process or on
// a server (pkg/commands/artifact/scanner.go does the same for its own).
func (s *service) assemble(ctx context.Context, config tartifact.ScannerConfig, open newArtifact) (tscan.Service, func(), error) {
	if s.options.ServerAddr != "" {
		art, cleanup, err := open(cache.NewRemoteCache(ctx, config.RemoteCacheOptions))
		if err != nil {
			return tscan.Service{}, nil, err
		}
		return tscan.NewService(backend{client.NewService(config.ServerOption), s.options.ScanOpts()}, art), cleanup, nil
	}
	results, err := s.openCache(config.CacheOptions)
	if err != nil {
		return tscan.Service{}, nil, err
	}
	art, cleanup, err := open(results)
	if err != nil {
		return tscan.Service{}, nil, err
	}
	here := local.NewService(applier.NewApplier(results), ospkg.NewScanner(), langpkg.NewScanner(), vulnerability.NewClient(db.Config{}))
	return tscan.NewService(backend{here, s.options.ScanOpts()}, art), cleanup, nil
}

// githubKeychain is go-containerregistry's, which looks at the name of the host alone:
// another port is another registry.
type githubKeychain struct{}

func (githubKeychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if r.RegistryStr() != "ghcr.io" {
		return authn.Anonymous, nil
	}
	return github.Keychain.Resolve(r)
}

// imageOptions translates Trivy's registry options.
func (s *service) imageOptions(ctx context.Context, target string) (nydusimage.Options, error) {
	trivy := s.options.RegistryOpts()
	o := nydusimage.Options{
		Mirrors:   trivy.RegistryMirrors,
		PlainHTTP: s.ours.plainHTTP,
		Twin:      s.ours.twin,
		Keys:      s.ours.keys,
		Limits:    s.ours.bounds.limits,
		Platform:  trivy.Platform.Platform,
		Traffic:   &s.traffic,
		Notice:    func(line string) { log.Info(oneLine(line)) },
		Metadata:  nydusimage.NewMetadataCache(filepath.Join(s.options.CacheDir, "nydus")),
		Keychain:  authn.NewMultiKeychain(authn.DefaultKeychain, githubKeychain{}),
	}
	reference, err := name.ParseReference(target)
	if nydusimage.IsPath(target) || err != nil {
		return o, nil // there is no registry, or nydusimage says what is wrong
	}
	host := reference.Context().RegistryStr()
	if o.Transport, err = s.transport(host); err != nil {
		return o, err
	}
	if trivy.RegistryToken != "" {
		o.Credentials = []authn.Authenticator{&authn.Bearer{Token: trivy.RegistryToken}}
		o.Exclusive = true
		return o, nil
	}
	for _, c := range trivy.Credentials {
		o.Credentials = append(o.Credentials, &authn.Basic{Username: c.Username, Password: c.Password})
	}
	// The registries of the large clouds have credentials of their own.
	if token := registry.GetToken(ctx, host, trivy); token != (authn.Basic{}) {
		o.Credentials = append(o.Credentials, &token)
	}
	return o, nil
}

// closingLine says how little was read.
func (s *service) closingLine() {
	if s.options.Quiet || s.artifact == nil {
		return
	}
	e := s.evidence()
	in := ""
	if e.Traffic.Requests > 0 { // none for a layout on this machine
		in = fmt.Sprintf(" in %d requests", e.Traffic.Requests)
	}
	fmt.Fprintf(s.stderr, "nydus: read %s of %s (%s, %s needed)%s, %.1f s (network %.1f s, decoding %.1f s, analyzers %.1f s); %s\n",
		bytesString(e.Traffic.Bytes), bytesString(e.Image.Size), percent(e.Traffic.Bytes, e.Image.Size), bytesString(e.Traffic.Floor),
		in, e.Seconds, e.Traffic.WaitingSeconds, e.Scan.DecodingSeconds, e.Scan.AnalyzingSeconds, s.sourceLine(e))
}

// sourceLine is the end of the closing line: what the report comes from, and how far
// that was verified.
func (s *service) sourceLine(e evidence) string {
	switch {
	case e.Scan.SBOM != "":
		return fmt.Sprintf("no file of the image, but its %s document was scanned, manifest %s", e.Scan.SBOM, e.Image.Manifest)
	case s.ours.mount == mountNydusd:
		return nydusdLine(e)
	case e.Scan.Verified == nydusmount.Unvouched:
		return unvouchedLine(e)
	default:
		return verifiedLine(e)
	}
}

// verifiedLine is the end of the closing line for an image that was verified, but
// for files that later layers delete or replace: where the manifest does not vouch for
// those, it says so.
func verifiedLine(e evidence) string {
	line := fmt.Sprintf("%d chunks verified up to manifest %s", e.Scan.Chunks, e.Image.Manifest)
	switch {
	case e.Scan.WholeBlobs > 0:
		line = fmt.Sprintf("%d chunks and %d whole blobs verified up to manifest %s", e.Scan.Chunks, e.Scan.WholeBlobs, e.Image.Manifest)
	case e.Scan.Chunks == 0:
		line = fmt.Sprintf("results of verified reads from the cache, manifest %s", e.Image.Manifest)
	}
	if hidden := e.Scan.HiddenUnverified(); hidden > 0 {
		line += fmt.Sprintf(", but of hidden files (%d) only up to their layers' bootstraps: see --verify full", hidden)
	}
	return line
}

// unvouchedLine is the end of the closing line for an image that was read with
// --allow-unverified and needed it.
func unvouchedLine(e evidence) string {
	if e.Scan.Chunks == 0 {
		return fmt.Sprintf("results from the cache, %s, manifest %s", e.Scan.Verified, e.Image.Manifest)
	}
	return fmt.Sprintf("%d chunks read, %s, manifest %s", e.Scan.Chunks, e.Scan.Verified, e.Image.Manifest)
}

// size is what a full download of the image would take.
func size(img *nydusimage.Image) int64 { return fullSize(img.Manifest) }

func fullSize(manifest *v1.Manifest) int64 {
	total := manifest.Config.Size
	for _, layer := range manifest.Layers {
		total += layer.Size
	}
	return total
}
