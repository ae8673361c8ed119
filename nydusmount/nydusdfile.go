package nydusmount

import (
	"context"
	"errors"
	"fmt"
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
		// A FIFO where a file should be must not block.
		f.file, f.err = f.mount.root.OpenFile(f.name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if f.err == nil {
			f.err = f.check()
		}
		f.err = f.mount.daemon.cause(f.err)
	})
	return f.file, f.err
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
	return n, f.mount.daemon.cause(err)
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
