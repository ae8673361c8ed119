package rafs

import (
	"io/fs"
	"path"
)

// FS returns the tree as a filesystem that reads file data from data. With a
// nil reader, everything but file data can be read.
//
// It implements [fs.ReadDirFS], [fs.StatFS] and [fs.ReadLinkFS]. Open, Stat
// and ReadDir follow symbolic links, at most 40 in a path, and confined to the
// tree as by chroot. Paths need not be UTF-8. Devices, pipes and sockets open
// as empty files. Files are [*File].
//
// Unlike [Tree.Walk], walking it with [fs.WalkDir] may not end on a hostile v6
// bootstrap, whose directories may form a cycle. Where the bootstrap is not
// trusted, one Walk beforehand rules that out.
func (t *Tree) FS(data ChunkReader) fs.FS { return treeFS{tree: t, data: data} }

type treeFS struct {
	tree *Tree
	data ChunkReader
}

var (
	_ fs.ReadDirFS  = treeFS{}
	_ fs.StatFS     = treeFS{}
	_ fs.ReadLinkFS = treeFS{}
)

func (f treeFS) Open(name string) (fs.File, error) {
	inode, err := f.find("open", name, true)
	if err != nil {
		return nil, err
	}
	return inode.Open(name, f.data), nil
}

func (f treeFS) Stat(name string) (fs.FileInfo, error) {
	inode, err := f.find("stat", name, true)
	if err != nil {
		return nil, err
	}
	return inode.FileInfo(path.Base(name)), nil
}

func (f treeFS) Lstat(name string) (fs.FileInfo, error) {
	inode, err := f.find("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return inode.FileInfo(path.Base(name)), nil
}

func (f treeFS) ReadLink(name string) (string, error) {
	inode, err := f.find("readlink", name, false)
	if err != nil {
		return "", err
	}
	target, err := inode.Readlink()
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return target, nil
}

func (f treeFS) ReadDir(name string) ([]fs.DirEntry, error) {
	inode, err := f.find("readdir", name, true)
	if err != nil {
		return nil, err
	}
	entries, err := inode.dirEntries()
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	return entries, nil
}

func (f treeFS) find(op, name string, followLast bool) (Inode, error) {
	at, err := f.tree.resolve(name, followLast)
	if err != nil {
		return Inode{}, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return at.inode, nil
}

// dirEntries returns the children of a directory as io/fs has them.
func (i Inode) dirEntries() ([]fs.DirEntry, error) {
	entries, err := i.Entries()
	if err != nil {
		return nil, err
	}
	list := make([]fs.DirEntry, len(entries))
	for k, e := range entries {
		list[k] = fs.FileInfoToDirEntry(e.Inode.FileInfo(e.Name))
	}
	return list, nil
}
