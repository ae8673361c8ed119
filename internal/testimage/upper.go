package testimage

import (
	"path"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// appTree is where Upper has a tree of node packages that an upper layer hides with an opaque directory.
const appTree = "srv/app/node_modules"

// goProgram is the program of GoBinaryLayer.
func goProgram(t testing.TB) []byte {
	t.Helper()
	for _, f := range GoBinaryLayer(t) {
		if f.Type == Regular {
			return f.Data
		}
	}
	t.Fatal("the Go layer has no file")
	return nil
}

// moved is the layer below another directory.
func moved(l Layer, from, to string) Layer {
	var out Layer
	for _, f := range l {
		if below, ok := strings.CutPrefix(f.Path, from+"/"); ok {
			f.Path = path.Join(to, below)
			out = append(out, f)
		}
	}
	return out
}

// Upper is an image whose upper layers delete, replace and make opaque what lower ones hold, a case a path:
//
//   - usr/sbin/gosu, a Go program of a Debian package, is replaced by the user's own;
//   - usr/bin/replaced, a Go program, is replaced by a script;
//   - usr/bin/to-directory, a Go program, is replaced by a directory;
//   - usr/share/to-file, a directory with a node package, is replaced by a file;
//   - usr/bin/again, a Go program, is deleted, and then comes back as a script;
//   - usr/share/again, a directory with a node package, is deleted, and then comes back;
//   - a license becomes an ordinary text, a Kubernetes manifest some other YAML;
//   - srv/app/node_modules is made opaque, over another package;
//   - minimist is replaced by a newer version;
//   - a jar and a node package are deleted;
//   - dpkg's status is replaced, twice.
func Upper(t testing.TB) Spec {
	t.Helper()
	program := goProgram(t)
	base := []string{"base-files", "sensible-utils", "hostname"}
	lodash, minimist := NodeLayer(t, "lodash@4.17.20"), NodeLayer(t, "minimist@1.2.0")
	const modules = "usr/lib/node_modules"
	return Spec{
		Name: "upper",
		Layers: []Layer{
			smallDebian(t),
			Join(
				DebianUpgradeLayer(t, base, "gosu"), JarLayer(t), lodash, minimist,
				moved(lodash, modules, appTree), moved(minimist, modules, "usr/share/to-file"),
				moved(minimist, modules, "usr/share/again"), Layer{license(t, lodash, "usr/share/app/LICENSE")},
				Layer{
					Exec("usr/bin/replaced", program), Exec("usr/bin/to-directory", program), Exec("usr/bin/again", program),
					SecretFile(SecretPath), SecretFile(DeletedSecretPath), Text("srv/app/pod.yaml", podManifest),
				},
			).WithParents(),
			Join(
				DebianUpgradeLayer(t, append(base, "gosu"), "netbase"), NodeLayer(t, "minimist@1.2.6"),
				Layer{
					Exec("usr/sbin/gosu", program), Exec("usr/bin/replaced", []byte("#!/bin/sh\nexit 0\n")),
					Dir("usr/bin/to-directory"), Text("usr/bin/to-directory/file", "content\n"),
					Text("usr/share/to-file", "content\n"),
					Whiteout("usr/bin/again"), Whiteout("usr/share/again"), Whiteout("opt/app/commons-io-2.4.jar"), Whiteout(modules + "/lodash"),
					Dir(appTree), Opaque(appTree), Whiteout(DeletedSecretPath), Text(SecretPath, "nothing here any more\n"),
					Text("usr/share/app/LICENSE", "ask us\n"), Text("srv/app/pod.yaml", "colour: blue\n"),
				}, moved(minimist, modules, appTree),
			).WithParents(),
			Join(moved(minimist, modules, "usr/share/again"), Layer{Exec("usr/bin/again", []byte("#!/bin/sh\nexit 1\n"))}).WithParents(),
		},
		Config:       runConfig(),
		EmptyHistory: []v1.History{EmptyHistory(`CMD ["serve"]`)},
	}
}

// license is a package's license under another path.
func license(t testing.TB, l Layer, name string) File {
	t.Helper()
	for _, f := range l {
		if path.Base(f.Path) == "LICENSE" {
			return Reg(name, f.Data)
		}
	}
	t.Fatal("the layer has no license")
	return File{}
}

// The names of the files of which Links and FirstNameGone have hard links, first the one that is no link.
var (
	LinkedApp    = []string{"usr/bin/a-app", "usr/bin/b-app", "usr/bin/c-app"}
	LinkedJar    = []string{"opt/app/commons-io-2.4.jar", "opt/app/commons-io-copy.jar", "opt/app/commons-io-link.jar"}
	LinkedSecret = []string{"srv/links/a.env", "srv/links/b.env", "srv/links/c.env"}
)

// Links is an image of hard links to a program, a jar and a secret; an upper layer deletes the second name of each.
func Links(t testing.TB) Spec {
	t.Helper()
	return links(t, "links", 1)
}

// FirstNameGone is Links with the first name of each deleted: Trivy knows the files by that name only.
func FirstNameGone(t testing.TB) Spec {
	t.Helper()
	return links(t, "first-name-gone", 0)
}

func links(t testing.TB, name string, gone int) Spec {
	t.Helper()
	files := Join(JarLayer(t), Layer{Exec(LinkedApp[0], goProgram(t)), SecretFile(LinkedSecret[0])})
	deleted := Layer{}
	for _, names := range [][]string{LinkedApp, LinkedJar, LinkedSecret} {
		for _, n := range names[1:] {
			link := Hard(n, names[0])
			if n == LinkedApp[1] || n == LinkedApp[2] {
				link.Mode = 0o755 // as tar has it; in v6 the last entry's mode is the file's
			}
			files = append(files, link)
		}
		deleted = append(deleted, Whiteout(names[gone]))
	}
	return Spec{
		Name:         name,
		Layers:       []Layer{Join(DebianLayer(t, "base-files", "sensible-utils", "hostname", "gosu"), files).WithParents(), deleted.WithParents()},
		Config:       runConfig(),
		EmptyHistory: []v1.History{EmptyHistory(`CMD ["serve"]`)},
	}
}

// NoRelease is a Debian image whose upper layer deletes the files that say so.
func NoRelease(t testing.TB) Spec {
	t.Helper()
	return Spec{Name: "no-release", Layers: []Layer{
		smallDebian(t),
		Layer{Whiteout("etc/os-release"), Whiteout("usr/lib/os-release"), Whiteout("etc/debian_version")}.WithParents(),
	}}
}

// Upgraded is Alpine with etc/alpine-release replaced by that of a later release.
func Upgraded(t testing.TB) Spec {
	t.Helper()
	s := Alpine(t)
	s.Name = "upgraded"
	s.Layers = append(s.Layers, Layer{
		Text("etc/alpine-release", "3.19.1\n"),
		Text("usr/lib/os-release", "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.19.1\n"),
	}.WithParents())
	s.History = append(s.History, v1.History{CreatedBy: "/bin/sh -c apk upgrade"})
	return s
}
