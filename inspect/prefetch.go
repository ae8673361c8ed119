package inspect

import (
	"bufio"
	"context"
	"fmt"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A Prefetched is an entry of the prefetch table. Its fields are those that
// nydus-image inspect gives.
type Prefetched struct {
	Inode uint64 `json:"inode"`
	// Path holds all paths of the inode; none where the table names what is not in
	// the tree.
	Path       []string `json:"path"`
	PathBase64 [][]byte `json:"path_base64,omitempty"` // of all paths, where one is not UTF-8
}

// prefetch gives the prefetch table, as [Prefetched] values.
func prefetch(ctx context.Context, s *Session, _ *Call) (Answer, error) {
	numbers, err := s.tree.Prefetch()
	if err != nil {
		return nil, err
	}
	paths := make(map[uint64][]string, len(numbers))
	for _, n := range numbers {
		paths[n] = nil
	}
	if len(numbers) > 0 {
		err = s.tree.WalkContext(ctx, func(name string, i rafs.Inode) error {
			if known, ok := paths[i.Number]; ok {
				paths[i.Number] = append(known, absolute(name))
			}
			return nil
		})
	}
	if err != nil {
		return nil, err
	}
	all := make([]Prefetched, len(numbers))
	for i, n := range numbers {
		all[i] = Prefetched{Inode: n, Path: paths[n], PathBase64: allBytesOf(paths[n])}
		if all[i].Path == nil {
			all[i].Path = []string{}
		}
	}
	return list(all, func(w *bufio.Writer, p Prefetched) {
		fmt.Fprintf(w, "%d", p.Inode)
		for _, name := range p.Path {
			fmt.Fprintf(w, "\t%s", Escape(name))
		}
		w.WriteByte('\n')
	}), nil
}

// allBytesOf is bytesOf for a list: all or nil.
func allBytesOf(all []string) [][]byte {
	for _, s := range all {
		if bytesOf(s) == nil {
			continue
		}
		var raw [][]byte
		for _, s := range all {
			raw = append(raw, []byte(s))
		}
		return raw
	}
	return nil
}
