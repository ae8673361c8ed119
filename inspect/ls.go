package inspect

import (
	"bufio"
	"context"
	"fmt"
	"path"
	"strconv"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// ls lists a directory, or shows what else is under the path. The rows are
// [Node] values.
func ls(ctx context.Context, s *Session, c *Call) (Answer, error) {
	tree, err := s.treeOf(ctx, c.layer)
	if err != nil {
		return nil, err
	}
	name, inode, err := s.find(tree, c.arg(0, "."), true)
	if err != nil {
		return nil, err
	}
	entries := []rafs.Entry{{Name: path.Base(name), Inode: inode}}
	directory := path.Dir(name)
	if inode.IsDir() {
		directory = name
		if entries, err = inode.Entries(); err != nil {
			return nil, fmt.Errorf("%s: %w", absolute(name), err)
		}
	}
	columns := widths(entries)
	return rows[Node]{
		each: func(yield func(Node) error) error {
			for _, e := range entries {
				n, err := newNode(path.Join(directory, e.Name), e.Inode)
				if err == nil {
					err = yield(n)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
		text: func(w *bufio.Writer, n Node) {
			columns.write(w, n)
		},
	}, nil
}

// listing is how wide the columns of ls are.
type listing struct{ links, owner, size int }

func widths(entries []rafs.Entry) listing {
	var l listing
	for _, e := range entries {
		l.links = max(l.links, digits(uint64(e.Inode.Links)))
		l.owner = max(l.owner, digits(uint64(e.Inode.UID))+1+digits(uint64(e.Inode.GID)))
		l.size = max(l.size, len(sizeText(e.Inode)))
	}
	return l
}

func (l listing) write(w *bufio.Writer, n Node) {
	owner := strconv.FormatUint(uint64(n.UID), 10) + ":" + strconv.FormatUint(uint64(n.GID), 10)
	fmt.Fprintf(w, "%s %*d %-*s %*s %s %s%s\n", permissions(n.inode), l.links, n.Links, l.owner, owner, l.size, sizeText(n.inode),
		timeText(n.inode), Escape(path.Base(n.Path)), n.arrow())
}

// sizeText is a size, of a device its number, of a directory nothing.
func sizeText(i rafs.Inode) string {
	switch typeOf(i).letter {
	case 'd':
		return "-"
	case 'c', 'b':
		major, minor := device(i.Rdev)
		return fmt.Sprintf("%d:%d", major, minor)
	}
	return strconv.FormatInt(i.Size, 10)
}

func digits(n uint64) int {
	count := 1
	for ; n >= 10; n /= 10 {
		count++
	}
	return count
}
