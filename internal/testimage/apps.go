package testimage

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// plantedToken looks like a GitHub token, for the places of an image that are no files. It is put together here so that no
// scanner of this repository's sources takes it for one.
const plantedToken = "gh" + "p_" + "J3kT9wQz7LmX2vBn5RcY8sHd4FgA1eUo6PiW"

// Wheels is a small Debian image with Python packages, of which an upper layer replaces one as pip does: the old
// dist-info is deleted, the new one added, files of both are replaced. One package has the older egg-info.
func Wheels(t testing.TB) Spec {
	t.Helper()
	old := PythonLayer(t, "urllib3==1.24.1")
	update := PythonLayer(t, "urllib3==1.26.18")
	for _, f := range old {
		if f.Type == Directory && f.Path == "usr/lib/python3/dist-packages/urllib3-1.24.1.dist-info" {
			update = append(update, Whiteout(f.Path))
		}
	}
	return Spec{
		Name: "wheels",
		Layers: []Layer{
			smallDebian(t),
			Join(old, PythonLayer(t, "requests==2.19.1", "jinja2==2.10"), Layer{
				Text("usr/lib/python3/dist-packages/six-1.16.0.egg-info",
					"Metadata-Version: 1.2\nName: six\nVersion: 1.16.0\nSummary: Python 2 and 3 compatibility utilities\nLicense: MIT\n"),
				Text("srv/app/requirements.txt", "jinja2==2.10\n"),
				Text("srv/app/notebook.py", "# plain source\nprint('hello')\n"),
			}).WithParents(),
			update,
		},
		Config:       v1.Config{Env: []string{"PATH=/usr/bin:/bin"}, Cmd: []string{"python3"}},
		EmptyHistory: []v1.History{EmptyHistory(`CMD ["python3"]`)},
	}
}

// smallDebian is a layer with just enough packages for Trivy to see Debian.
func smallDebian(t testing.TB) Layer {
	t.Helper()
	return DebianLayer(t, "base-files", "sensible-utils", "hostname")
}

// NonRoot is an image that runs as an ordinary user, on a base image whose end its history shows. Secrets lie in its
// environment, in its history, in a file of the base and in one of its own.
func NonRoot(t testing.TB) Spec {
	t.Helper()
	at := v1.Time{Time: DefaultTime}
	return Spec{
		Name: "nonroot",
		Layers: []Layer{
			Join(smallDebian(t), Layer{SecretFile("opt/base/token.env")}).WithParents(),
			Layer{Dir("home/app").WithOwner(1000, 1000), SecretFile(SecretPath).WithOwner(1000, 1000).WithMode(0o600),
				Text("srv/app/Dockerfile", "FROM debian:latest\nRUN sudo apt-get update\nUSER root\n"),
				Text("srv/app/deploy.yaml", podManifest), Text("srv/app/image.build", "FROM debian:latest\nUSER root\n"),
			}.WithParents(),
		},
		Config: v1.Config{
			Env:  []string{"PATH=/usr/bin:/bin", "GITHUB_PAT=" + plantedToken},
			User: "1000:1000", Entrypoint: []string{"/srv/app/run"}, WorkingDir: "/srv/app",
			Healthcheck: &v1.HealthConfig{Test: []string{"CMD", "true"}},
		},
		History: []v1.History{
			{Created: at, CreatedBy: "/bin/sh -c #(nop) ADD file:1a2b3c in / "},
			EmptyHistory(`/bin/sh -c #(nop)  CMD ["bash"]`),
			EmptyHistory("ENV GITHUB_PAT=" + plantedToken),
			{Created: at, CreatedBy: "RUN /bin/sh -c curl -H 'Authorization: token " + plantedToken + "' https://example.test/ # buildkit", Comment: "buildkit.dockerfile.v0"},
			EmptyHistory("USER 1000:1000"),
			EmptyHistory(`ENTRYPOINT ["/srv/app/run"]`),
		},
	}
}

// podManifest is a Kubernetes manifest that checks find fault with.
const podManifest = `apiVersion: v1
kind: Pod
metadata:
  name: app
spec:
  containers:
    - name: app
      image: example.test/app:latest
      securityContext:
        privileged: true
`
