package consistency

import (
	"context"
	"fmt"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A plan says how the content of an OCI image's files is hashed while it streams
// by, so that it can be compared with a Nydus image's digests afterwards.
type plan struct {
	// uniform is how the Nydus image cuts most files; nil where content is not
	// compared.
	uniform *cut
	// own are the cuts of files that it cuts otherwise, by path. A file of another
	// size or path is cut uniformly.
	own map[string]ownCut
	// sizes are those of its files: what has no such size differs anyway. nil is
	// any size.
	sizes map[int64]struct{}
}

type ownCut struct {
	size int64
	cut  *cut
}

// newPlan plans for a Nydus tree. If served is true, another program serves the
// files, which may be of other sizes.
func newPlan(ctx context.Context, tree *rafs.Tree, depth Depth, served bool) (*plan, error) {
	if depth == DepthNone {
		return &plan{}, nil
	}
	super := tree.Superblock()
	p := &plan{uniform: &cut{size: int64(super.ChunkSize), digester: super.Digester}}
	if served {
		return p, nil
	}
	p.own, p.sizes = make(map[string]ownCut), make(map[int64]struct{})
	return p, tree.WalkContext(ctx, func(path string, i rafs.Inode) error {
		if !i.IsRegular() {
			return nil
		}
		p.sizes[i.Size] = struct{}{}
		s, err := (&treeContent{i, tree.Blobs()}).sums(p.uniform)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if s != nil && s.cut != p.uniform {
			p.own[path] = ownCut{i.Size, s.cut}
		}
		return nil
	})
}

// cut returns how a file is cut, nil if it need not be hashed.
func (p *plan) cut(path string, size int64) *cut {
	if p.uniform == nil {
		return nil
	}
	if own, ok := p.own[path]; ok && own.size == size {
		return own.cut
	}
	if _, ok := p.sizes[size]; !ok && p.sizes != nil {
		return nil
	}
	return p.uniform
}
