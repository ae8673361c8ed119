package nydusmount_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

func TestLocal(t *testing.T) {
	root := "/work/shared/samples"
	for _, name := range []string{"nm-sn-zran", "nm-sn-batch", "nm-sn-enc"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put := func(data []byte) map[string]any {
				h := fmt.Sprintf("%x", sha256.Sum256(data))
				os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o755)
				require.NoError(t, os.WriteFile(filepath.Join(dir, "blobs/sha256", h), data, 0o644))
				return map[string]any{"digest": "sha256:" + h, "size": len(data)}
			}
			var layers []any
			var ids []string
			for i := 1; i <= 4; i++ {
				data, err := os.ReadFile(fmt.Sprintf("%s/%s/l%d.nydus", root, name, i))
				require.NoError(t, err)
				d := put(data)
				d["mediaType"] = "application/vnd.oci.image.layer.nydus.blob.v1"
				a := map[string]string{"containerd.io/snapshot/nydus-blob": "true"}
				if name == "nm-sn-zran" {
					l, err := os.ReadFile(fmt.Sprintf("%s/layers/l%d.tar.gz", root, i))
					require.NoError(t, err)
					a["containerd.io/snapshot/nydus-ref"] = put(l)["digest"].(string)
				}
				d["annotations"] = a
				layers = append(layers, d)
				ids = append(ids, d["digest"].(string))
			}
			boot, err := os.ReadFile(root + "/" + name + "/bootstrap.tar")
			require.NoError(t, err)
			var gz bytes.Buffer
			w := gzip.NewWriter(&gz)
			w.Write(boot)
			w.Close()
			d := put(gz.Bytes())
			d["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip"
			d["annotations"] = map[string]string{"containerd.io/snapshot/nydus-bootstrap": "true", "containerd.io/snapshot/nydus-fs-version": "6"}
			layers = append(layers, d)
			ids = append(ids, fmt.Sprintf("sha256:%x", sha256.Sum256(boot)))
			cfg, _ := json.Marshal(map[string]any{"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": ids}})
			c := put(cfg)
			c["mediaType"] = "application/vnd.oci.image.config.v1+json"
			m, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": c, "layers": layers})
			md := put(m)
			md["mediaType"] = "application/vnd.oci.image.manifest.v1+json"
			idx, _ := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{md}})
			os.WriteFile(dir+"/index.json", idx, 0o644)
			os.WriteFile(dir+"/oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
			mount := openLayout(t, dir)
			t.Log(mount.Warnings)
			want := map[string]string{}
			cs, err := os.ReadFile(root + "/nm-sn-batch/contents.sha256")
			require.NoError(t, err)
			for l := range strings.Lines(string(cs)) {
				sum, name, _ := strings.Cut(strings.TrimSpace(l), "  ")
				want[strings.TrimPrefix(name, "./")] = sum
			}
			n := 0
			require.NoError(t, mount.Merged.Walk(func(p string, i rafs.Inode) error {
				if !i.IsRegular() {
					return nil
				}
				h := sha256.New()
				_, err := io.Copy(h, mount.Merged.Open(p, i))
				require.NoError(t, err, p)
				require.Equal(t, want[p], fmt.Sprintf("%x", h.Sum(nil)), p)
				n++
				return nil
			}))
			t.Log(n, len(want), mount.LayerTrees())
			for k, l := range mount.Layers {
				if l == nil {
					continue
				}
				require.NoError(t, l.Walk(func(p string, i rafs.Inode) error {
					if i.IsRegular() {
						_, err := io.Copy(io.Discard, l.Open(p, i))
						require.NoError(t, err, "%d %s", k, p)
					}
					return nil
				}))
			}
			_ = tar.TypeReg
		})
	}
}
