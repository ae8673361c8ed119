// Package nydusmount gives a Nydus image as opened trees: the merged tree of
// the whole image, and the tree of each layer as its blob carries it.
//
// [Native] opens the image in this process. No tree is read ahead; a file's
// bytes are fetched when it is read, or when [View.Load] is told to load them.
// [Nydusd] lets the real nydusd serve the files' bytes over FUSE.
package nydusmount

import (
	"context"
	"io"
	"io/fs"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A File is an opened file of an image.
type File interface {
	io.ReadSeeker
	io.ReaderAt
	io.Closer
	Stat() (fs.FileInfo, error)
}

// A View is a tree and the data of its files.
type View struct {
	*rafs.Tree
	// Data gives chunks. It is nil where another process gives the files' bytes.
	Data rafs.ChunkReader
	// Vouched says whether the manifest vouches for the tree, and so for the digests
	// with which its files' chunks are compared.
	Vouched bool

	source source
}

// A source is where the bytes of a tree's files come from.
type source interface {
	// open gives a file; what is wrong with it may show when it is read.
	open(name string, inode rafs.Inode) File
	// load gets chunks before they are read. release must be called also after
	// an error.
	load(ctx context.Context, chunks []rafs.Chunk) (release func(), err error)
	expect(chunks []rafs.Chunk) (done func())
	// blobID is the ID of the blob at an index of the tree's blob table.
	blobID(index int) string
}

// Open opens a file of the tree by its path, which its errors use, too. It costs
// nothing until the file is read.
func (v *View) Open(name string, inode rafs.Inode) File { return v.source.open(name, inode) }

// Load gets chunks, in few requests, and holds them until release is called;
// release must be called also after an error. Where another process reads the
// image it does nothing.
func (v *View) Load(ctx context.Context, chunks []rafs.Chunk) (release func(), err error) {
	return v.source.load(ctx, chunks)
}

// Expect says that chunks will be loaded or read until done is called, so that what is
// read for some of them is rather kept for others.
func (v *View) Expect(chunks []rafs.Chunk) (done func()) { return v.source.expect(chunks) }

// BlobID returns the ID of the blob with the given index in the tree's blob
// table.
func (v *View) BlobID(index int) string { return v.source.blobID(index) }

// A Verification says how far the files' bytes are verified. It is part of the
// key under which results are cached, so that none is taken for a better one.
type Verification string

const (
	// Verified: each chunk is compared with its digest, in this process.
	Verified Verification = "verified"
	// VerifiedWhole: beside that, each blob was read whole and compared with the digest
	// by which the manifest names it ([WholeBlobs]).
	VerifiedWhole Verification = "verified, and all blobs whole"
	// VerifiedByNydusd: nydusd compares each chunk with its digest.
	VerifiedByNydusd Verification = "verified by nydusd"
	// Unvouched: each chunk is compared with a digest for which the manifest does not
	// vouch. The user allowed it ([AllowUnverified]).
	Unvouched Verification = "not verified: the manifest does not vouch for the digests of the chunks"
	// NotVerified: nobody compares the bytes with a digest.
	NotVerified Verification = "not verified: nydusd does not verify RAFS v6 data"
	// NotVerifiedGzip: nydusd takes gzip for that of old stargz layers, and compares
	// nothing (BlobInfo::is_legacy_stargz).
	NotVerifiedGzip Verification = "not verified: nydusd does not verify data compressed with gzip"
	// NoDigests: there are none to compare with, only checksums at most.
	NoDigests Verification = "not verified: the image has no digests of data in an external backend"
)

// A Mount is an image with its trees open. It must be closed.
type Mount struct {
	Image *nydusimage.Image
	// Merged is the tree of the whole image, vouched for by the manifest.
	Merged *View
	// Layers are the trees of the image's layers, bottom first. The manifest does
	// not always vouch for them, see [View.Vouched]. nil stands for a layer whose blob carries none.
	Layers []*View
	// Ordered says whether Image.Layers is known to be in the order in which the
	// layers were put onto each other, so that the image's history can tell them.
	Ordered bool
	// NoLayers says why Layers holds nil only, where that is not for the blobs.
	NoLayers string
	// Warnings are what a person should know of the image, a sentence each.
	Warnings []string
	// Verified says how far the bytes of Merged's files are verified.
	Verified Verification
	// WholeBlobs and WholeBytes count the blobs that were compared with their digests
	// as a whole, and their bytes ([WholeBlobs]).
	WholeBlobs, WholeBytes int64
	// Referred is how many bytes the OCI layers have in which data of the image lies.
	// They are not among the layers of its manifest.
	Referred int64

	layers []nydusimage.Layer // see ImageLayers
	stores []bool             // which of the layers are stores; nil with nydusd
	tails  []int64            // where they begin, by layer; nil with nydusd
	reader *blob.Reader       // nil with nydusd
	daemon *Daemon            // nil without nydusd
}

// Stats says what reading the image in this process has cost so far.
func (m *Mount) Stats() blob.Stats {
	if m.reader == nil {
		return blob.Stats{}
	}
	return m.reader.Stats()
}

// Traffic says what nydusd has read of the image's backend so far; zero where
// there is no nydusd.
func (m *Mount) Traffic(ctx context.Context) (requests, bytes int64) {
	if m.daemon == nil {
		return 0, 0
	}
	return m.daemon.Traffic(ctx)
}

// Doubt says that what the layers' trees say contradicts the image. They are read
// again by the next mount, not taken from the metadata cache.
func (m *Mount) Doubt() { forgetTails(m.Image, m.tails) }

// Forget lets go of the trees, and of the data in memory, once all has been read.
func (m *Mount) Forget() {
	m.Merged, m.Layers = nil, nil
	if m.reader != nil {
		m.reader.Forget()
	}
}

// Close ends the mount, and with it the reads of its files.
func (m *Mount) Close() error {
	if m.daemon == nil {
		return nil
	}
	return m.daemon.Close()
}

// LayerTrees says whether all layers carry a tree of their own.
func (m *Mount) LayerTrees() bool {
	for _, l := range m.Layers {
		if l == nil {
			return false
		}
	}
	return true
}
