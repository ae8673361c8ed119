package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// leading is an image with projects that name files in a folder of this machine, and a
// host: an inventory, a role, a template, and a module that is not in the image.
func leading(folder, host string) testimage.Spec {
	play := func(text string) string { return "- name: buckets\n  hosts: host1\n" + text }
	bucket := func(acl string) string {
		return play("  tasks:\n    - name: bucket\n      amazon.aws.s3_bucket:\n        name: b\n        state: present\n        acl: \"" + acl + "\"\n")
	}
	return testimage.Spec{
		Name: "leading",
		Layers: []testimage.Layer{testimage.Layer{
			testimage.Text("srv/listed/ansible.cfg", "[defaults]\ninventory = "+folder+"/hosts\n"),
			testimage.Text("srv/listed/site.yml", bucket("{{ acl }}")),
			testimage.Text("srv/acting/ansible.cfg", "[defaults]\ninventory = hosts\n"),
			testimage.Text("srv/acting/site.yml", play("  roles:\n    - "+folder+"/role\n")),
			testimage.Text("srv/written/ansible.cfg", "[defaults]\n"),
			testimage.Text("srv/written/site.yml", bucket("{{ '' }}{% include '"+folder+"/text' %}")),
			testimage.Text("srv/terraform/main.tf", "resource \"aws_s3_bucket\" \"own\" {\n  bucket = \"own\"\n  acl    = \"public-read\"\n}\n"+
				"module \"other\" {\n  source = \"https://"+host+"/module.zip\"\n}\n"+
				"module \"listed\" {\n  source = \""+host+"/a/b/c\"\n  version = \"1.0.0\"\n}\n"),
		}.WithParents()},
		Config:       v1.Config{Env: []string{"PATH=/usr/bin:/bin"}, Cmd: []string{"sh"}},
		EmptyHistory: []v1.History{testimage.EmptyHistory(`CMD ["sh"]`)},
	}
}

// TestProjectsLeadNowhere: what projects in an image name on this machine or elsewhere is
// not opened, unless the user allows it, which shows that it would have been.
func TestProjectsLeadNowhere(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600))
	}
	write("hosts", "[all]\nhost1\n[all:vars]\nacl=public-read\n")
	write("role/tasks/main.yml", "- name: bucket\n  amazon.aws.s3_bucket:\n    name: b\n    state: present\n    acl: public-read\n")
	write("text", "public-read")
	var connections atomic.Int32
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = c.Close()
		}
	}()
	registry := testregistry.Start(t)
	image := publish(t, registry, leading(folder, listener.Addr().String())) + ":v6"
	scan := func(flags ...string) (text string, r result) {
		file := filepath.Join(t.TempDir(), "report.json")
		r = run(t, "trivy-nydus", append(append([]string{"--cache-dir", cacheDir(t), "--scanners", "misconfig", "--format", "json", "--output", file}, flags...), image)...)
		data, _ := os.ReadFile(file)
		return string(data), r
	}
	// public is the finding that a bucket is public: the projects cannot know without what they name.
	const public = `"ID": "AWS-0092"`
	text, r := scan(offline...)
	require.Zero(t, r.code, r.stderr)
	assert.Equal(t, 1, strings.Count(text, public), "Terraform's own")
	assert.Zero(t, connections.Load())
	for _, file := range []string{"terraform/main.tf", "listed/site.yml", "written/site.yml"} {
		assert.Equal(t, 1, strings.Count(text, `"Target": "srv/`+file+`"`), "what is in the image is scanned")
	}
	assert.Contains(t, r.stderr, "Failed to load module")

	text, r = scan(append([]string{"--allow-unconfined"}, offline...)...)
	require.Zero(t, r.code, r.stderr)
	assert.Equal(t, 4, strings.Count(text, public), "of an inventory, a role and a template, too")
	assert.NotZero(t, connections.Load())

	// What the user names on this machine is not opened for an image either.
	text, r = scan(append([]string{"--ansible-inventory", folder + "/hosts"}, offline...)...)
	assert.Equal(t, 2, r.code)
	assert.Empty(t, text)
	assert.Contains(t, r.stderr, "--allow-unconfined")
	text, r = scan(append([]string{"--ansible-inventory", folder + "/hosts", "--misconfig-scanners", "terraform"}, offline...)...)
	assert.Zero(t, r.code, r.stderr)
	assert.Equal(t, 1, strings.Count(text, public))
}

// TestProjectsEnd: the process that scans projects ends with the plugin, however that
// ends, and takes no signal of a terminal's for its own.
func TestProjectsEnd(t *testing.T) {
	registry := testregistry.Start(t)
	image := publish(t, registry, leading(t.TempDir(), "127.0.0.1:1")) + ":v6"
	for name, c := range map[string]struct {
		signal syscall.Signal
		code   int
	}{"interrupted": {syscall.SIGINT, 130}, "killed": {syscall.SIGKILL, -1}} {
		t.Run(name, func(t *testing.T) {
			cache := cacheDir(t)
			p := start(t, "trivy-nydus", append(slices.Clone(offline), "--cache-dir", cache, "--scanners", "misconfig", image)...)
			var child int
			require.Eventually(t, func() bool {
				child = confinedChild(p.Process.Pid)
				return child != 0
			}, time.Minute, time.Millisecond)
			require.NoError(t, p.Process.Signal(c.signal))
			r := p.wait(t)
			assert.Equal(t, c.code, r.code, r.stderr)
			assert.Eventually(t, func() bool { return !alive(child) }, 10*time.Second, 10*time.Millisecond)
			r = run(t, "trivy-nydus", append(slices.Clone(offline), "--cache-dir", cache, "--scanners", "misconfig", image)...)
			assert.Zero(t, r.code, r.stderr)
		})
	}
}

// confinedChild is the process of a plugin's that scans projects, 0 if there is none.
func confinedChild(parent int) int {
	var children []byte
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	for _, task := range tasks {
		more, _ := os.ReadFile(task)
		children = append(append(children, ' '), more...)
	}
	for _, id := range strings.Fields(string(children)) {
		words, _ := os.ReadFile("/proc/" + id + "/cmdline")
		if strings.Contains(string(words), "--confined-part") {
			pid, _ := strconv.Atoi(id)
			return pid
		}
	}
	return 0
}

// alive says whether a process has not ended; one that nobody has waited for has.
func alive(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(status), ") Z ")
}
