package testimage

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
)

// NodeLayer is a layer with packages ("lodash@4.17.20") unpacked below usr/lib/node_modules, as npm install -g does.
func NodeLayer(t testing.TB, packages ...string) Layer {
	t.Helper()
	var out Layer
	for _, p := range packages {
		file := onlyFile(t, cached(t, "npm", strings.ReplaceAll(p, "/", "+"), func(dir string) error {
			_, err := run(dir, "npm", "pack", "--silent", p)
			return err
		}))
		name := p[:strings.LastIndex(p, "@")]
		for _, f := range readTarGz(t, file) {
			_, below, _ := strings.Cut(f.Path, "/") // npm puts all into one folder, mostly "package"
			if below == "" || f.Type != Regular {
				continue
			}
			out = append(out, Reg(path.Join("usr/lib/node_modules", name, below), f.Data).WithMode(f.Mode|0o644))
		}
	}
	return out.WithParents()
}

// PythonLayer is a layer with wheels ("requests==2.19.1") unpacked in usr/lib/python3/dist-packages, dist-info included.
func PythonLayer(t testing.TB, packages ...string) Layer {
	t.Helper()
	var out Layer
	for _, p := range packages {
		file := onlyFile(t, cached(t, "wheel", p, func(dir string) error {
			_, err := run(dir, "pip", "download", "--no-deps", "--quiet", "--only-binary", ":all:",
				"--disable-pip-version-check", p)
			return err
		}))
		for _, f := range readZip(t, file) {
			f.Path = path.Join("usr/lib/python3/dist-packages", f.Path)
			out = append(out, f)
		}
	}
	return out.WithParents()
}

// The program of GoBinaryLayer: an old golang.org/x/text, which has known vulnerabilities.
const (
	goModule = "module example.test/app\n\ngo 1.21\n\nrequire golang.org/x/text v0.3.5\n"
	goSums   = "golang.org/x/text v0.3.5 h1:i6eZZ+zk0SOf0xgBpEpPD18qWcJda6q1sxt3S0kzyUQ=\n" +
		"golang.org/x/text v0.3.5/go.mod h1:5Zoc/QRtKVWzQhOtBMvqHzDpF6irO9z98xDceosuGiQ=\n" +
		"golang.org/x/tools v0.0.0-20180917221912-90fa682c2a6e/go.mod h1:n7NCudcB/nEzxVGmLbDWY5pfWTLqBcC2KZ6jyYvM4mQ=\n"
	goMain = "package main\n\nimport (\n\t\"fmt\"\n\n\t\"golang.org/x/text/language\"\n)\n\n" +
		"func main() { fmt.Println(language.Make(\"en\")) }\n"
)

// GoBinaryLayer is a layer with a Go program, golang.org/x/text v0.3.5 in it, at usr/local/bin/app.
func GoBinaryLayer(t testing.TB) Layer {
	t.Helper()
	dir := cached(t, "go", cacheKey(goModule, goMain), func(dir string) error {
		source, err := os.MkdirTemp("", "testimage-go")
		if err != nil {
			return err
		}
		defer os.RemoveAll(source)
		for name, content := range map[string]string{"go.mod": goModule, "go.sum": goSums, "main.go": goMain} {
			if err := os.WriteFile(filepath.Join(source, name), []byte(content), 0o644); err != nil {
				return err
			}
		}
		cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", filepath.Join(dir, "app"), ".")
		cmd.Dir = source
		cmd.Env = append(os.Environ(), "GOFLAGS=-trimpath", "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOEXPERIMENT=",
			"GOWORK=off")
		_, err = output(cmd)
		return err
	})
	return Layer{Exec("usr/local/bin/app", readFile(t, onlyFile(t, dir)))}.WithParents()
}

// JarLayer is a layer with Maven's commons-io 2.4 at opt/app/commons-io-2.4.jar.
func JarLayer(t testing.TB) Layer {
	t.Helper()
	dir := cached(t, "jar", "commons-io-2.4", func(dir string) error {
		home, err := os.UserHomeDir()
		if err != nil {
			return err
		}
		local := filepath.Join(home, ".m2/repository/commons-io/commons-io/2.4/commons-io-2.4.jar")
		raw, err := os.ReadFile(local)
		if err != nil {
			if _, err := run(dir, "mvn", "-q", "-B", "dependency:get", "-Dartifact=commons-io:commons-io:2.4",
				"-Dtransitive=false"); err != nil {
				return err
			}
			if raw, err = os.ReadFile(local); err != nil {
				return err
			}
		}
		return os.WriteFile(filepath.Join(dir, "commons-io-2.4.jar"), raw, 0o644)
	})
	return Layer{Reg("opt/app/commons-io-2.4.jar", readFile(t, onlyFile(t, dir)))}.WithParents()
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("read a cached file: %v", err)
	}
	return raw
}

func readTarGz(t testing.TB, name string) Layer {
	t.Helper()
	gz, err := gzip.NewReader(bytes.NewReader(readFile(t, name)))
	if err != nil {
		t.Fatalf("unzip %s: %v", name, err)
	}
	l, err := readTar(gz)
	if err != nil {
		t.Fatalf("unpack %s: %v", name, err)
	}
	return l
}

// readZip is the regular files of a zip archive.
func readZip(t testing.TB, name string) Layer {
	t.Helper()
	z, err := zip.OpenReader(name)
	if err != nil {
		t.Fatalf("unzip %s: %v", name, err)
	}
	defer z.Close()
	var out Layer
	for _, entry := range z.File {
		if entry.FileInfo().IsDir() {
			continue
		}
		rc, err := entry.Open()
		if err != nil {
			t.Fatalf("unzip %s: %v", name, err)
		}
		data, err := io.ReadAll(rc)
		rc.Close()
		if err != nil {
			t.Fatalf("unzip %s: %v", name, err)
		}
		file := Reg(entry.Name, data)
		if entry.Mode()&0o111 != 0 {
			file = file.WithMode(0o755) // as pip does
		}
		out = append(out, file)
	}
	return out
}
