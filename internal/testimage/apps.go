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

// Seldom is a small Debian image with files that analyzers ask for and seldom open. An Ansible project lies in an upper layer:
// of its group variables, which have no extension, one is a fault. Of four Python packages one names its
// license file, one a file that nobody would expect, one a file that is not there, one none.
func Seldom(t testing.TB) Spec {
	t.Helper()
	const license = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation " +
		"files (the \"Software\"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, " +
		"merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished " +
		"to do so, subject to the following conditions:\n\nThe above copyright notice and this permission notice shall be included in all " +
		"copies or substantial portions of the Software.\n\nTHE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR " +
		"IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN " +
		"NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF " +
		"CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.\n"
	var python Layer
	for _, p := range []struct{ name, field string }{
		{"named", "License-File: LICENSE\n"}, {"folded", "License-File:\n  docs/RECORD\n"}, {"gone", "License-File: COPYING\n"}, {"silent", ""},
	} {
		folder := "usr/lib/python3/dist-packages/" + p.name + "-1.0.dist-info/"
		python = append(python,
			Text(folder+"METADATA", "Metadata-Version: 2.1\nName: "+p.name+"\nVersion: 1.0\n"+p.field+"\nRECORD LICENSE\n"),
			Text(folder+"LICENSE", "MIT License\n\n"+license), Text(folder+"RECORD", "MIT License\n\n"+license), Text(folder+"WHEEL", "Wheel-Version: 1.0\n"))
	}
	return Spec{
		Name: "seldom",
		Layers: []Layer{
			smallDebian(t),
			Join(python, Layer{Text("srv/doc/README", "no extension\n"), Text("srv/doc/settings.ini", "a = b\n"), Text("srv/doc/list.yml", "- a\n")}).WithParents(),
			Layer{
				Text("srv/site/site.yml", "- name: buckets\n  hosts: localhost\n  tasks:\n    - name: bucket\n      amazon.aws.s3_bucket:\n"+
					"        name: bucket\n        state: present\n        acl: \"{{ acl }}\"\n"),
				Text("srv/site/inventory", "[web]\nhost1\n"),
				Text("srv/site/group_vars/all", "acl: public-read\n"),
			}.WithParents(),
			Layer{
				Text("srv/infra/main.tf", "variable \"acl\" {}\nresource \"aws_s3_bucket\" \"logs\" {\n  bucket = \"logs\"\n  acl    = var.acl\n}\n"+
					"module \"data\" {\n  source = \"./data\"\n  name   = file(\"${path.module}/name.txt\")\n}\n"),
				Text("srv/infra/terraform.tfvars", "acl = \"public-read\"\n"),
				Text("srv/infra/name.txt", "data\n"),
				Text("srv/infra/data/bucket.tf.json", `{"variable": {"name": {}}, "resource": {"aws_s3_bucket": {"data": {"bucket": "${var.name}", "acl": "public-read-write"}}}}`+"\n"),
				Text("srv/infra/plan.json", `{"format_version": "1.2", "terraform_version": "1.9.0", "planned_values": {"root_module": {"resources": [`+
					`{"address": "aws_s3_bucket.planned", "mode": "managed", "type": "aws_s3_bucket", "name": "planned", `+
					`"provider_name": "aws", "schema_version": 0, "values": {"bucket": "planned", "acl": "public-read"}}]}}, `+
					`"resource_changes": [{"address": "aws_s3_bucket.planned", "mode": "managed", "type": "aws_s3_bucket", "name": "planned", `+
					`"change": {"actions": ["create"], "before": null, "after": {"bucket": "planned", "acl": "public-read"}}}], "configuration": {"root_module": {"resources": [`+
					`{"address": "aws_s3_bucket.planned", "mode": "managed", "type": "aws_s3_bucket", "name": "planned", "provider_config_key": "aws", "expressions": {}}]}}}`+"\n"),
			}.WithParents(),
		},
		Config:       v1.Config{Env: []string{"PATH=/usr/bin:/bin"}, Cmd: []string{"sh"}},
		EmptyHistory: []v1.History{EmptyHistory(`CMD ["sh"]`)},
	}
}
