package inspect

import (
	"bufio"
	"context"
	"fmt"
	"strconv"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// An InodeCheck says what an inode is and whether it stands on its own.
type InodeCheck struct {
	Node
	// Paths are all paths of the inode; [Node] has the first.
	Paths []Path `json:"paths"`
	// Chunks is how many the file has, SharedChunks how many of them other inodes
	// have, too.
	Chunks       int `json:"chunks"`
	SharedChunks int `json:"shared_chunks"`
	// Alone is true of an inode with one name and no shared chunk.
	Alone bool `json:"alone"`
}

// icheck gives an [InodeCheck].
func icheck(ctx context.Context, s *Session, c *Call) (Answer, error) {
	number, err := strconv.ParseUint(c.args[0], 0, 64)
	if err != nil {
		return nil, c.wrong("%q is no number of an inode", c.args[0])
	}
	var a *InodeCheck
	var chunks []rafs.Chunk
	err = s.tree.WalkContext(ctx, func(name string, i rafs.Inode) error {
		switch {
		case i.Number != number:
			return nil
		case a != nil:
			a.Paths = append(a.Paths, newPath(name))
			return nil
		}
		n, err := newNode(name, i)
		if err == nil {
			chunks, err = i.Chunks()
		}
		a = &InodeCheck{Node: n, Paths: []Path{newPath(name)}}
		return err
	})
	if err != nil {
		return nil, err
	}
	if a == nil {
		return nil, &UsageError{fmt.Errorf("no path leads to an inode %d", number), hintStat}
	}
	a.Chunks = len(chunks)
	if a.SharedChunks, err = s.shared(ctx, number, chunks); err != nil {
		return nil, err
	}
	a.Alone = len(a.Paths) == 1 && a.SharedChunks == 0
	return a, nil
}

// shared counts the chunks that other inodes have, too.
func (s *Session) shared(ctx context.Context, number uint64, chunks []rafs.Chunk) (int, error) {
	if len(chunks) == 0 {
		return 0, nil
	}
	met := make(map[chunkKey]bool, len(chunks))
	key := func(c *rafs.Chunk) chunkKey { return chunkKey{c.Blob, c.Index, c.Digest} }
	for k := range chunks {
		met[key(&chunks[k])] = false
	}
	err := s.tree.WalkContext(ctx, func(name string, i rafs.Inode) error {
		if i.Number == number {
			return nil
		}
		others, err := i.Chunks()
		if err != nil {
			return fmt.Errorf("%s: %w", absolute(name), err)
		}
		for k := range others {
			if _, ok := met[key(&others[k])]; ok {
				met[key(&others[k])] = true
			}
		}
		return nil
	})
	count := 0
	for k := range chunks {
		if met[key(&chunks[k])] {
			count++
		}
	}
	return count, err
}

// Text implements [Answer].
func (a *InodeCheck) Text(w *bufio.Writer) error {
	for _, p := range a.Paths {
		fmt.Fprintf(w, "%s\n", Escape(p.Path))
	}
	fmt.Fprintf(w, "inode %d: %s, mode %s, owner %d:%d, %d bytes, %s\n", a.Inode, a.Type, a.Mode, a.UID, a.GID, a.Size, timeExact(a.inode))
	if a.Alone {
		fmt.Fprintf(w, "stands on its own: one name, none of its %d chunks is another file's, too\n", a.Chunks)
	} else {
		fmt.Fprintf(w, "does not stand on its own: %d names, %d of its %d chunks are other files', too\n", len(a.Paths), a.SharedChunks, a.Chunks)
	}
	return nil
}
