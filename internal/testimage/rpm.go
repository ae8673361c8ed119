package testimage

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The same Go program lies at three paths of the RPM image: one that a package of Red Hat lists, one that another
// vendor's package lists, and one that no package lists.
const (
	RPMVendorApp = "usr/bin/skopeo"
	RPMOtherApp  = "opt/other/bin/other"
	RPMUserApp   = "usr/local/bin/app"
)

// rpmSpec is a package of an RPM database.
type rpmSpec struct {
	name, version, release, license, vendor, source string
	requires, provides                              string
	files                                           []string
}

// Packages as Red Hat Enterprise Linux 9 has them, and one of somebody else.
var (
	rpmGlibc = rpmSpec{name: "glibc", version: "2.34", release: "60.el9", license: "LGPLv2+", vendor: "Red Hat, Inc.",
		provides: "libc.so.6()(64bit)"}
	rpmBash = rpmSpec{name: "bash", version: "5.1.8", release: "6.el9_1", license: "GPLv3+", vendor: "Red Hat, Inc.",
		requires: "libc.so.6()(64bit)"}
	rpmOpenSSL = rpmSpec{name: "openssl-libs", version: "3.0.7", release: "6.el9_2", license: "ASL 2.0",
		vendor: "Red Hat, Inc.", source: "openssl", requires: "libc.so.6()(64bit)"}
	rpmZlib   = rpmSpec{name: "zlib", version: "1.2.11", release: "39.el9", license: "zlib and Boost", vendor: "Red Hat, Inc."}
	rpmSkopeo = rpmSpec{name: "skopeo", version: "1.11.2", release: "0.1.el9", license: "ASL 2.0", vendor: "Red Hat, Inc.",
		files: []string{RPMVendorApp}}
	rpmOther = rpmSpec{name: "other", version: "1.0", release: "1", license: "MIT", vendor: "Example Ltd.",
		files: []string{RPMOtherApp}}
)

// text is the package's spec file. It installs each file with the same content, which a database does not hold.
func (p rpmSpec) text() string {
	var b strings.Builder
	source := p.source
	if source == "" {
		source = p.name
	}
	fmt.Fprintf(&b, "Name: %s\nVersion: %s\nRelease: %s\nSummary: %s\nLicense: %s\nVendor: %s\nAutoReqProv: no\n",
		source, p.version, p.release, p.name, p.license, p.vendor)
	dependencies := ""
	if p.requires != "" {
		dependencies += "Requires: " + p.requires + "\n"
	}
	if p.provides != "" {
		dependencies += "Provides: " + p.provides + "\n"
	}
	if source == p.name {
		fmt.Fprintf(&b, "%s%%description\n%s\n%%files\n", dependencies, p.name)
	} else {
		fmt.Fprintf(&b, "%%description\n%s\n%%package -n %s\nSummary: %[2]s\n%s%%description -n %[2]s\n%[2]s\n%%files -n %[2]s\n",
			source, p.name, dependencies)
	}
	install := "%install\n"
	for _, f := range p.files {
		fmt.Fprintf(&b, "/%s\n", f)
		install += fmt.Sprintf("install -D -m 755 /dev/null %%{buildroot}/%s\n", f)
	}
	b.WriteString(install)
	return b.String()
}

// rpmDatabase is var/lib/rpm/rpmdb.sqlite as rpm itself writes it when it installs the packages.
func rpmDatabase(t testing.TB, packages ...rpmSpec) File {
	t.Helper()
	var specs []string
	for _, p := range packages {
		specs = append(specs, p.text())
	}
	dir := cached(t, "rpm", cacheKey(specs...), func(dir string) error {
		work, err := os.MkdirTemp("", "testimage-rpm")
		if err != nil {
			return err
		}
		defer os.RemoveAll(work)
		// rpmbuild wants every package to be built from a spec file of its own.
		for i, spec := range specs {
			name := fmt.Sprintf("%02d.spec", i)
			if err := os.WriteFile(filepath.Join(work, name), []byte(spec), 0o644); err != nil {
				return err
			}
			if _, err := run(work, "rpmbuild", "--quiet", "-bb", "--target", "x86_64-linux", "--define", "_topdir "+work,
				"--define", "_dbpath "+work+"/none", "--define", "debug_package %{nil}", name); err != nil {
				return fmt.Errorf("%w (run: make tools)", err)
			}
		}
		built, err := filepath.Glob(filepath.Join(work, "RPMS", "x86_64", "*.rpm"))
		if err != nil {
			return err
		}
		slices.Sort(built)
		database := []string{"--root", filepath.Join(work, "root"), "--dbpath", "/var/lib/rpm"}
		install := slices.Concat(database, []string{"--install", "--justdb", "--nodeps", "--noscripts", "--ignorearch", "--ignoreos"}, built)
		if _, err := run(work, "rpm", install...); err != nil {
			return err
		}
		// What has been written last lies in a journal beside the database.
		if _, err := run(work, "rpm", append(database, "--rebuilddb")...); err != nil {
			return err
		}
		return os.Rename(filepath.Join(work, "root/var/lib/rpm/rpmdb.sqlite"), filepath.Join(dir, "rpmdb.sqlite"))
	})
	return Reg("var/lib/rpm/rpmdb.sqlite", readFile(t, onlyFile(t, dir)))
}

// RPMDatabase is a database of Red Hat's glibc and, if there are files, of a package that lists them.
func RPMDatabase(t testing.TB, files ...string) File {
	t.Helper()
	if len(files) == 0 {
		return rpmDatabase(t, rpmGlibc)
	}
	claims := rpmSkopeo
	claims.files = files
	return rpmDatabase(t, rpmGlibc, claims)
}

// RPM is a Red Hat Enterprise Linux 9 image: a base with its content sets; packages of Red Hat and of somebody else
// that bring a Go program each, and the same program without a package; one package removed, and the database moved, as
// later releases have it.
func RPM(t testing.TB) Spec {
	t.Helper()
	program := goProgram(t)
	moved := rpmDatabase(t, rpmGlibc, rpmBash, rpmOpenSSL, rpmSkopeo, rpmOther)
	moved.Path = "usr/lib/sysimage/rpm/rpmdb.sqlite"
	contents := `{"metadata": {"icm_version": 1}, "content_sets": ["rhel-9-for-x86_64-baseos-rpms", "rhel-9-for-x86_64-appstream-rpms"]}`
	return Spec{
		Name: "rpm",
		Layers: []Layer{
			Layer{
				Text("etc/redhat-release", "Red Hat Enterprise Linux release 9.2 (Plow)\n"),
				Text("etc/os-release", "NAME=\"Red Hat Enterprise Linux\"\nID=\"rhel\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"9.2\"\n"),
				Text("root/buildinfo/content_manifests/ubi9-container-9.2-722.json", contents),
				rpmDatabase(t, rpmGlibc, rpmBash, rpmZlib),
			}.WithParents(),
			Layer{
				Exec(RPMVendorApp, program), Exec(RPMOtherApp, program), Exec(RPMUserApp, program),
				rpmDatabase(t, rpmGlibc, rpmBash, rpmZlib, rpmOpenSSL, rpmSkopeo, rpmOther),
			}.WithParents(),
			Layer{Whiteout("var/lib/rpm/rpmdb.sqlite"), moved}.WithParents(),
		},
		Config:       v1.Config{Env: []string{"PATH=/usr/bin:/bin"}, Cmd: []string{"/bin/bash"}},
		EmptyHistory: []v1.History{EmptyHistory(`CMD ["/bin/bash"]`)},
	}
}
