package testimage

import (
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

var debianBase = []string{"base-files", "base-passwd", "bash", "coreutils", "dash", "dpkg", "grep", "libacl1", "libattr1",
	"libbz2-1.0", "libc-bin", "libc6", "libcrypt1", "libgcc-s1", "libgmp10", "liblzma5", "libpcre2-8-0", "libselinux1",
	"libssl3", "libtinfo6", "libzstd1", "openssl", "perl-base", "sed", "tar", "tzdata", "zlib1g"}

// SecretPath is where DebianApp, SecretCmd and Tiny plant the secret that stays; DeletedSecretPath is where DebianApp
// and Tiny plant one that a later layer removes.
const (
	SecretPath        = "srv/app/deploy.env"
	DeletedSecretPath = "srv/app/deleted.env"
)

// runConfig is a config as an ordinary build leaves it.
func runConfig() v1.Config {
	return v1.Config{
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"},
		Entrypoint: []string{"/usr/local/bin/app"},
		Cmd:        []string{"serve"},
		WorkingDir: "/srv/app",
		User:       "1000:1000",
		Labels:     map[string]string{"org.opencontainers.image.title": "test"},
	}
}

// Debian is a Debian base image in two layers; the upper one installs curl.
func Debian(t testing.TB) Spec {
	t.Helper()
	return Spec{
		Name: "debian",
		Layers: []Layer{
			DebianLayer(t, debianBase...),
			DebianUpgradeLayer(t, debianBase, "curl", "libcurl4", "libnghttp2-14"),
		},
		Config:       v1.Config{Env: []string{"PATH=/usr/bin:/bin"}, Cmd: []string{"bash"}},
		EmptyHistory: []v1.History{EmptyHistory(`CMD ["bash"]`)},
	}
}

// DebianApp is Debian with an application in two more layers: Node, Go, Java and Python packages and two secrets; then
// one secret is deleted, minimist is replaced by a newer version and a configuration file by another.
func DebianApp(t testing.TB) Spec {
	t.Helper()
	s := Debian(t)
	s.Name, s.Config = "debian-app", runConfig()
	app := Join(
		NodeLayer(t, "lodash@4.17.20", "minimist@1.2.0"),
		PythonLayer(t, "requests==2.19.1", "urllib3==1.24.1"),
		GoBinaryLayer(t),
		JarLayer(t),
		Layer{SecretFile(SecretPath), SecretFile(DeletedSecretPath), Text("srv/app/settings.ini", "mode = old\n")},
	).WithParents()
	upper := Join(
		NodeLayer(t, "minimist@1.2.6"),
		Layer{Whiteout(DeletedSecretPath), Text("srv/app/settings.ini", "mode = new\n")},
	).WithParents()
	s.Layers = append(s.Layers, app, upper)
	s.EmptyHistory = []v1.History{EmptyHistory("USER 1000:1000"), EmptyHistory(`CMD ["serve"]`)}
	return s
}

// SecretCmd is an image of one small layer that holds a secret; its history ends in CMD. Trivy looks for no secrets in
// the layers that its reading of the history takes for the base image, so one history entry more, as converters add it,
// can hide this secret.
func SecretCmd(testing.TB) Spec {
	return Spec{
		Name:         "secret-cmd",
		Layers:       []Layer{Layer{SecretFile(SecretPath)}.WithParents()},
		Config:       v1.Config{Env: []string{"PATH=/usr/bin:/bin"}, Cmd: []string{"sh"}},
		EmptyHistory: []v1.History{EmptyHistory(`CMD ["sh"]`)},
	}
}

// Tiny is a small image, some 200 KB when converted, with the same kinds of content as DebianApp: for test data that is
// committed.
func Tiny(t testing.TB) Spec {
	t.Helper()
	base := []string{"base-files", "sensible-utils", "hostname"}
	return Spec{
		Name: "tiny",
		Layers: []Layer{
			DebianLayer(t, base...),
			Join(NodeLayer(t, "minimist@1.2.0"), Layer{SecretFile(SecretPath), SecretFile(DeletedSecretPath)}).WithParents(),
			Join(DebianUpgradeLayer(t, base, "netbase"), Layer{Whiteout(DeletedSecretPath)}).WithParents(),
		},
		Config:       runConfig(),
		EmptyHistory: []v1.History{EmptyHistory(`CMD ["serve"]`)},
	}
}

// WhiteoutInBase is an image whose lowest layer holds a whiteout. nydus-image 2.2.0 leaves it in the merged bootstrap,
// so that nydusd shows a file .wh.nothere, which no container runtime does.
func WhiteoutInBase(testing.TB) Spec {
	return Spec{Name: "whiteout-in-base", Layers: []Layer{
		{Whiteout("nothere"), Text("file", "content\n")},
		{Text("upper", "content\n")},
	}}
}

// Lossy is an image whose Nydus twin, as nydus-image 2.2.0 makes it, is not the same: owners above 2097151 and times
// before 1970, which a tar holds in PAX records only, become 0, and hard links to a FIFO become empty regular files.
func Lossy(testing.TB) Spec {
	return Spec{Name: "lossy", Layers: []Layer{{
		Text("owner", "content\n").WithOwner(3000000000, 3000000001),
		Text("time", "content\n").WithTime(time.Date(1969, 12, 31, 0, 0, 0, 0, time.UTC)),
		Pipe("fifo"), Hard("fifo-too", "fifo"),
		Text("same", "content\n"),
	}}}
}
