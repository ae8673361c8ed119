//go:build linux

package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// A user is one without privileges who may open /dev/fuse.
type user struct {
	dir    string // the user's own
	nydusd string
	wrap   []string // runs a command as the user
}

// newUser skips, loudly, where there can be no such user. dir is the folder for
// temporary files.
func newUser(t *testing.T, dir, nydusd string) *user {
	t.Helper()
	home := t.TempDir()
	openToAll(t, home)
	openToAll(t, dir)
	u := &user{dir: home, nydusd: filepath.Join(home, "nydusd")}
	copyFile(t, u.nydusd, nydusd)
	const script = `rm -f "$0/fuse" && mknod -m 666 "$0/fuse" c 10 229 && mount --bind "$0/fuse" /dev/fuse &&
echo user_allow_other > "$0/fuse.conf" && { test ! -e /etc/fuse.conf || mount --bind "$0/fuse.conf" /etc/fuse.conf; } &&
exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all "$@"`
	u.wrap = []string{"unshare", "--mount", "sh", "-c", script, home}
	if out, err := exec.Command(u.wrap[0], append(slices.Clone(u.wrap[1:]), "true")...).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED, NOTHING WAS TRIED: no user without privileges: %v: %s", err, out)
	}
	return u
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	in, err := os.Open(from)
	require.NoError(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(out, in)
	require.NoError(t, err)
	require.NoError(t, out.Close())
}

// run runs a command as the user.
func (u *user) run(t *testing.T, command ...string) result {
	t.Helper()
	p := prepare(t, "trivy-nydus")
	words := append(slices.Clone(u.wrap), command...)
	wrapped := exec.Command(words[0], words[1:]...)
	wrapped.Dir, wrapped.Stdout, wrapped.Stderr = u.dir, &p.stdout, &p.stderr
	wrapped.Env = append(p.Env, "HOME="+u.dir, "XDG_CONFIG_HOME="+u.dir, "XDG_RUNTIME_DIR="+u.dir, "DOCKER_CONFIG="+u.dir)
	p.Cmd = wrapped
	require.NoError(t, p.Start())
	return p.wait(t)
}

// lookScript mounts in a folder, shows a file there, unmounts, and ends with the
// exit code of the mount command. Files are there before the command says so: an
// interrupt until then ends it before its time.
const lookScript = `mkdir point; "$@" point 2>said & pid=$!
for i in $(seq 100); do grep -q 'is mounted at' said && break; kill -0 $pid || break; sleep 0.1; done
cat point/` + testimage.SecretPath + `; kill -INT $pid; wait $pid; code=$?; cat said >&2; rm said; rmdir point && exit $code`

// TestNydusdAsUser mounts and scans without privileges. nydusd 2.2.0 mounts by
// the system call alone: it may not, but in a user namespace.
func TestNydusdAsUser(t *testing.T) {
	throughNydusd(t)
	dir := ownTemp(t)
	reference := publish(t, testregistry.Start(t), testimage.Tiny(t)) + ":v6"
	u := newUser(t, dir, testimage.Tools(t).Nydusd)
	plugin := built(t, "trivy-nydus")
	mount := []string{plugin, "mount", "--nydusd", u.nydusd, reference}
	scan := func(cache string) []string {
		return append([]string{plugin, "--mount", "nydusd", "--nydusd", u.nydusd, "--cache-dir", filepath.Join(u.dir, cache), reference}, scanFlags...)
	}
	namespace := []string{"unshare", "--user", "--map-root-user", "--mount"}

	t.Run("refused", func(t *testing.T) {
		point := filepath.Join(u.dir, "empty")
		require.NoError(t, os.Mkdir(point, 0o777))
		for _, command := range [][]string{append(slices.Clone(mount), point), scan("refused")} {
			r := u.run(t, command...)
			assert.Equal(t, 2, r.code)
			assert.Empty(t, r.stdout)
			assert.Contains(t, r.stderr, "mounting needs CAP_SYS_ADMIN")
			assert.Contains(t, r.stderr, "unshare --user --map-root-user --mount")
			assertNothingLeft(t, dir)
		}
	})
	t.Run("in a user namespace", func(t *testing.T) {
		if r := u.run(t, append(slices.Clone(namespace), "true")...); r.code != 0 {
			t.Skipf("SKIPPED, NOTHING WAS MOUNTED: no user namespaces: %s", r.stderr)
		}
		r := u.run(t, slices.Concat(namespace, []string{"sh", "-c", lookScript, "sh"}, mount)...)
		assert.Zero(t, r.code, r.stderr)
		assert.Contains(t, r.stdout, "GITHUB_PAT")
		assertNothingLeft(t, dir)
		r = u.run(t, slices.Concat(namespace, scan("namespace"), []string{"--format", "json"})...)
		assert.Zero(t, r.code, r.stderr)
		assert.Contains(t, r.stdout, testimage.SecretPath)
		assertNothingLeft(t, dir)
	})
}

// TestNewerNydusdAsUser: a newer nydusd mounts through fusermount3, which the
// plugin needs to unmount.
func TestNewerNydusdAsUser(t *testing.T) {
	needFUSE(t)
	newer := os.Getenv("NYDUSD_NEWER")
	if newer == "" {
		t.Skip("SKIPPED, NOTHING WAS MOUNTED: NYDUSD_NEWER names no nydusd that knows fusermount3")
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		t.Skipf("SKIPPED, NOTHING WAS MOUNTED: %v", err)
	}
	dir := ownTemp(t)
	reference := publish(t, testregistry.Start(t), testimage.Tiny(t)) + ":v6"
	u := newUser(t, dir, newer)
	r := u.run(t, "sh", "-c", lookScript, "sh", built(t, "trivy-nydus"), "mount", "--nydusd", u.nydusd, reference)
	assert.Zero(t, r.code, r.stderr)
	assert.Contains(t, r.stdout, "GITHUB_PAT", fmt.Sprint("it says: ", r.stderr))
	assertNothingLeft(t, dir)
}
