package nydusimage

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxMetadata is what a metadata cache may take on disk: the bootstraps of some
	// hundred large images.
	maxMetadata = 1 << 30
	// prunedMetadata is what is left of one that took more, so that the next file
	// does not make it too large again.
	prunedMetadata = maxMetadata / 8 * 7

	// newPrefix begins the names of files that are being written.
	newPrefix = "new-"
	// unfinishedAge is how old such a file must be to count as left by a process that
	// was killed, where nothing else tells (see removeAbandoned): to write one takes seconds.
	unfinishedAge = time.Hour
)

// A MetadataCache keeps metadata of images in a folder of this machine, so that
// it is not fetched again: bootstraps, the tails of blobs, and whatever else its
// users store under a kind and a name of theirs. What is kept cannot be told
// from what was stored, or it is not given. Several processes may use one
// folder. The nil cache keeps nothing.
type MetadataCache struct {
	dir string

	mu     sync.Mutex
	looked bool  // at all that is in the folder
	room   int64 // that was left then, without what was stored since
}

// NewMetadataCache returns the cache in a folder, which need not exist yet.
func NewMetadataCache(dir string) *MetadataCache { return &MetadataCache{dir: dir} }

// Get returns what was stored under a kind and a name, nil if there is nothing.
func (m *MetadataCache) Get(kind, name string) []byte {
	if m == nil {
		return nil
	}
	path := m.path(kind, name)
	stored, err := os.ReadFile(path)
	if err != nil || len(stored) < sha256.Size {
		return nil
	}
	data := stored[sha256.Size:]
	if sum := sha256.Sum256(data); !bytes.Equal(sum[:], stored[:sha256.Size]) {
		_ = os.Remove(path) // a disk's fault, or an interrupted machine's
		return nil
	}
	now := time.Now() // what is used stays longest
	_ = os.Chtimes(path, now, now)
	return data
}

// Has says whether something is stored under a kind and a name, if not whether it
// is whole.
func (m *MetadataCache) Has(kind, name string) bool {
	if m == nil {
		return false
	}
	_, err := os.Stat(m.path(kind, name))
	return err == nil
}

// Remove forgets what is stored under a kind and a name.
func (m *MetadataCache) Remove(kind, name string) {
	if m != nil {
		_ = os.Remove(m.path(kind, name))
	}
}

// Put stores data. The file appears whole or not at all.
func (m *MetadataCache) Put(kind, name string, data []byte) error {
	if m == nil {
		return nil
	}
	if err := m.put(m.path(kind, name), data); err != nil {
		return fmt.Errorf("keep metadata in %s: %w", m.dir, err)
	}
	return nil
}

func (m *MetadataCache) put(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, release, err := createUnfinished(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer release()
	defer os.Remove(file.Name()) // nothing is there after the rename
	sum := sha256.Sum256(data)
	_, err = file.Write(sum[:])
	if err == nil {
		_, err = file.Write(data)
	}
	if err = cmp.Or(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	return m.prune(int64(sha256.Size + len(data)))
}

// path is safe for any name: names come from images.
func (m *MetadataCache) path(kind, name string) string {
	return filepath.Join(m.dir, kind, fmt.Sprintf("%x", sha256.Sum256([]byte(name))))
}

// prune, after so many bytes were stored, removes what a killed process left
// unfinished, and what was not used for longest if the rest is not within bounds. It looks
// at the folder for the first file of this process, and where there may be no room;
// what other processes store meanwhile, they count.
func (m *MetadataCache) prune(stored int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.room -= stored; m.looked && m.room >= 0 {
		return nil
	}
	type kept struct {
		path string
		size int64
		used time.Time
	}
	var files []kept
	var total int64
	err := filepath.WalkDir(m.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return nil // another process has removed it
		}
		if strings.HasPrefix(entry.Name(), newPrefix) {
			if time.Since(info.ModTime()) > unfinishedAge {
				_ = os.Remove(path)
			} else {
				removeAbandoned(path)
			}
			return nil
		}
		files = append(files, kept{path, info.Size(), info.ModTime()})
		total += info.Size()
		return nil
	})
	if err != nil {
		return err
	}
	m.looked, m.room = true, maxMetadata-total
	if m.room >= 0 {
		return nil
	}
	slices.SortFunc(files, func(a, b kept) int { return a.used.Compare(b.used) })
	for _, f := range files {
		if total <= prunedMetadata {
			break
		}
		if err := os.Remove(f.path); err != nil && !os.IsNotExist(err) {
			return err
		}
		total -= f.size
	}
	m.room = maxMetadata - total
	return nil
}
