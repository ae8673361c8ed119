package artifact

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"sync/atomic"

	"github.com/aquasecurity/trivy/pkg/fanal/analyzer"
	"github.com/aquasecurity/trivy/pkg/mapfs"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const (
	// smallFile is the size up to which a file that analyzers read together with
	// others stays in memory: to create a file on disk costs more than to write it.
	smallFile = 32 << 10
	// maxHeld bounds what stays in memory of such files, in bytes.
	maxHeld = 8 << 20
)

// A sink collects what analyzers find in the files of one slice: in the shown
// ones, or in the hidden ones, which have a sink of their own because less of
// what they tell is believed.
type sink struct {
	result    *analyzer.AnalysisResult
	composite *analyzer.CompositeFS
	disabled  []analyzer.Type
	held      *atomic.Int64 // bytes, of all sinks of a scan
	disk      *rafs.Budget  // what the copies of a scan may take of it
	// look is asked about each file that is put, with what opens the copy.
	look func(name string, to []analyzer.Type, open func() (io.ReadSeekCloser, error)) error

	mu sync.Mutex // guards composite
}

func (a *Artifact) newSink(disabled []analyzer.Type) (*sink, error) {
	composite, err := a.group.PostAnalyzerFS()
	if err != nil {
		return nil, fmt.Errorf("make a folder for files that analyzers read together: %w", err)
	}
	return &sink{result: analyzer.NewAnalysisResult(), composite: composite, disabled: disabled, held: &a.held, disk: a.image.Limits().Temp, look: a.lookFor}, nil
}

// put gives a file to the analyzers that read files together: a copy in memory or,
// as Trivy does it, on disk.
func (s *sink) put(f *file, to []analyzer.Type, open analyzer.Opener) error {
	size := f.inode.Size
	if size > smallFile || s.held.Add(size) > maxHeld {
		if err := s.disk.Take("copies of files for the analyzers that read files together", uint64(size)); err != nil {
			return err
		}
		copied, err := s.composite.CopyFileToTemp(open, nil)
		if err != nil {
			return err
		}
		if err := s.look(f.path, to, func() (io.ReadSeekCloser, error) { return os.Open(copied) }); err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.composite.CreateLink(to, "", f.path, copied)
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return err
	}
	if err := s.look(f.path, to, func() (io.ReadSeekCloser, error) { return inMemory{bytes.NewReader(data)}, nil }); err != nil {
		return err
	}
	for _, t := range to {
		if err := writeVirtual(s.files(t), f.path, data); err != nil {
			return err
		}
	}
	return nil
}

// files are those that an analyzer which reads files together is given.
func (s *sink) files(of analyzer.Type) *mapfs.FS {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, ok := s.composite.Get(of)
	if !ok {
		files = mapfs.New()
		s.composite.Set(of, files)
	}
	return files
}

// inMemory is an open copy of a file that is in memory.
type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }

// writeVirtual puts a file into memory.
func writeVirtual(files *mapfs.FS, name string, data []byte) error {
	if err := files.MkdirAll(path.Dir(name), fs.ModePerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return files.WriteVirtualFile(name, data, copyMode)
}

// copyMode is that of Trivy's copies on disk.
const copyMode = 0o600
