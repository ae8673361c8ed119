package testimage

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// tensorflowWheels are TensorFlow and what pip installs with it.
var tensorflowWheels = []string{"absl-py==2.1.0", "astunparse==1.6.3", "certifi==2024.7.4", "charset-normalizer==3.3.2",
	"flatbuffers==24.3.25", "gast==0.6.0", "google-pasta==0.2.0", "grpcio==1.65.1", "h5py==3.11.0", "idna==3.7",
	"keras==3.4.1", "libclang==18.1.1", "Markdown==3.6", "markdown-it-py==3.0.0", "MarkupSafe==2.1.5", "mdurl==0.1.2",
	"ml-dtypes==0.4.0", "namex==0.0.8", "numpy==1.26.4", "opt-einsum==3.3.0", "optree==0.12.1", "packaging==24.1",
	"protobuf==4.25.3", "Pygments==2.18.0", "requests==2.32.3", "rich==13.7.1", "setuptools==71.0.4", "six==1.16.0",
	"tensorboard==2.17.0", "tensorboard-data-server==0.7.2", "tensorflow==2.17.0", "termcolor==2.4.0",
	"typing-extensions==4.12.2", "urllib3==2.2.2", "Werkzeug==3.0.3", "wheel==0.43.0", "wrapt==1.16.0"}

// TensorFlow is TensorFlow from PyPI on Debian's Python: over 1 GB of files, most of it in few shared libraries.
func TensorFlow(t testing.TB) Spec {
	t.Helper()
	return Spec{
		Name: "tensorflow",
		Layers: []Layer{
			DebianLayer(t, debianBase...),
			DebianUpgradeLayer(t, debianBase, withDependencies(t, debianBase, "python3")...),
			PythonLayer(t, tensorflowWheels...),
		},
		Config:       v1.Config{Env: []string{"PATH=/usr/bin:/bin"}, Cmd: []string{"python3"}},
		EmptyHistory: []v1.History{EmptyHistory(`CMD ["python3"]`)},
	}
}
