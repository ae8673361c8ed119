package nydusmount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"syscall"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// mounted is a [source]: the folder at which nydusd shows a tree.
type mounted struct {
	daemon *Daemon
	root   *os.Root
	blobs  []rafs.Blob
}

func openMounted(d *Daemon, tree *rafs.Tree) (*mounted, error) {
	root, err := os.OpenRoot(d.MountPoint)
	if err != nil {
		return nil, fmt.Errorf("open the mount: %w", d.cause(err))
	}
	d.onClose(root.Close)
	return &mounted{daemon: d, root: root, blobs: tree.Blobs()}, nil
}

func (m *mounted) open(name string, inode rafs.Inode) File {
	return &mountedFile{mount: m, name: name, inode: inode}
}

// load does nothing: nydusd fetches what is read.
func (m *mounted) load(context.Context, []rafs.Chunk) (func(), error) { return func() {}, nil }

func (m *mounted) expect([]rafs.Chunk) func() { return func() {} }

func (m *mounted) blobID(index int) string { return m.blobs[index].ID }

// A mountedFile is a file that nydusd shows. It is opened by the first read: an
// analyzer that only asks for its size costs nothing, and what goes wrong is an
// error of a read. Only ReadAt may be called from several goroutines at once.
type mountedFile struct {
	mount *mounted
	name  string
	inode rafs.Inode

	once sync.Once
	file *os.File
	err  error
}

func (f *mountedFile) opened() (*os.File, error) {
	f.once.Do(func() {
		if f.err = f.withoutHoles(); f.err != nil {
			return
		}
		// A FIFO where a file should be must not block.
		f.file, f.err = f.mount.root.OpenFile(f.name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if f.err == nil {
			f.err = f.check()
		}
		f.err = f.mount.daemon.cause(f.err)
	})
	return f.file, f.err
}

// withoutHoles refuses a file of which the chunks do not cover the end, as RAFS v5 may say:
// nydusd 2.2 knows no zeros (rafsv5_alloc_bio_vecs), and its answer is too short.
func (f *mountedFile) withoutHoles() error {
	chunks, err := f.inode.Chunks()
	if err != nil {
		return fmt.Errorf("read %s through nydusd: %w", f.name, err)
	}
	var end int64
	if n := len(chunks); n > 0 {
		end = chunks[n-1].FileOffset + int64(chunks[n-1].UncompressedSize)
	}
	if end != f.inode.Size {
		return fmt.Errorf("read %s through nydusd: it has a hole from byte %d on, which nydusd does not show: %w", f.name, end, rafs.ErrUnsupported)
	}
	return nil
}

// check compares what nydusd shows with what the bootstrap says.
func (f *mountedFile) check() error {
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() != f.inode.Size {
		return fmt.Errorf("nydusd shows %s as %v of %d bytes, the bootstrap as a file of %d", f.name, info.Mode().Type(), info.Size(), f.inode.Size)
	}
	return nil
}

func (f *mountedFile) Read(p []byte) (int, error) {
	file, err := f.opened()
	if err != nil {
		return 0, err
	}
	n, err := file.Read(p)
	if err == io.EOF {
		var at int64
		if at, err = file.Seek(0, io.SeekCurrent); err == nil {
			err = f.ended(at)
		}
	}
	return n, f.mount.daemon.cause(err)
}

func (f *mountedFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read %s at %d: %w", f.name, off, rafs.ErrOffset)
	}
	file, err := f.opened()
	if err != nil {
		return 0, err
	}
	n, err := file.ReadAt(p, off)
	if err == io.EOF {
		err = f.ended(off + int64(n))
	}
	return n, f.mount.daemon.cause(err)
}

// ended is the error of a read that came to nydusd's end of the file. The kernel may
// take a short answer for that, as if the rest were not there.
func (f *mountedFile) ended(at int64) error {
	if at >= f.inode.Size {
		return io.EOF
	}
	return fmt.Errorf("read %s: nydusd shows %d bytes of %d: %w", f.name, at, f.inode.Size, io.ErrUnexpectedEOF)
}

func (f *mountedFile) Seek(offset int64, whence int) (int64, error) {
	file, err := f.opened()
	if err != nil {
		return 0, err
	}
	at, err := file.Seek(offset, whence)
	if errors.Is(err, syscall.EINVAL) {
		return at, fmt.Errorf("seek in %s: %w: %w", f.name, rafs.ErrOffset, err)
	}
	return at, f.mount.daemon.cause(err)
}

func (f *mountedFile) Stat() (fs.FileInfo, error) { return f.inode.FileInfo(path.Base(f.name)), nil }

func (f *mountedFile) Close() error {
	f.once.Do(func() { f.err = fs.ErrClosed })
	if f.file == nil {
		if errors.Is(f.err, fs.ErrClosed) {
			return nil
		}
		return f.err
	}
	return f.file.Close()
}
