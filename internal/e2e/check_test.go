package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// checkSpec is a small image, which the functions alter.
func checkSpec(alter ...func(*testimage.Spec)) testimage.Spec {
	s := testimage.Spec{
		Name: "check",
		Layers: []testimage.Layer{
			{
				testimage.Dir("etc"),
				testimage.Text("etc/motd", strings.Repeat("welcome\n", 1000)),
				testimage.Text("etc/issue", "hello\n"),
				testimage.Text("etc/deleted", "gone\n"),
				testimage.Sym("etc/link", "motd"),
				testimage.Text("etc/\x1b[31mred", "colour\n"),
			},
			{testimage.Whiteout("etc/deleted"), testimage.Text("srv", "data\n")},
		},
		Config: v1.Config{Env: []string{"PATH=/bin", "LANG=C"}, Cmd: []string{"sh"}},
	}
	for _, f := range alter {
		f(&s)
	}
	return s
}

// changed replaces a file of the lowest layer.
func changed(path string, f func(*testimage.File)) func(*testimage.Spec) {
	return func(s *testimage.Spec) {
		for i := range s.Layers[0] {
			if s.Layers[0][i].Path == path {
				f(&s.Layers[0][i])
			}
		}
	}
}

// checkPair pushes an OCI image, tag oci, and the Nydus image, tag nydus, of
// another that is altered.
func checkPair(t *testing.T, r *testregistry.Registry, o testimage.ConvertOptions, alter ...func(*testimage.Spec)) (oci, nydus string) {
	t.Helper()
	repository := r.Host() + "/test/check"
	testimage.Push(t, repository+":oci", testimage.BuildOCI(t, checkSpec()))
	testimage.Push(t, repository+":nydus", testimage.Convert(t, testimage.BuildOCI(t, checkSpec(alter...)), o))
	return repository + ":oci", repository + ":nydus"
}

// runCheck runs the check command with a cache of its own.
func runCheck(t *testing.T, args ...string) result {
	t.Helper()
	return run(t, "trivy-nydus", slices.Concat([]string{"check", "--cache-dir", t.TempDir()}, args)...)
}

// verdict is the last line of a table.
func verdict(r result) string {
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	return lines[len(lines)-1]
}

// checkJSON runs the check command and decodes its report.
func checkJSON(t *testing.T, code int, args ...string) map[string]any {
	t.Helper()
	r := runCheck(t, append([]string{"--format", "json"}, args...)...)
	require.Equal(t, code, r.code, "%s\n%s", r.stdout, r.stderr)
	var document map[string]any
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &document), r.stdout)
	return document
}

func pairOf(document map[string]any, i int) map[string]any {
	return document["pairs"].([]any)[i].(map[string]any)
}

// foundIn lists what differs in a pair as "rule path field".
func foundIn(pair map[string]any) []string {
	var found []string
	for _, rule := range list(pair["rules"]) {
		rule := rule.(map[string]any)
		for _, path := range list(rule["paths"]) {
			path := path.(map[string]any)
			for _, field := range list(path["fields"]) {
				found = append(found, strings.Join([]string{rule["rule"].(string), path["path"].(string), field.(map[string]any)["field"].(string)}, " "))
			}
		}
	}
	return found
}

const sourceDigest = `manifest manifest annotations["containerd.io/snapshot/nydus-source-digest"]`

func TestCheckEqual(t *testing.T) {
	registry := testregistry.Start(t)
	for _, o := range []testimage.ConvertOptions{
		{FSVersion: "5", Compressor: "lz4_block"}, {FSVersion: "6", Compressor: "zstd"}, {FSVersion: "6", Compressor: "none", Referrer: true},
	} {
		oci, nydus := checkPair(t, registry, o)
		for depth, want := range map[string]string{
			"none": "equal; content not compared", "digest": "equal; blob data not read", "full": "equal; every byte read",
		} {
			r := runCheck(t, "--data", depth, oci, nydus)
			require.Zero(t, r.code, "%s\n%s", r.stdout, r.stderr)
			assert.Equal(t, want, verdict(r))
			assert.Contains(t, r.stdout, "no difference")
			assert.NotContains(t, r.stdout, "\x1b")
		}
		r := runCheck(t, "--quiet", oci, nydus)
		assert.Empty(t, r.stderr)

		r = runCheck(t, nydus)
		require.Zero(t, r.code, "%s\n%s", r.stdout, r.stderr)
		assert.Equal(t, "no fault found; blob data not read; there was no OCI image to compare with", verdict(r))
	}
}

// TestCheckReadsNoData: by digests, the Nydus image costs its metadata.
func TestCheckReadsNoData(t *testing.T) {
	registry := testregistry.Start(t)
	noise := testimage.Reg("noise", testNoise(4<<20))
	repository := registry.Host() + "/test/noise"
	image := testimage.BuildOCI(t, checkSpec(func(s *testimage.Spec) { s.Layers[0] = append(s.Layers[0], noise) }))
	oci, nydus := repository+":oci", repository+":nydus"
	testimage.Push(t, oci, image)
	testimage.Push(t, nydus, testimage.Convert(t, image, testimage.ConvertOptions{}))
	pair := pairOf(checkJSON(t, 0, oci, nydus), 0)
	assert.Less(t, pair["target"].(map[string]any)["fetchedBytes"], 256e3)
	assert.Greater(t, pair["source"].(map[string]any)["fetchedBytes"], 4e6)
	pair = pairOf(checkJSON(t, 0, "--data", "none", oci, nydus), 0)
	assert.Less(t, pair["target"].(map[string]any)["fetchedBytes"], 256e3)
	pair = pairOf(checkJSON(t, 0, "--data", "full", oci, nydus), 0)
	assert.Greater(t, pair["target"].(map[string]any)["fetchedBytes"], 4e6)
	assert.Greater(t, pair["compared"].(map[string]any)["blobBytes"], 4e6)
}

// testNoise is data that does not compress, the same each time.
func testNoise(n int) []byte {
	data, state := make([]byte, n), uint32(1)
	for i := range data {
		state = state*1664525 + 1013904223
		data[i] = byte(state >> 24)
	}
	return data
}

// TestCheckDifferent alters one thing of the image that is converted.
func TestCheckDifferent(t *testing.T) {
	registry := testregistry.Start(t)
	for _, version := range []string{"5", "6"} {
		for _, c := range []struct {
			name  string
			alter func(*testimage.Spec)
			want  []string
		}{
			{"mode", changed("etc/motd", func(f *testimage.File) { f.Mode = 0o4755 }), []string{"filesystem etc/motd mode"}},
			{"owner", changed("etc/motd", func(f *testimage.File) { f.UID, f.GID = 7, 8 }), []string{"filesystem etc/motd gid", "filesystem etc/motd uid"}},
			{"content", changed("etc/motd", func(f *testimage.File) { f.Data = []byte(strings.Repeat("Welcome\n", 1000)) }), []string{"filesystem etc/motd content"}},
			{"link", changed("etc/link", func(f *testimage.File) { f.Link = "m0td" }), []string{"filesystem etc/link symlink"}},
			{"missing", func(s *testimage.Spec) { s.Layers[1] = s.Layers[1][:1] }, []string{"filesystem srv missing"}},
			{"extra", func(s *testimage.Spec) { s.Layers[1] = s.Layers[1][1:] }, []string{"filesystem etc/deleted extra"}},
			{"config", func(s *testimage.Spec) { s.Config.Env[1] = "LANG=D" }, []string{"manifest config config.Env[1]"}},
		} {
			t.Run("v"+version+"/"+c.name, func(t *testing.T) {
				oci, nydus := checkPair(t, registry, testimage.ConvertOptions{FSVersion: version}, c.alter)
				want := append(c.want, sourceDigest)
				document := checkJSON(t, 1, oci, nydus)
				assert.ElementsMatch(t, want, foundIn(pairOf(document, 0)))
				assert.Equal(t, "different", document["verdict"])

				// As a table, which marks what differs.
				r := runCheck(t, oci, nydus)
				assert.Equal(t, 1, r.code)
				assert.Regexp(t, `^different: \d differences in 2 paths; blob data not read$`, verdict(r))
				assert.Equal(t, len(want), strings.Count(r.stdout, "\n  ! "), r.stdout)

				// That the image names another source is beside the point.
				r = runCheck(t, "--ignore", "manifest:annotations*", oci, nydus)
				assert.Equal(t, 1, r.code)
				assert.Contains(t, r.stdout, "1 ignored")
				path := strings.Fields(c.want[0])[1]
				r = runCheck(t, "--ignore", "manifest:annotations*", "--ignore", path, oci, nydus)
				assert.Zero(t, r.code, r.stdout)
			})
		}
	}
}

// TestCheckTable shows all that both sides have at a path.
func TestCheckTable(t *testing.T) {
	registry := testregistry.Start(t)
	oci, nydus := checkPair(t, registry, testimage.ConvertOptions{},
		changed("etc/\x1b[31mred", func(f *testimage.File) { f.Mode = 0o600 }))
	r := runCheck(t, oci, nydus)
	assert.Equal(t, 1, r.code)
	assert.NotContains(t, r.stdout, "\x1b", "a file's name must not reach the terminal as it is")
	assert.Contains(t, r.stdout, `filesystem: etc/\x1b[31mred`)
	for _, line := range []string{
		`OCI image +Nydus image`, `  type +regular file +regular file`, `! mode +0644 +0600`, `  uid +0 +0`, `  size +7 +7`,
		`filesystem +different +\d+\.\d s  1 difference`, `bootstrap +equal +\d+\.\d s  no difference`,
	} {
		assert.Regexp(t, `(?m)^ *`+strings.TrimLeft(line, " ")+`$`, r.stdout)
	}

	// In colours on a terminal.
	on := func(env ...string) string {
		cmd := exec.Command("script", "--quiet", "--return", "--command",
			strings.Join([]string{built(t, "trivy-nydus"), "check", "--no-progress", "--cache-dir", t.TempDir(), oci, nydus}, " "), "/dev/null")
		cmd.Env = append(os.Environ(), env...)
		output, _ := cmd.Output() // it ends with the code of the check
		return string(output)
	}
	assert.Contains(t, on("TERM=xterm"), "\x1b[31m  ! mode")
	assert.NotContains(t, on("TERM=xterm", "NO_COLOR=1"), "\x1b")
}

// TestCheckProgress looks at a terminal, where the check shows how far it is.
func TestCheckProgress(t *testing.T) {
	registry := testregistry.Start(t)
	oci, nydus := checkPair(t, registry, testimage.ConvertOptions{})
	oci, nydus = slowly(t, registry, oci), slowly(t, registry, nydus)
	report := filepath.Join(t.TempDir(), "report")
	on := func(flags ...string) string {
		command := slices.Concat([]string{built(t, "trivy-nydus"), "check", "--output", report, "--cache-dir", t.TempDir(), oci, nydus}, flags)
		output, err := exec.Command("script", "--quiet", "--return", "--command", strings.Join(command, " "), "/dev/null").Output()
		require.NoError(t, err, "%s", output)
		return string(output)
	}
	assert.Regexp(t, `\d+.* / \d+.*B`, on())
	assert.Empty(t, on("--quiet"))
	assert.NotContains(t, on("--no-progress"), " / ")
	data, err := os.ReadFile(report)
	require.NoError(t, err)
	assert.Contains(t, string(data), "equal; blob data not read")
	assert.NotContains(t, string(data), "\x1b", "a file is no terminal")
}

func TestCheckLimit(t *testing.T) {
	registry := testregistry.Start(t)
	oci, nydus := checkPair(t, registry, testimage.ConvertOptions{}, func(s *testimage.Spec) {
		for i := range s.Layers[0] {
			s.Layers[0][i].UID, s.Layers[0][i].GID = 5, 6
		}
	})
	all := pairOf(checkJSON(t, 1, "--limit", "0", oci, nydus), 0)
	found := foundIn(all)
	require.Len(t, found, 9, "two fields of four paths, and the source's digest")
	for limit, listed := range map[int]int{1: 1, 2: 3, 3: 3, 4: 5, 8: 9, 9: 9, 100: 9} { // a path is listed whole
		pair := pairOf(checkJSON(t, 1, "--limit", strconv.Itoa(limit), oci, nydus), 0)
		assert.EqualValues(t, 9, pair["differences"])
		assert.EqualValues(t, 5, pair["paths"])
		assert.Equal(t, found[:listed], foundIn(pair))
	}
	r := runCheck(t, "--limit", "4", oci, nydus)
	assert.Contains(t, r.stdout, "… and 4 more differences (--limit 0 lists all)")
	assert.Contains(t, verdict(r), "different: 9 differences in 5 paths")
}

// TestCheckIndex compares the twins of one index, on one and on all platforms.
func TestCheckIndex(t *testing.T) {
	registry := testregistry.Start(t)
	repository := registry.Host() + "/test/index"
	arm := func(s *testimage.Spec) { s.Platform = v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"} }
	amd64, arm64 := testimage.BuildOCI(t, checkSpec()), testimage.BuildOCI(t, checkSpec(arm))
	good := testimage.Pair{OCI: amd64, Nydus: testimage.Convert(t, amd64, testimage.ConvertOptions{})}
	bad := testimage.Pair{OCI: arm64, Nydus: testimage.Convert(t,
		testimage.BuildOCI(t, checkSpec(arm, changed("etc/motd", func(f *testimage.File) { f.Mode = 0o600 }))), testimage.ConvertOptions{})}
	for i, form := range []testimage.IndexForm{testimage.ByArtifactType, testimage.ByOSFeature} {
		both := repository + ":both" + strconv.Itoa(i)
		testimage.Push(t, both, testimage.Index(t, form, good, bad))
		r := runCheck(t, both)
		require.Zero(t, r.code, "%s\n%s", r.stdout, r.stderr)
		assert.Equal(t, "equal; blob data not read", verdict(r))
		r = runCheck(t, "--platform", "linux/arm64", both)
		require.Equal(t, 1, r.code, "%s\n%s", r.stdout, r.stderr)
		assert.Contains(t, r.stdout, "! mode")

		document := checkJSON(t, 1, "--all-platforms", both)
		require.Len(t, document["pairs"], 2)
		assert.Equal(t, []any{"linux/amd64", "equal"}, []any{pairOf(document, 0)["platform"], pairOf(document, 0)["verdict"]})
		assert.Equal(t, []any{"linux/arm64/v8", "different"}, []any{pairOf(document, 1)["platform"], pairOf(document, 1)["verdict"]})
		assert.Equal(t, "different", document["verdict"])
	}

	// One image against an index: the image says what platform it is of.
	testimage.Push(t, repository+":arm64", arm64)
	assert.Equal(t, 1, runCheck(t, repository+":arm64", repository+":both0").code)
	found := foundIn(pairOf(checkJSON(t, 1, repository+":arm64", repository+":both0"), 0))
	assert.ElementsMatch(t, []string{"filesystem etc/motd mode", sourceDigest}, found)
	testimage.Push(t, repository+":nydus-arm64", bad.Nydus)
	found = foundIn(pairOf(checkJSON(t, 1, repository+":both0", repository+":nydus-arm64"), 0))
	assert.ElementsMatch(t, []string{"filesystem etc/motd mode", sourceDigest}, found)

	// What one side lacks is a difference.
	document := checkJSON(t, 1, "--all-platforms", repository+":both0", repository+":nydus-arm64")
	require.Len(t, document["pairs"], 2)
	assert.Equal(t, []string{"manifest index linux/amd64"}, foundIn(pairOf(document, 0)))
	// A variant is a platform of its own.
	variant := func(img v1.Image, v string) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm", Variant: v}}}
	}
	testimage.Push(t, repository+":oci-arm", mutate.AppendManifests(empty.Index, variant(amd64, "v7"), variant(arm64, "")))
	testimage.Push(t, repository+":nydus-arm", mutate.AppendManifests(empty.Index, variant(good.Nydus, "v7"), variant(bad.Nydus, "")))
	document = checkJSON(t, 1, "--all-platforms", repository+":oci-arm", repository+":nydus-arm")
	require.Len(t, document["pairs"], 2)
	assert.Equal(t, []any{"linux/arm/v7", "equal"}, []any{pairOf(document, 0)["platform"], pairOf(document, 0)["verdict"]})
	assert.Equal(t, []any{"linux/arm", "different"}, []any{pairOf(document, 1)["platform"], pairOf(document, 1)["verdict"]})

	// Two images of one kind: neither is taken.
	testimage.Push(t, repository+":twice", mutate.AppendManifests(empty.Index, variant(amd64, ""), variant(good.Nydus, ""), variant(bad.Nydus, "")))
	r := runCheck(t, "--all-platforms", repository+":twice")
	assert.Equal(t, 2, r.code)
	assert.Contains(t, r.stderr, "which one is meant is not said")
	assert.Contains(t, r.stderr, "hint: name the two images by their digests")

	// No OCI image for one platform, where there is one for another.
	testimage.Push(t, repository+":lacking", mutate.AppendManifests(empty.Index, variant(amd64, "v7"), variant(good.Nydus, "v7"), variant(bad.Nydus, "")))
	document = checkJSON(t, 1, "--all-platforms", repository+":lacking")
	require.Len(t, document["pairs"], 2)
	assert.Equal(t, "equal", pairOf(document, 0)["verdict"])
	assert.Equal(t, []string{"manifest index linux/arm"}, foundIn(pairOf(document, 1)))

	// One index with two spellings of a platform.
	spelled := func(img v1.Image, v string) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64", Variant: v}}}
	}
	testimage.Push(t, repository+":spelled", mutate.AppendManifests(empty.Index, spelled(amd64, "v8"), spelled(good.Nydus, "")))
	for _, references := range [][]string{{repository + ":spelled"}, {repository + ":spelled", repository + ":spelled"}} {
		document = checkJSON(t, 0, append([]string{"--all-platforms"}, references...)...)
		require.Len(t, document["pairs"], 1)
		assert.Equal(t, "linux/arm64/v8", pairOf(document, 0)["platform"])
	}

	// Nothing to compare with, or nothing to compare.
	testimage.Push(t, repository+":oci", mutate.AppendManifests(empty.Index, spelled(amd64, "")))
	testimage.Push(t, repository+":nydus", mutate.AppendManifests(empty.Index, spelled(good.Nydus, ""), spelled(good.Nydus, "v8")))
	require.Len(t, checkJSON(t, 0, "--all-platforms", repository+":nydus")["pairs"], 2)
	for want, references := range map[string][]string{
		"or look for it with --twin":               {repository + ":oci"},
		"cannot be the source of a Nydus image":    {repository + ":nydus", repository + ":nydus"},
		"no manifest that it names is that of one": {repository + ":oci", repository + ":oci"},
	} {
		r = runCheck(t, append([]string{"--all-platforms"}, references...)...)
		assert.Equal(t, 2, r.code, references)
		assert.Contains(t, r.stderr, want)
	}

	r = runCheck(t, "--all-platforms", "--platform", "linux/amd64", repository+":both0")
	assert.Equal(t, 2, r.code)
	assert.Contains(t, r.stderr, "exclude each other")
}

// TestCheckTwin finds the Nydus image by its subject.
func TestCheckTwin(t *testing.T) {
	registry := testregistry.Start(t)
	oci, _ := checkPair(t, registry, testimage.ConvertOptions{Referrer: true})
	for _, flags := range [][]string{{"--twin"}, {"--twin", "--all-platforms"}} {
		r := runCheck(t, append(flags, oci)...)
		require.Zero(t, r.code, "%s\n%s", r.stdout, r.stderr)
		assert.Equal(t, "equal; blob data not read", verdict(r))
	}
	pair := pairOf(checkJSON(t, 0, "--twin", "--all-platforms", oci), 0)
	assert.Equal(t, "linux/amd64", pair["platform"])
	assert.NotEqual(t, pair["source"].(map[string]any)["manifest"], pair["target"].(map[string]any)["manifest"])
}

// TestCheckLayouts has either side as a folder or an archive.
func TestCheckLayouts(t *testing.T) {
	oci := testimage.BuildOCI(t, checkSpec())
	folder, archive := t.TempDir(), filepath.Join(t.TempDir(), "images.tar")
	testimage.WriteLayout(t, folder, map[string]any{"oci": oci, "nydus": testimage.Convert(t, oci, testimage.ConvertOptions{})})
	output, err := exec.Command("tar", "-cf", archive, "-C", folder, ".").CombinedOutput()
	require.NoError(t, err, "%s", output)
	for _, source := range []string{folder, archive} {
		for _, target := range []string{folder, archive} {
			for _, depth := range []string{"digest", "full"} {
				r := runCheck(t, "--data", depth, source+":oci", target+":nydus")
				assert.Zero(t, r.code, "%s\n%s", r.stdout, r.stderr)
			}
		}
	}
}

// TestCheckSchema: docs/check.md names each field of the JSON report, and no
// other.
func TestCheckSchema(t *testing.T) {
	registry := testregistry.Start(t)
	oci, nydus := checkPair(t, registry, testimage.ConvertOptions{}, changed("etc/motd", func(f *testimage.File) {
		f.Data = []byte(strings.Repeat("Welcome\n", 1000))
		f.Mode = 0o600
	}), func(s *testimage.Spec) { s.Layers[0] = append(s.Layers[0], testimage.Text("etc/\xff", "")) })
	data, err := os.ReadFile("../../docs/check.md")
	require.NoError(t, err)
	_, schema, _ := strings.Cut(string(data), "\n## JSON\n")
	documented := make(map[string]bool)
	for _, found := range regexp.MustCompile("(?m)^\\| `([a-zA-Z0-9.\\[\\]]+)` \\|").FindAllStringSubmatch(schema, -1) {
		documented[found[1]] = false
	}
	var note func(path string, value any)
	note = func(path string, value any) {
		switch value := value.(type) {
		case map[string]any:
			for name, below := range value {
				full := strings.TrimPrefix(path+"."+name, ".")
				_, known := documented[full]
				assert.True(t, known, "docs/check.md does not explain %s", full)
				documented[full] = true
				if !slices.Contains([]string{"pairs[].rules[].paths[].source", "pairs[].rules[].paths[].target"}, full) {
					note(full, below)
				} // else the names below are fields of files
			}
		case []any:
			for _, below := range value {
				note(path+"[]", below)
			}
		}
	}
	note("", checkJSON(t, 1, oci, nydus))
	note("", checkJSON(t, 0, "--all-platforms", nydus))
	note("", checkJSON(t, 2, oci+"-none", nydus))
	// A rule that cannot be completed, which has an error of its own.
	folder := t.TempDir()
	image := testimage.BuildOCI(t, checkSpec())
	testimage.WriteLayout(t, folder, map[string]any{"oci": image, "nydus": testimage.Convert(t, image, testimage.ConvertOptions{})})
	layers, err := image.Layers()
	require.NoError(t, err)
	digest, err := layers[0].Digest()
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(folder, "blobs/sha256", digest.Hex)))
	note("", checkJSON(t, 2, folder+":oci", folder+":nydus"))
	for name, seen := range documented {
		assert.True(t, seen, "docs/check.md explains %s, which was not seen", name)
	}
}
