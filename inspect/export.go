package inspect

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// An Export says what went into a tar archive.
type Export struct {
	Path
	File    string `json:"file"`
	Entries int    `json:"entries"`
	Bytes   int64  `json:"bytes"` // of files' contents
	// Sockets are the paths that were left out: tar has no sockets.
	Sockets []Path `json:"sockets"`
}

// export writes a tree as a tar archive and gives an [Export]; with "-o -" the
// archive is the answer itself.
func export(ctx context.Context, s *Session, c *Call) (Answer, error) {
	if c.output == "" {
		return nil, c.wrong("-o FILE is missing")
	}
	tree, err := s.treeOf(ctx, c.layer)
	if err != nil {
		return nil, err
	}
	top, _, err := s.find(tree, c.args[0], true)
	if err != nil {
		return nil, err
	}
	needed, size := blobSet{}, s.outputSize()
	err = walkBelow(ctx, tree, top, func(name string, i rafs.Inode) error {
		chunks, err := i.Chunks()
		if err != nil {
			return fmt.Errorf("%s: %w", absolute(name), err)
		}
		needed.add(chunks, 0, i.Size)
		if !i.IsRegular() {
			return nil
		}
		return size.add(name, i.Size)
	})
	if err != nil {
		return nil, err
	}
	view, err := s.view(ctx, c.layer, tree, needed)
	if err != nil {
		return nil, err
	}
	e := &exporter{tree: tree, view: view, top: top, names: make(map[linked]string)}
	e.Path, e.File, e.Sockets = newPath(top), c.output, []Path{}
	if c.output == "-" {
		return tarStream{func(w io.Writer) error { return e.write(ctx, w) }}, nil
	}
	if err := e.writeFile(ctx, c.output); err != nil {
		return nil, err
	}
	return &e.Export, nil
}

// An exporter writes what is below a path into a tar archive: in the PAX format,
// with all that RAFS keeps of a file.
type exporter struct {
	Export
	tree *rafs.Tree
	view *nydusmount.View // nil where there is no data
	top  string
	tar  *tar.Writer
	// names are those that the archive has for inodes with several names. Only
	// source uses it.
	names map[linked]string
}

// linked identifies an inode. A builder gives a file the number of a pipe that it
// was linked to: these are two.
type linked struct {
	number uint64
	mode   uint32
}

// writeFile makes the file without its name first: what is there under that is whole.
func (e *exporter) writeFile(ctx context.Context, name string) error {
	file, err := createWhole(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(file, 1<<20)
	if err = e.write(ctx, w); err == nil {
		err = w.Flush()
	}
	if err != nil {
		file.discard()
		return err
	}
	return file.publish()
}

func (e *exporter) write(ctx context.Context, w io.Writer) error {
	e.tar = tar.NewWriter(w)
	each := func(yield func(source) error) error {
		return walkBelow(ctx, e.tree, e.top, func(name string, i rafs.Inode) error {
			return yield(e.source(name, i))
		})
	}
	if err := copyAll(ctx, e.view, each, e.begin); err != nil {
		return err
	}
	return e.tar.Close()
}

// source says what is copied of an inode: the later names of a file are links to
// the first. It runs ahead of begin, in a goroutine of its own.
func (e *exporter) source(name string, i rafs.Inode) source {
	if i.Links > 1 && !i.IsDir() && typeOf(i).letter != 's' {
		key := linked{i.Number, i.Mode}
		if first, ok := e.names[key]; ok {
			return source{path: name, inode: i, link: first}
		}
		e.names[key] = e.name(name, i)
	}
	return whole(name, i)
}

// begin writes a header.
func (e *exporter) begin(s source) (io.Writer, error) {
	header, err := e.header(s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", absolute(s.path), err)
	}
	if header == nil {
		e.Sockets = append(e.Sockets, newPath(s.path))
		return io.Discard, nil
	}
	if err := e.tar.WriteHeader(header); err != nil {
		return nil, fmt.Errorf("%s: %w", absolute(s.path), err)
	}
	e.Entries++
	e.Bytes += header.Size
	return e.tar, nil
}

// name is what the archive calls a path: relative to the exported directory, or
// the exported file's own name.
func (e *exporter) name(full string, i rafs.Inode) string {
	switch {
	case full == e.top && i.IsDir():
		return "./"
	case full == e.top:
		return path.Base(full)
	case e.top != root:
		full = strings.TrimPrefix(full, e.top+"/")
	}
	if i.IsDir() {
		full += "/"
	}
	return "./" + full
}

// header describes an inode; nil for a socket.
func (e *exporter) header(s source) (*tar.Header, error) {
	i := s.inode
	h := &tar.Header{
		Name: e.name(s.path, i), Mode: int64(i.Mode & 0o7777), Uid: int(i.UID), Gid: int(i.GID), ModTime: i.Modified(), Format: tar.FormatPAX,
	}
	if s.link != "" {
		h.Typeflag, h.Linkname = tar.TypeLink, s.link
		return h, nil
	}
	switch typeOf(i).letter {
	case '-':
		h.Typeflag, h.Size = tar.TypeReg, i.Size
	case 'd':
		h.Typeflag = tar.TypeDir
	case 'l':
		target, err := i.Readlink()
		if err != nil {
			return nil, err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case 'c':
		h.Typeflag = tar.TypeChar
	case 'b':
		h.Typeflag = tar.TypeBlock
	case 'p':
		h.Typeflag = tar.TypeFifo
	default:
		return nil, nil
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		major, minor := device(i.Rdev)
		h.Devmajor, h.Devminor = int64(major), int64(minor)
	}
	xattrs, err := i.Xattrs()
	if err != nil {
		return nil, err
	}
	for name, value := range xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string)
		}
		h.PAXRecords["SCHILY.xattr."+name] = string(value)
	}
	return h, nil
}

// Text implements [Answer].
func (e *Export) Text(w *bufio.Writer) error {
	fmt.Fprintf(w, "%s: %d entries, %d bytes of files\n", Escape(e.File), e.Entries, e.Bytes)
	for _, p := range e.Sockets {
		fmt.Fprintf(w, "left out, a socket: %s\n", Escape(p.Path))
	}
	return nil
}

// A tarStream is an archive that is written as the answer.
type tarStream struct{ write func(io.Writer) error }

// Text implements [Answer].
func (t tarStream) Text(w *bufio.Writer) error { return t.write(w) }

func (t tarStream) json(*bufio.Writer) error {
	return errors.New("an archive is no JSON document: give -o a file")
}
