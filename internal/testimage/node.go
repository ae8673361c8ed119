package testimage

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// nodeApp is an application from npm with some 300 packages.
const nodeApp = "node-red@3.1.9"

// Node is an application from npm, with all that it depends on, on Debian's Node.
func Node(t testing.TB) Spec {
	t.Helper()
	return Spec{
		Name: "node",
		Layers: []Layer{
			DebianLayer(t, debianBase...),
			DebianUpgradeLayer(t, debianBase, withDependencies(t, debianBase, "nodejs")...),
			npmInstallLayer(t, nodeApp, "srv/app"),
		},
		Config: v1.Config{Env: []string{"PATH=/usr/bin:/bin"}, WorkingDir: "/srv/app", User: "1000:1000",
			Cmd: []string{"node", "node_modules/.bin/node-red"}},
		EmptyHistory: []v1.History{EmptyHistory("USER 1000:1000"), EmptyHistory(`CMD ["node"]`)},
	}
}

// npmInstallLayer is a layer with what `npm install` leaves in the folder dir. Install scripts do not run.
func npmInstallLayer(t testing.TB, app, dir string) Layer {
	t.Helper()
	kept := cached(t, "npm-install", cacheKey(app), func(dir string) error {
		_, err := run(dir, "npm", "install", "--loglevel=error", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev", app)
		return err
	})
	var out Layer
	err := filepath.WalkDir(kept, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		below, err := filepath.Rel(kept, name)
		if err != nil {
			return err
		}
		at := path.Join(dir, filepath.ToSlash(below))
		if entry.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(name)
			out = append(out, Sym(at, target))
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(name)
		out = append(out, Reg(at, data).WithMode(int64(info.Mode().Perm())))
		return err
	})
	if err != nil {
		t.Fatalf("read what npm installed of %s: %v", app, err)
	}
	return out.WithParents()
}
