package testimage

import (
	"archive/tar"
	"fmt"
	"io"
	"path"
	"strings"
)

// WithParents returns the layer with all parents of a file before it: the directory's own entry, if the layer has one, else
// one with mode 0755 that is root's. (nydus-image 2.2.0 makes v5 bootstraps that it refuses itself of other layers.)
func (l Layer) WithParents() Layer {
	own := map[string]File{}
	for _, f := range l {
		if _, ok := own[f.Path]; f.Type == Directory && !ok {
			own[f.Path] = f
		}
	}
	have, early := map[string]bool{".": true}, map[string]bool{}
	out := make(Layer, 0, len(l))
	var add func(dir string)
	add = func(dir string) {
		if have[dir] {
			return
		}
		have[dir] = true
		add(path.Dir(dir))
		f, ok := own[dir]
		if !ok {
			f = Dir(dir)
		}
		early[dir] = ok
		out = append(out, f)
	}
	for _, f := range l {
		add(path.Dir(f.Path))
		if f.Type == Directory {
			if early[f.Path] {
				early[f.Path] = false
				continue
			}
			have[f.Path] = true
		}
		out = append(out, f)
	}
	return out
}

// Join returns one layer with the files of all; of directories that several hold, the first stays.
func Join(layers ...Layer) Layer {
	var out Layer
	seen := map[string]bool{}
	for _, l := range layers {
		for _, f := range l {
			if f.Type == Directory {
				if seen[f.Path] {
					continue
				}
				seen[f.Path] = true
			}
			out = append(out, f)
		}
	}
	return out
}

// writeTar writes the layer as a PAX tar whose bytes depend on nothing but the layer.
func (l Layer) writeTar(w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, f := range l {
		if err := tw.WriteHeader(f.header()); err != nil {
			return fmt.Errorf("write the tar header of %q: %w", f.Path, err)
		}
		if f.Type != Regular {
			continue
		}
		if _, err := tw.Write(f.Data); err != nil {
			return fmt.Errorf("write the data of %q to the tar: %w", f.Path, err)
		}
	}
	return tw.Close()
}

func (f File) header() *tar.Header {
	h := &tar.Header{
		Typeflag: byte(f.Type),
		Name:     f.Path,
		Linkname: f.Link,
		Mode:     f.Mode,
		Uid:      f.UID,
		Gid:      f.GID,
		ModTime:  f.modTime(),
		Devmajor: f.Major,
		Devminor: f.Minor,
		Format:   tar.FormatPAX,
	}
	switch f.Type {
	case Regular:
		h.Size = int64(len(f.Data))
	case Directory:
		h.Name += "/"
	}
	for name, value := range f.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+name] = value
	}
	return h
}

// readTar reads a tar into a layer. The root directory's own entry is left out, and so is everything that a layer
// has no room for (sockets, sparse maps).
func readTar(r io.Reader) (Layer, error) {
	var out Layer
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read tar entry %d: %w", len(out), err)
		}
		f := File{
			Path:    strings.TrimPrefix(path.Clean("/"+h.Name), "/"),
			Type:    Type(h.Typeflag),
			Mode:    h.Mode & 0o7777,
			UID:     h.Uid,
			GID:     h.Gid,
			ModTime: h.ModTime.UTC(),
			Link:    h.Linkname,
			Major:   h.Devmajor,
			Minor:   h.Devminor,
		}
		if f.Path == "" {
			continue
		}
		if f.Type == HardLink {
			f.Link = strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")
		}
		for key, value := range h.PAXRecords {
			if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
				f = f.WithXattr(name, value)
			}
		}
		if f.Type == Regular {
			f.Data = make([]byte, h.Size)
			if _, err = io.ReadFull(tr, f.Data); err != nil {
				return nil, fmt.Errorf("read %q from the tar: %w", f.Path, err)
			}
		}
		out = append(out, f)
	}
}
