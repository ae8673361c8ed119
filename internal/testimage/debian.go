package testimage

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mergedDirs are the directories of the root that Debian has merged into /usr. Packages still name files in them;
// in an image, as debootstrap makes it, they are symbolic links.
var mergedDirs = []string{"bin", "sbin", "lib", "lib64"}

// DebianLayer is a layer with the packages of this machine's Debian release as dpkg installs them, the package
// database included; base-files among them brings etc/os-release. Maintainer scripts do not run.
func DebianLayer(t testing.TB, packages ...string) Layer {
	t.Helper()
	links := Layer{Dir("usr")}
	for _, d := range mergedDirs {
		links = append(links, Dir("usr/"+d), Sym(d, "usr/"+d))
	}
	return Join(links, DebianUpgradeLayer(t, nil, packages...))
}

// DebianUpgradeLayer is the layer that installing more packages makes on top of a layer with the packages of base:
// their files, and a package database that names all.
func DebianUpgradeLayer(t testing.TB, base []string, packages ...string) Layer {
	t.Helper()
	return cachedLayer(t, "debian", base, packages, func() Layer { return unpackDebs(t, base, packages) })
}

func unpackDebs(t testing.TB, base, packages []string) Layer {
	t.Helper()
	var files, database Layer
	var status []string
	for _, p := range base {
		status = append(status, openDeb(t, p).status)
	}
	for _, p := range packages {
		d := openDeb(t, p)
		files = Join(files, d.files)
		database = append(database, d.info...)
		status = append(status, d.status)
	}
	slices.Sort(status)
	slices.SortFunc(database, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	head := Layer{Text("var/lib/dpkg/status", strings.Join(status, "\n"))}
	return Join(files, append(head, database...)).WithParents()
}

// cachedLayer keeps what packages unpack to, as a tar, for these lists of packages.
func cachedLayer(t testing.TB, kind string, base, packages []string, unpack func() Layer) Layer {
	t.Helper()
	var files []string
	for _, p := range slices.Concat(base, []string{"+"}, packages) {
		if p != "+" {
			p = filepath.Base(downloadDeb(t, p)) // has the version
		}
		files = append(files, p)
	}
	dir := cached(t, kind, cacheKey(files...), func(dir string) error {
		f, err := os.Create(filepath.Join(dir, "layer.tar"))
		if err != nil {
			return err
		}
		defer f.Close()
		return unpack().writeTar(f)
	})
	l, err := readTar(bytes.NewReader(readFile(t, onlyFile(t, dir))))
	if err != nil {
		t.Fatalf("read a cached layer: %v", err)
	}
	return l
}

// deb is an unpacked Debian package.
type deb struct {
	files  Layer
	status string // its paragraph of var/lib/dpkg/status
	info   Layer  // its files in var/lib/dpkg/info
}

func openDeb(t testing.TB, name string) deb {
	t.Helper()
	file := downloadDeb(t, name)
	files := debTar(t, file, "--fsys-tarfile")
	fields, err := run("", "dpkg-deb", "-f", file)
	if err != nil {
		t.Fatalf("read the control fields of %s: %v", file, err)
	}
	head, rest, _ := strings.Cut(string(fields), "\n")
	d := deb{status: head + "\nStatus: install ok installed\n" + rest}
	d.info = append(d.info, Text(infoFile(name, string(fields), "list"), fileList(files)))
	for _, f := range debTar(t, file, "--ctrl-tarfile") {
		if f.Path == "md5sums" {
			d.info = append(d.info, Reg(infoFile(name, string(fields), f.Path), f.Data))
		}
	}
	for _, f := range files {
		if slices.Contains(mergedDirs, f.Path) && f.Type == Directory {
			continue
		}
		f.Path = merged(f.Path)
		if f.Type == HardLink {
			f.Link = merged(f.Link)
		}
		d.files = append(d.files, f)
	}
	return d
}

// infoFile is the path of a file in dpkg's database; that of a package which may be installed for several
// architectures at once has the architecture in its name.
func infoFile(name, control, kind string) string {
	if strings.Contains(control, "\nMulti-Arch: same\n") {
		_, arch, _ := strings.Cut(control, "\nArchitecture: ")
		arch, _, _ = strings.Cut(arch, "\n")
		name += ":" + arch
	}
	return "var/lib/dpkg/info/" + name + "." + kind
}

// fileList is a package's .list file: all paths as the package names them.
func fileList(files Layer) string {
	var b strings.Builder
	b.WriteString("/.\n")
	for _, f := range files {
		fmt.Fprintf(&b, "/%s\n", f.Path)
	}
	return b.String()
}

// merged is where a package's path ends up when bin, sbin, lib and lib64 are links into usr.
func merged(p string) string {
	top, _, _ := strings.Cut(p, "/")
	if slices.Contains(mergedDirs, top) {
		return "usr/" + p
	}
	return p
}

func debTar(t testing.TB, file, part string) Layer {
	t.Helper()
	raw, err := run("", "dpkg-deb", part, file)
	if err != nil {
		t.Fatalf("unpack %s: %v", file, err)
	}
	l, err := readTar(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("unpack %s: %v", file, err)
	}
	return l
}

// emptySystem is the option that makes apt-get see a system without packages, so that what this machine has installed,
// from wherever, does not matter.
const emptySystem = "Dir::State::status=/dev/null"

// downloadDeb returns the path of the package's file in the cache.
func downloadDeb(t testing.TB, name string) string {
	t.Helper()
	return onlyFile(t, cached(t, "deb", name, func(dir string) error {
		// apt-get leaves root's privileges for the download, which it can only where anybody may write.
		if err := os.Chmod(dir, 0o777); err != nil {
			return err
		}
		_, err := run(dir, "apt-get", "download", "-q", "-o", emptySystem, name)
		if err != nil {
			return fmt.Errorf("%w (are the package lists there? apt-get update)", err)
		}
		return nil
	}))
}

// onlyFile is the path of the one file in a cache folder.
func onlyFile(t testing.TB, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the cache folder %s: expected one file, came %q (error %v)", dir, files, err)
	}
	return files[0]
}
