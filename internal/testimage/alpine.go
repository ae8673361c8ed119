package testimage

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// AlpineUserApp is where Alpine holds a Go program that no package brought; the same program lies at AlpinePackageApp,
// which the package yq lists.
const (
	AlpineUserApp    = "usr/local/bin/app"
	AlpinePackageApp = "usr/bin/yq"
)

// apkPackage is what Alpine's package database says of one package.
type apkPackage struct {
	name, version, origin, license, summary string
	depends, provides                       string
	files                                   []string
}

// The packages of Alpine 3.18, with the fields that its APKINDEX has.
var (
	apkMusl = apkPackage{name: "musl", version: "1.2.4-r1", origin: "musl", license: "MIT",
		summary:  "the musl c library (libc) implementation",
		provides: "so:libc.musl-x86_64.so.1=1", files: []string{"lib/ld-musl-x86_64.so.1"}}
	apkBusybox = apkPackage{name: "busybox", version: "1.36.1-r2", origin: "busybox", license: "GPL-2.0-only",
		summary: "Size optimized toolbox of many common UNIX utilities",
		depends: "so:libc.musl-x86_64.so.1", provides: "cmd:busybox=1.36.1-r2", files: []string{"bin/busybox"}}
	apkZlib = apkPackage{name: "zlib", version: "1.2.13-r1", origin: "zlib", license: "Zlib",
		summary: "A compression/decompression Library",
		depends: "so:libc.musl-x86_64.so.1", provides: "so:libz.so.1=1.2.13", files: []string{"lib/libz.so.1.2.13"}}
	apkCrypto = apkPackage{name: "libcrypto3", version: "3.1.2-r0", origin: "openssl", license: "Apache-2.0",
		summary: "Crypto library from openssl",
		depends: "so:libc.musl-x86_64.so.1", provides: "so:libcrypto.so.3=3", files: []string{"lib/libcrypto.so.3"}}
	apkYq = apkPackage{name: "yq", version: "4.33.3-r4", origin: "yq", license: "MIT",
		summary:  "Portable command-line YAML processor written in Go",
		provides: "cmd:yq=4.33.3-r4", files: []string{AlpinePackageApp}}
)

// apkDatabase is lib/apk/db/installed for the packages.
func apkDatabase(packages ...apkPackage) File {
	var b strings.Builder
	for _, p := range packages {
		sum := sha1.Sum([]byte(p.name + p.version)) // of the package's control segment, which is not at hand
		fmt.Fprintf(&b, "C:Q1%s\nP:%s\nV:%s\nA:x86_64\nS:4096\nI:8192\nT:%s\nU:https://alpinelinux.org/\nL:%s\no:%s\n",
			base64.StdEncoding.EncodeToString(sum[:]), p.name, p.version, p.summary, p.license, p.origin)
		b.WriteString("m:Natanael Copa <ncopa@alpinelinux.org>\nt:1684000000\nc:f6c3cd71b8ba1a0bd6f0ae12bd9cbd24a3e56d07\n")
		if p.depends != "" {
			fmt.Fprintf(&b, "D:%s\n", p.depends)
		}
		if p.provides != "" {
			fmt.Fprintf(&b, "p:%s\n", p.provides)
		}
		for _, f := range p.files {
			fmt.Fprintf(&b, "F:%s\nR:%s\na:0:0:755\n", path.Dir(f), path.Base(f))
		}
		b.WriteString("\n")
	}
	return Text("lib/apk/db/installed", b.String())
}

// apkFiles are the packages' files, programs that say who they are.
func apkFiles(packages ...apkPackage) Layer {
	var l Layer
	for _, p := range packages {
		for _, f := range p.files {
			l = append(l, Exec(f, []byte("\x7fELF "+p.name+" "+p.version+"\n")))
		}
	}
	return l
}

// Alpine is an Alpine 3.18 image: a base; yq, a Go program, added as a package and the same program once more without
// one; zlib removed. Its history says which packages were added.
func Alpine(t testing.TB) Spec {
	t.Helper()
	base := []apkPackage{apkMusl, apkBusybox, apkZlib, apkCrypto}
	program := goProgram(t)
	built := v1.Time{Time: time.Date(2023, 10, 1, 0, 0, 0, 0, time.UTC)}
	return Spec{
		Name: "alpine",
		Layers: []Layer{
			Join(Layer{
				Text("etc/alpine-release", "3.18.4\n"), Sym("etc/os-release", "../usr/lib/os-release"),
				Text("usr/lib/os-release", "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.18.4\nPRETTY_NAME=\"Alpine Linux v3.18\"\n"),
				Text("etc/apk/repositories", "https://dl-cdn.alpinelinux.org/alpine/v3.18/main\nhttps://dl-cdn.alpinelinux.org/alpine/v3.18/community\n"),
				apkDatabase(base...),
			}, apkFiles(base...)).WithParents(),
			Layer{
				Exec(AlpinePackageApp, program), Exec(AlpineUserApp, program),
				apkDatabase(append(base, apkYq)...),
			}.WithParents(),
			Layer{Whiteout("lib/libz.so.1.2.13"), apkDatabase(apkMusl, apkBusybox, apkCrypto, apkYq)}.WithParents(),
		},
		Config: v1.Config{Env: []string{"PATH=/usr/bin:/bin"}, Cmd: []string{"/bin/sh"}},
		History: []v1.History{
			{Created: built, CreatedBy: "/bin/sh -c #(nop) ADD file:756183bba9c7f4593c2b216e98e4208b9163c4c962ea0837ef88bd917609d001 in / "},
			{Created: built, CreatedBy: `/bin/sh -c #(nop)  CMD ["/bin/sh"]`, EmptyLayer: true},
			{Created: built, CreatedBy: "/bin/sh -c apk add --no-cache yq openssl"},
			{Created: built, CreatedBy: "/bin/sh -c apk del zlib"},
		},
	}
}
