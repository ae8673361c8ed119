package consistency

import (
	"errors"
	"fmt"
	"strings"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

const (
	// maxPath and maxName are Linux' PATH_MAX and NAME_MAX, in bytes: nothing
	// unpacks what is longer.
	maxPath = 4096
	maxName = 255
	// maxFollowed is how many symbolic links are followed in one name, as by
	// containerd.
	maxFollowed = 255
)

// splitName returns the elements of an entry's name, none for the root. Names
// that lead out of a directory are refused: who unpacks them decides what they
// mean.
func splitName(name string) ([]string, error) {
	if len(name) > maxPath {
		return nil, fmt.Errorf("a path of %d bytes: %w", len(name), rafs.ErrUnsupported)
	}
	var elements []string
	for element := range strings.SplitSeq(name, "/") {
		switch {
		case element == "" || element == ".":
			continue
		case element == "..":
			return nil, fmt.Errorf("a path with \"..\": %w", rafs.ErrUnsupported)
		case len(element) > maxName:
			return nil, fmt.Errorf("a name of %d bytes: %w", len(element), rafs.ErrUnsupported)
		}
		elements = append(elements, element)
	}
	return elements, nil
}

// parent returns the directory of a path in the layer, made if it is not there,
// and the path with its symbolic links resolved. Links lead nowhere but into the
// layer itself: it is unpacked to a folder of its own.
func (l *ociLayer) parent(path []string) (*ociNode, []string, error) {
	if len(path) == 1 {
		return l.root, path, nil
	}
	directory, err := resolve(l.root, path[:len(path)-1])
	if err != nil {
		return nil, nil, err
	}
	path = append(directory, path[len(path)-1])
	length := 0
	for _, name := range path {
		length += len(name) + 1
	}
	if length > maxPath {
		return nil, nil, fmt.Errorf("it resolves to a path of %d bytes: %w", length, rafs.ErrUnsupported)
	}
	node := l.root
	for k, name := range directory {
		child := node.child(name)
		if child == nil {
			if err := l.budget.charge(nodeMetadata + int64(length)); err != nil {
				return nil, nil, err
			}
			child = impliedDirectory()
			if mark := node.children[name]; mark != nil {
				child.whiteout = mark.whiteout
			}
			node.put(name, child)
		}
		if !child.isDir() {
			return nil, nil, fmt.Errorf("%q is not a directory", strings.Join(directory[:k+1], "/"))
		}
		node = child
	}
	return node, path, nil
}

// lookup returns the node of a path, nil if there is none. It follows symbolic
// links but for the last element.
func lookup(root *ociNode, path []string) (*ociNode, error) {
	if len(path) == 0 {
		return root, nil
	}
	directory, err := resolve(root, path[:len(path)-1])
	if err != nil {
		return nil, err
	}
	node := root
	for _, name := range append(directory, path[len(path)-1]) {
		if node = node.child(name); node == nil {
			return nil, nil
		}
	}
	return node, nil
}

// resolve returns a path with its symbolic links resolved, within the tree. What
// is not there is no link.
func resolve(root *ociNode, path []string) ([]string, error) {
	var resolved []string
	nodes := []*ociNode{root} // of resolved, and of the root before them; nil where there is none
	todo := path
	for followed := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			if len(resolved) > 0 {
				resolved, nodes = resolved[:len(resolved)-1], nodes[:len(nodes)-1]
			}
			continue
		}
		var child *ociNode
		if last := nodes[len(nodes)-1]; last != nil {
			child = last.child(name)
		}
		if child == nil || !child.inode.isSymlink() {
			resolved, nodes = append(resolved, name), append(nodes, child)
			continue
		}
		if followed++; followed > maxFollowed {
			return nil, errors.New("too many symbolic links")
		}
		target := child.inode.target
		if strings.HasPrefix(target, "/") {
			resolved, nodes = nil, nodes[:1]
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return resolved, nil
}
