package inspect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// root is the path of a tree's root, as package rafs has it.
const root = "."

// absolute shows a path of package rafs as users write it.
func absolute(name string) string {
	if name == root {
		return "/"
	}
	return "/" + name
}

// clean makes a path of package rafs of what a user wrote. Like that of cd in a
// shell, its ".." goes by what is written: up, also from a symbolic link.
func clean(directory, name string) string {
	if !strings.HasPrefix(name, "/") {
		name = absolute(directory) + "/" + name
	}
	if name = strings.TrimPrefix(path.Clean(name), "/"); name == "" {
		return root
	}
	return name
}

// find looks up a path that a user wrote, in the current directory, through
// symbolic links, and the last of it too with follow.
func (s *Session) find(tree *rafs.Tree, name string, follow bool) (string, rafs.Inode, error) {
	wanted := clean(s.directory, name)
	found, inode, err := tree.Resolve(wanted, follow)
	if err != nil {
		var failed *fs.PathError
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return "", rafs.Inode{}, fmt.Errorf("%s: %w", absolute(wanted), err)
	}
	return found, inode, nil
}

// walkBelow calls fn for a path and all below it, in the order of [rafs.Tree.Walk],
// until ctx ends. The path must lead through no symbolic link.
func walkBelow(ctx context.Context, tree *rafs.Tree, top string, fn func(name string, i rafs.Inode) error) error {
	if top == root {
		return tree.WalkContext(ctx, fn)
	}
	inside := top + "/"
	return tree.WalkContext(ctx, func(name string, i rafs.Inode) error {
		switch {
		case name == top || strings.HasPrefix(name, inside):
			err := fn(name, i)
			if err == nil && name == top && !i.IsDir() {
				return fs.SkipAll
			}
			return err
		case name == root || strings.HasPrefix(inside, name+"/"):
			return nil // on the way
		case i.IsDir():
			return fs.SkipDir
		}
		return nil
	})
}
