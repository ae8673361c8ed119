package nydusimage

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// maxArchiveFiles bounds the memory that an archive's table takes.
const maxArchiveFiles = 1 << 20

// An archive is [layoutFiles] in a plain tar archive: where in it each file's
// bytes lie.
type archive map[string]extent

// openArchive reads the headers of an archive and skips the rest.
func openArchive(name string) (archive, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := refuseCompressed(file); err != nil {
		return nil, err
	}
	a := make(archive)
	for files := tar.NewReader(file); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return nil, fmt.Errorf("it is no tar archive of an OCI layout: %w: %w", ErrInvalid, err)
		}
		if header.Typeflag != tar.TypeReg || isSparse(header) {
			continue
		}
		// The reader takes no more than the header off the file.
		off, err := file.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if len(a) == maxArchiveFiles {
			return nil, fmt.Errorf("it has over %d files: %w", maxArchiveFiles, ErrInvalid)
		}
		a[path.Clean(header.Name)] = extent{path: name, off: off, size: header.Size}
	}
}

// isSparse says whether a file is stored without its holes, so that its bytes
// do not lie one after the other.
func isSparse(header *tar.Header) bool {
	for key := range header.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (a archive) locate(name string) (extent, error) {
	where, ok := a[name]
	if !ok {
		return extent{}, fmt.Errorf("%s is not in the archive: %w", name, fs.ErrNotExist)
	}
	return where, nil
}

// refuseCompressed refuses archives of which ranges cannot be read, and leaves
// the file at its beginning.
func refuseCompressed(file *os.File) error {
	magic := make([]byte, 4)
	if _, err := file.ReadAt(magic, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for unpack, prefix := range map[string]string{"gunzip": "\x1f\x8b", "unzstd": "\x28\xb5\x2f\xfd", "unxz": "\xfd7zX", "bunzip2": "BZh"} {
		if bytes.HasPrefix(magic, []byte(prefix)) {
			return fmt.Errorf("compressed archives are not read, unpack it with %s: %w", unpack, ErrInvalid)
		}
	}
	return nil
}
