package inspect

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// find lists what lies below a path. The rows are [Node] values.
func find(ctx context.Context, s *Session, c *Call) (Answer, error) {
	matches, err := newPattern(c)
	if err != nil {
		return nil, err
	}
	tree, err := s.treeOf(ctx, c.layer)
	if err != nil {
		return nil, err
	}
	top, _, err := s.find(tree, c.arg(0, "."), false)
	if err != nil {
		return nil, err
	}
	return rows[Node]{
		each: func(yield func(Node) error) error {
			return walkBelow(ctx, tree, top, func(name string, i rafs.Inode) error {
				if !matches.match(name, i) {
					return nil
				}
				n, err := newNode(name, i)
				if err != nil {
					return err
				}
				return yield(n)
			})
		},
		text: func(w *bufio.Writer, n Node) {
			w.WriteString(Escape(n.Path))
			w.WriteByte('\n')
		},
	}, nil
}

// A pattern is what find looks for.
type pattern struct {
	name     string // as path.Match has it, of the last element; "" is any
	types    string // letters of types; "" is any
	sized    bool   // whether the size counts
	min, max int64  // bytes, both included
}

func newPattern(c *Call) (pattern, error) {
	p := pattern{name: c.name, types: strings.ReplaceAll(strings.ReplaceAll(c.types, ",", ""), "f", "-")}
	if _, err := path.Match(p.name, ""); err != nil {
		return p, c.wrong("--name %q is no pattern: %w", c.name, err)
	}
	for _, letter := range p.types {
		if !strings.ContainsRune("-dlcbps", letter) {
			return p, c.wrong("--type %q: the types are f, d, l, c, b, p, s", c.types)
		}
	}
	if c.size == "" {
		return p, nil
	}
	p.sized, p.max = true, math.MaxInt64
	number := strings.TrimLeft(c.size, "+-")
	n, err := parseSize(number)
	switch {
	case err != nil || len(c.size)-len(number) > 1:
		return p, c.wrong("--size %q is no size such as 4096, +1M (more than) or -64k (less than)", c.size)
	case c.size[0] == '+':
		p.min = n + 1
	case c.size[0] == '-':
		p.max = n - 1
	default:
		p.min, p.max = n, n
	}
	return p, nil
}

// parseSize reads a number of bytes, or with k, M or G of 1024, 1024² or 1024³.
func parseSize(s string) (int64, error) {
	shift := 0
	if n := len(s) - 1; n > 0 {
		switch s[n] {
		case 'k', 'K':
			shift = 10
		case 'M':
			shift = 20
		case 'G':
			shift = 30
		}
	}
	if shift > 0 {
		s = s[:len(s)-1]
	}
	n, err := strconv.ParseUint(s, 10, 62)
	if err == nil && n > (math.MaxInt64-1)>>shift {
		err = fmt.Errorf("%s: %w", s, strconv.ErrRange)
	}
	return int64(n << shift), err
}

func (p pattern) match(name string, i rafs.Inode) bool {
	if p.types != "" && strings.IndexByte(p.types, typeOf(i).letter) < 0 {
		return false
	}
	if p.sized && (i.IsDir() || i.Size < p.min || i.Size > p.max) {
		return false
	}
	if p.name == "" {
		return true
	}
	base := name[strings.LastIndexByte(name, '/')+1:]
	if name == root {
		base = "/"
	}
	ok, _ := path.Match(p.name, base)
	return ok
}
