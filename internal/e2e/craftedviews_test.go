package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// Images that show one thing to a scan and another to a container, or one thing in
// their layers and another in the whole.

// goApp is a Go program that has known vulnerabilities.
func goApp(t *testing.T) testimage.CraftedFile {
	t.Helper()
	for _, f := range testimage.GoBinaryLayer(t) {
		if f.Type == testimage.Regular {
			return testimage.CraftedFile{Path: "usr/local/bin/app", Mode: 0o100755, Data: f.Data}
		}
	}
	t.Fatal("there is no program")
	return testimage.CraftedFile{}
}

// emptySBOM says that a program has one package, which is sound.
const emptySBOM = `{"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": [
	{"bom-ref": "app", "type": "application", "name": "usr/local/bin/app", "properties": [
		{"name": "aquasecurity:trivy:Type", "value": "gobinary"}, {"name": "aquasecurity:trivy:Class", "value": "lang-pkgs"}]},
	{"bom-ref": "pkg:golang/sound@v1.0.0", "type": "library", "name": "sound", "version": "v1.0.0", "purl": "pkg:golang/sound@v1.0.0"}],
	"dependencies": [{"ref": "app", "dependsOn": ["pkg:golang/sound@v1.0.0"]}]}`

// TestCraftedHidden: what layers hide neither says which operating system it is, nor
// which files belong to its packages, nor what a program is made of.
func TestCraftedHidden(t *testing.T) {
	t.Parallel()
	release, alpine := testimage.CraftedText("etc/os-release", debianRelease), testimage.CraftedText("etc/os-release", "ID=alpine\nVERSION_ID=3.19.0\n")
	version := testimage.CraftedText("etc/debian_version", "12.1\n")
	pkg, app := nodePackage("srv/app", "minimist", "1.2.0"), goApp(t)
	status := func(name, version string) testimage.CraftedFile {
		return testimage.CraftedText("var/lib/dpkg/status", dpkgStatus(name, version))
	}
	sums := testimage.CraftedText("var/lib/dpkg/info/evil.md5sums",
		"d41d8cd98f00b204e9800998ecf8427e  "+pkg.Path+"\nd41d8cd98f00b204e9800998ecf8427e  "+app.Path+"\n")
	openssl := status("openssl", "1.1.0-1")
	dir := craftedLayout(t, testimage.Crafted{
		Layers: [][]testimage.CraftedFile{
			{version, pkg, app, status("evil", "1"), sums, release},
			{
				alpine, testimage.CraftedText("etc/alpine-release", "3.19.0\n"), testimage.CraftedText("srv/x.cdx.json", emptySBOM),
				testimage.CraftedText("var/lib/dpkg/info/.wh.evil.md5sums", ""),
				testimage.CraftedText("var/lib/dpkg/status.d/other", "Package: openssl\nStatus: install ok installed\nSource: harmless\nMaintainer: x\nArchitecture: amd64\nVersion: 1.1.0-1\n\n"),
			},
			{
				release, openssl, testimage.CraftedText("etc/.wh.alpine-release", ""), testimage.CraftedText("srv/x.cdx.json", "{}"),
				testimage.CraftedText("var/lib/dpkg/status.d", "now a file"),
			},
		},
		Merged: []testimage.CraftedFile{
			version, pkg, app, release, openssl, testimage.CraftedText("srv/x.cdx.json", "{}"),
			testimage.CraftedDir("var/lib/dpkg/info"), testimage.CraftedText("var/lib/dpkg/status.d", "now a file"),
		},
		Layer: map[string]int{version.Path: 0, pkg.Path: 0, app.Path: 0},
	})
	report := scanCrafted(t, dir)
	assert.Equal(t, "debian", osFamily(report))
	packages := packageNames(report)
	assert.Contains(t, packages, "minimist 1.2.0")
	assert.Contains(t, packages, "openssl 1.1.0")
	assert.NotContains(t, packages, "sound v1.0.0")
	assert.True(t, slices.ContainsFunc(packages, func(p string) bool { return strings.HasPrefix(p, "golang.org/x") }), "the program's packages: %v", packages)
	for _, source := range sourcesOf(report, "openssl") {
		if source == "openssl" {
			return
		}
	}
	t.Errorf("the shown package of openssl is not in the report: %v", sourcesOf(report, "openssl"))
}

// TestCraftedHiddenDatabases: nor do package databases of other families that layers hide, in
// any of their places.
func TestCraftedHiddenDatabases(t *testing.T) {
	t.Parallel()
	pkg, app := nodePackage("srv/app", "minimist", "1.2.0"), goApp(t)
	apk := fmt.Sprintf("P:evil\nV:1-r0\nA:x86_64\nL:MIT\nF:%s\nR:%s\nF:%s\nR:%s\n\n", path.Dir(pkg.Path), path.Base(pkg.Path), path.Dir(app.Path), path.Base(app.Path))
	const musl = "P:musl\nV:1.2.4-r0\nA:x86_64\nL:MIT\nF:lib\nR:libc.musl-x86_64.so.1\n\n"
	rpm, glibc := string(testimage.RPMDatabase(t, pkg.Path, app.Path).Data), string(testimage.RPMDatabase(t).Data)
	alpine := testimage.CraftedText("etc/alpine-release", "3.19.0\n")
	redhat := testimage.CraftedText("etc/redhat-release", "Red Hat Enterprise Linux release 9.2 (Plow)\n")
	for database, c := range map[string]struct {
		release     testimage.CraftedFile
		evil, shown string // contents of the database
		family, has string // what the report has of the shown one
	}{
		"lib/apk/db/installed":              {alpine, apk, musl, "alpine", "musl 1.2.4-r0"},
		"usr/lib/apk/db/installed":          {alpine, apk, musl, "alpine", "musl 1.2.4-r0"},
		"var/lib/rpm/rpmdb.sqlite":          {redhat, rpm, glibc, "redhat", "glibc 2.34"},
		"usr/lib/sysimage/rpm/rpmdb.sqlite": {redhat, rpm, glibc, "redhat", "glibc 2.34"},
	} {
		t.Run(database, func(t *testing.T) {
			t.Parallel()
			evil, shown := testimage.CraftedText(database, c.evil), testimage.CraftedText(database, c.shown)
			programs := func(packages []string) bool {
				return slices.ContainsFunc(packages, func(p string) bool { return strings.HasPrefix(p, "golang.org/x") })
			}
			report := scanCrafted(t, craftedLayout(t, testimage.Crafted{
				Layers: [][]testimage.CraftedFile{{c.release, pkg, app, evil}, {shown}},
				Merged: []testimage.CraftedFile{c.release, pkg, app, shown},
				Layer:  map[string]int{c.release.Path: 0, pkg.Path: 0, app.Path: 0, shown.Path: 1},
			}))
			assert.Equal(t, c.family, osFamily(report))
			packages := packageNames(report)
			assert.Contains(t, packages, c.has)
			assert.Contains(t, packages, "minimist 1.2.0")
			assert.True(t, programs(packages), "the program's packages: %v", packages)
			// Where it is shown, it is believed, as in trivy image.
			assert.False(t, programs(packageNames(scanCrafted(t, craftedLayout(t, testimage.Crafted{
				Layers: [][]testimage.CraftedFile{{c.release, pkg, app, evil}}, Merged: []testimage.CraftedFile{c.release, pkg, app, evil},
			})))))
		})
	}
}

// sourcesOf lists the source packages of a package.
func sourcesOf(report map[string]any, name string) []string {
	var sources []string
	results, _ := report["Results"].([]any)
	for _, r := range results {
		packages, _ := r.(map[string]any)["Packages"].([]any)
		for _, p := range packages {
			if p := p.(map[string]any); p["Name"] == name {
				source, _ := p["SrcName"].(string)
				sources = append(sources, source)
			}
		}
	}
	return sources
}

// TestCraftedWhiteout: a layer that deletes what the image shows is not believed.
func TestCraftedWhiteout(t *testing.T) {
	t.Parallel()
	secret, pkg := secretText("srv/app/.env"), nodePackage("srv/app", "minimist", "1.2.0")
	for name, whiteout := range map[string]string{"of the file": "srv/app/.wh..env", "of a folder": "srv/.wh.app", "of what is in it": "srv/app/.wh..wh..opq"} {
		t.Run(name, func(t *testing.T) {
			dir := craftedLayout(t, testimage.Crafted{
				Layers: [][]testimage.CraftedFile{{secret, pkg}, {testimage.CraftedText(whiteout, "")}},
				Merged: []testimage.CraftedFile{secret, pkg},
				Layer:  map[string]int{secret.Path: 0, pkg.Path: 0},
			})
			report := scanCrafted(t, dir)
			assert.Equal(t, []string{"/srv/app/.env"}, secretPaths(report))
			assert.Contains(t, packageNames(report), "minimist 1.2.0")
			args, _ := scanArguments(t, dir, "--require-layers")
			refusedCrafted(t, []string{"--require-layers", "contradict"}, args...)
			r := bounded(t, "check", "--cache-dir", t.TempDir(), dir)
			assert.Equal(t, 1, r.code, r.stdout)
		})
	}
}

// TestCraftedNumber: in RAFS v5 nydusd reads the file that lies at an inode's number.
func TestCraftedNumber(t *testing.T) {
	t.Parallel()
	var place uint32
	picture := testimage.CraftedFile{Path: "a.png", Data: secretText("x").Data, Alter: func(_ []byte, node uint32) { place = node }}
	env := testimage.CraftedFile{Path: "srv/.env", Data: bytes.Repeat([]byte("#"), len(picture.Data)), Alter: func(record []byte, _ uint32) {
		binary.LittleEndian.PutUint64(record[40:], uint64(place))
		binary.LittleEndian.PutUint32(record[88:], 2)
	}}
	refusedByAll(t, craftedLayout(t, testimage.Crafted{Merged: []testimage.CraftedFile{picture, env}}), "has the number of inode", "a container would read that")
}

// TestCraftedChunkNumbers: nydusd keeps chunks by number and place. Where a clean
// file's chunk has those of another chunk, a container can be shown that one
// (TestChunkViews in rafs is where it is).
func TestCraftedChunkNumbers(t *testing.T) {
	t.Parallel()
	secret := secretText("a.png")
	clean := bytes.Repeat([]byte("#"), len(secret.Data))
	image := func(change func(c *testimage.CraftedChunk)) string {
		// Chunks 0 and 1 are those of a.png and b.png.
		chunk := testimage.CraftedChunk{Index: 0, Stored: uint32(len(clean)), Size: uint32(len(clean)), Place: 2 << 24, Digest: sha256.Sum256(clean)}
		change(&chunk)
		return craftedLayout(t, testimage.Crafted{Raw: clean, Merged: []testimage.CraftedFile{
			secret, testimage.CraftedText("b.png", "b"), testimage.CraftedText("c.png", "c"),
			{Path: "srv/.env", Size: uint64(len(clean)), Chunks: []testimage.CraftedChunk{chunk}},
		}})
	}
	refusedByAll(t, image(func(*testimage.CraftedChunk) {}), "two chunks have number 0 of blob 0", "a container could read either")
	refusedByAll(t, image(func(c *testimage.CraftedChunk) { c.Index, c.Place = 9, 0 }), "share bytes of the decompressed blob", "a container could read either")
}

// TestCraftedArchive: the runtime unpacks the whole bootstrap layer, and takes what
// lies at image/image.boot in the end.
func TestCraftedArchive(t *testing.T) {
	t.Parallel()
	entry := func(h tar.Header, content string) testimage.CraftedEntry {
		return testimage.CraftedEntry{Header: h, Content: []byte(content)}
	}
	for name, entries := range map[string][]testimage.CraftedEntry{
		"twice":             {entry(tar.Header{Name: "image/image.boot"}, "x")},
		"in another way":    {entry(tar.Header{Name: "./image//image.boot"}, "x")},
		"a symbolic link":   {entry(tar.Header{Name: "image/evil"}, "x"), entry(tar.Header{Name: "image/image.boot", Typeflag: tar.TypeSymlink, Linkname: "evil"}, "")},
		"a folder's link":   {entry(tar.Header{Name: "image", Typeflag: tar.TypeSymlink, Linkname: "other"}, "")},
		"an old name":       {entry(tar.Header{Name: "image.boot"}, "x")},
		"and a whiteout":    {entry(tar.Header{Name: "image/.wh.image.boot"}, "")},
		"a way to the host": {entry(tar.Header{Name: "../../../etc/cron.d/x"}, "x")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refusedByAll(t, craftedLayout(t, testimage.Crafted{Merged: []testimage.CraftedFile{testimage.CraftedText("x", "x")}, Archive: entries}), "bootstrap")
		})
	}
}

// v6Layout is a layout of an image of RAFS v6 with an altered bootstrap, without or
// with the blobs' tables in the bootstrap layer.
func v6Layout(t *testing.T, metas bool, alter func(boot []byte)) string {
	t.Helper()
	n := testimage.Convert(t, testimage.BuildOCI(t, testimage.Tiny(t)), testimage.ConvertOptions{FSVersion: "6"})
	boot, err := os.ReadFile(n.BootstrapPath)
	require.NoError(t, err)
	alter(boot)
	dir := t.TempDir()
	testimage.WriteLayout(t, dir, map[string]any{"crafted": testimage.Wrap(t, n, testimage.Wrapping{Bootstrap: boot, Metas: metas})})
	return dir
}

// tableAt returns the part of a v6 bootstrap at the offset that its extended
// superblock has at a place.
func tableAt(boot []byte, place int) []byte {
	return boot[binary.LittleEndian.Uint64(boot[1024+128+place:]):]
}

// TestCraftedChunkTable: the bootstrap says that chunks lie elsewhere than the blob
// does.
func TestCraftedChunkTable(t *testing.T) {
	t.Parallel()
	dir := v6Layout(t, false, func(boot []byte) {
		for k := range 20 { // among these are chunks of the image's files
			record := tableAt(boot, 24)[80*k:]
			binary.LittleEndian.PutUint64(record[48:], binary.LittleEndian.Uint64(record[48:])+1)
		}
	})
	args, output := scanArguments(t, dir)
	refusedCrafted(t, []string{"chunk table", "blob.meta", "a container would read other data"}, args...)
	assert.NoFileExists(t, output)
	r := bounded(t, "check", "--cache-dir", t.TempDir(), dir)
	assert.NotZero(t, r.code, r.stdout)
}

// TestCraftedChunkOverTOC: chunks that lie behind the data of their blob, where it has its table of contents,
// or reach into that.
func TestCraftedChunkOverTOC(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]uint64{"in it": 0, "reaching into it": 1} {
		t.Run(name, func(t *testing.T) {
			dir := v6Layout(t, true, func(boot []byte) {
				stored := binary.LittleEndian.Uint64(tableAt(boot, 8)[88:]) // bytes of chunks
				for k := range 20 {                                         // among these are chunks of the image's files
					binary.LittleEndian.PutUint64(tableAt(boot, 24)[80*k+48:], stored-before)
				}
			})
			args, output := scanArguments(t, dir)
			refusedCrafted(t, []string{"blob.meta", "a container would read other data"}, args...)
			assert.NoFileExists(t, output)
			r := bounded(t, "check", "--cache-dir", t.TempDir(), dir)
			assert.Equal(t, 1, r.code, r.stdout)
			assert.Contains(t, r.stdout, "stored in the first")
		})
	}
}

// TestCraftedTOC: the bootstrap says that the table of contents is another.
func TestCraftedTOC(t *testing.T) {
	t.Parallel()
	dir := v6Layout(t, true, func(boot []byte) { copy(tableAt(boot, 8)[136:], bytes.Repeat([]byte{7}, 32)) })
	args, output := scanArguments(t, dir)
	refusedCrafted(t, []string{"the table of contents hashes to"}, args...)
	assert.NoFileExists(t, output)
	r := bounded(t, "check", "--cache-dir", t.TempDir(), dir)
	assert.NotZero(t, r.code, r.stdout)
}

// TestCraftedDevices: Linux finds blobs by the device table, nydusd by another.
func TestCraftedDevices(t *testing.T) {
	t.Parallel()
	refusedByAll(t, v6Layout(t, true, func(boot []byte) { boot[1024+384] ^= 1 }), "device 0 is blob")
}

// TestCraftedIndex: an index whose two images of a platform differ. It is said which
// is read, and a check finds the difference.
func TestCraftedIndex(t *testing.T) {
	t.Parallel()
	registry := testregistry.Start(t)
	oci := testimage.BuildOCI(t, testimage.Spec{Name: "clean", Layers: []testimage.Layer{{testimage.Text("clean", "clean\n")}}})
	nydus := testimage.Craft(t, testimage.Crafted{Merged: []testimage.CraftedFile{secretText("srv/.env")}})
	reference := registry.Host() + "/test/crafted:index"
	testimage.Push(t, reference, testimage.Index(t, testimage.ByArtifactType, testimage.Pair{OCI: oci, Nydus: &testimage.Nydus{Image: nydus}}))
	args, output := scanArguments(t, reference)
	r := bounded(t, slices.DeleteFunc(args, func(a string) bool { return a == "--quiet" })...)
	require.Zero(t, r.code, r.stderr)
	assert.Contains(t, r.stderr, "reading the Nydus image")
	assert.Equal(t, []string{"/srv/.env"}, secretPaths(decode(t, output)))
	r = bounded(t, "check", "--cache-dir", t.TempDir(), reference)
	assert.Equal(t, 1, r.code, r.stdout)
}

// TestCraftedOtherPlace: no digest of the manifest vouches for a layer's bootstrap.
// What one place gave of it is not taken for another's.
func TestCraftedOtherPlace(t *testing.T) {
	t.Parallel()
	gone := secretText("srv/gone.env")
	crafted := testimage.Crafted{
		Layers: [][]testimage.CraftedFile{{gone, testimage.CraftedText("noise", string(testNoise(200_000)))}, {testimage.CraftedText("srv/.wh.gone.env", ""), testimage.CraftedText("x", "x")}},
		Merged: []testimage.CraftedFile{testimage.CraftedText("noise", string(testNoise(200_000))), testimage.CraftedDir("srv"), testimage.CraftedText("x", "x")},
		Layer:  map[string]int{"noise": 0},
	}
	honest, evil := craftedLayout(t, crafted), craftedLayout(t, crafted)
	blobs, err := filepath.Glob(filepath.Join(evil, "blobs", "sha256", "*"))
	require.NoError(t, err)
	altered := 0
	for _, name := range blobs {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		if at := bytes.Index(data, []byte("gone.env\x00\x00")); at > 200_000 {
			copy(data[at:], "gone.png") // in which nobody looks for secrets
			require.NoError(t, os.WriteFile(name, data, 0o644))
			altered++
		}
	}
	if altered == 0 { // names are padded to 8 bytes
		for _, name := range blobs {
			data, err := os.ReadFile(name)
			require.NoError(t, err)
			if at := bytes.LastIndex(data, []byte("gone.env")); at > 200_000 {
				copy(data[at:], "gone.png")
				require.NoError(t, os.WriteFile(name, data, 0o644))
				altered++
			}
		}
	}
	require.Equal(t, 1, altered)
	cache := []string{"--cache-dir", cacheDir(t)}
	assert.Empty(t, secretPaths(scanCrafted(t, evil, cache...)))
	assert.Equal(t, []string{"/srv/gone.env"}, secretPaths(scanCrafted(t, honest, cache...)))
}

// TestCraftedOtherChunks: what was found in a file of one image is not taken for that
// of another image whose chunks have the same digests and lie elsewhere: there, data
// and digests differ, which only reading shows.
func TestCraftedOtherChunks(t *testing.T) {
	t.Parallel()
	head, secret := testimage.CraftedText("head.png", "# settings\n"), secretText("srv/.env").Data
	clean := testimage.CraftedFile{Path: "clean.png", Data: bytes.Repeat([]byte("#"), len(secret))}
	image := func(second testimage.CraftedChunk) string {
		begin := testimage.CraftedChunk{Blob: 2, Stored: uint32(len(head.Data)), Size: uint32(len(head.Data)), Digest: sha256.Sum256(head.Data)}
		second.Stored, second.Size, second.Digest = uint32(len(secret)), uint32(len(secret)), sha256.Sum256(clean.Data)
		second.FileOffset = uint64(len(head.Data))
		return craftedLayout(t, testimage.Crafted{
			Layers: [][]testimage.CraftedFile{nil, nil, nil}, Raw: secret, Layer: map[string]int{clean.Path: 1, head.Path: 2},
			Merged: []testimage.CraftedFile{head, clean, {Path: "srv/.env", Hole: true, Size: second.FileOffset + uint64(len(secret)),
				Chunks: []testimage.CraftedChunk{begin, second}}},
		})
	}
	honest, evil := image(testimage.CraftedChunk{Blob: 1}), image(testimage.CraftedChunk{Blob: 0})
	cache := []string{"--cache-dir", cacheDir(t)}
	for _, when := range []string{"before", "after"} {
		args, output := scanArguments(t, evil, cache...)
		refusedCrafted(t, []string{"srv/.env", "digest"}, args...)
		assert.NoFileExists(t, output, "%s the honest image", when)
		assert.Empty(t, secretPaths(scanCrafted(t, honest, cache...)))
	}
}

// TestCraftedOtherCompressor: nor for that of another image that says of the same
// bytes that they are compressed.
func TestCraftedOtherCompressor(t *testing.T) {
	t.Parallel()
	text := bytes.Repeat([]byte("#"), 100)
	size := uint32(len(text))
	chunk := testimage.CraftedChunk{Flags: 1, Stored: size, Size: size, Digest: sha256.Sum256(text)}
	image := func(edit func([]byte)) string {
		return craftedLayout(t, testimage.Crafted{
			Layers: [][]testimage.CraftedFile{nil}, Raw: text, EditBootstrap: edit,
			Merged: []testimage.CraftedFile{{Path: "srv/.env", Hole: true, Size: uint64(size), Chunks: []testimage.CraftedChunk{chunk}}},
		})
	}
	honest, evil := image(func(b []byte) { b[16] ^= 0x80 | 0x1 }), image(nil) // the superblock's flags: none in place of zstd
	cache := []string{"--cache-dir", cacheDir(t)}
	assert.Empty(t, secretPaths(scanCrafted(t, honest, cache...)))
	args, output := scanArguments(t, evil, cache...)
	refusedCrafted(t, []string{"srv/.env", "zstd"}, args...)
	assert.NoFileExists(t, output)
}

// TestCraftedOtherImage: what an image's package databases say of a layer is not
// taken for another image with that layer.
func TestCraftedOtherImage(t *testing.T) {
	t.Parallel()
	pkg := nodePackage("srv/app", "minimist", "1.2.0")
	crafted := func(more ...testimage.CraftedFile) string {
		return craftedLayout(t, testimage.Crafted{
			Layers: [][]testimage.CraftedFile{nil, nil}, // without bootstraps of their own
			Merged: append([]testimage.CraftedFile{pkg}, more...),
			Layer:  map[string]int{pkg.Path: 0},
		})
	}
	claiming := crafted(testimage.CraftedText("var/lib/dpkg/status", dpkgStatus("evil", "1")),
		testimage.CraftedText("var/lib/dpkg/info/evil.md5sums", "d41d8cd98f00b204e9800998ecf8427e  "+pkg.Path+"\n"))
	other := crafted(testimage.CraftedText("opt/lib/dpkg/status", "x"), testimage.CraftedText("opt/lib/dpkg/info/x", "x")) // as many folders
	cache := []string{"--cache-dir", cacheDir(t)}
	assert.NotContains(t, packageNames(scanCrafted(t, claiming, cache...)), "minimist 1.2.0", "Trivy leaves out what the system's packages brought")
	assert.Contains(t, packageNames(scanCrafted(t, other, cache...)), "minimist 1.2.0")
}
