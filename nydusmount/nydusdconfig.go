package nydusmount

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/blob"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// BackendTypes are the kinds of places that nydusd can read blobs from.
var BackendTypes = []string{"registry", "oss", "s3", "localfs"}

// A Backend is where nydusd reads blobs, in its own words
// (https://github.com/dragonflyoss/nydus/blob/master/docs/nydusd.md).
type Backend struct {
	Type   string // one of BackendTypes; "" is none
	Config json.RawMessage
}

// ParseBackend reads a backend's configuration, a JSON object. Relative paths of
// localfs are taken from this process's folder, since nydusd runs in another.
func ParseBackend(kind string, config []byte) (Backend, error) {
	if !slices.Contains(BackendTypes, kind) {
		return Backend{}, fmt.Errorf("backend type %q is none of %s", kind, strings.Join(BackendTypes, ", "))
	}
	var object map[string]any
	if err := json.Unmarshal(config, &object); err != nil || object == nil {
		// The error of the decoder could show a part of the credentials.
		return Backend{}, fmt.Errorf("the configuration of backend %s is not a JSON object", kind)
	}
	if kind != "localfs" {
		return Backend{Type: kind, Config: slices.Clone(config)}, nil
	}
	for _, name := range []string{"dir", "blob_file"} {
		if path, ok := object[name].(string); ok && path != "" {
			absolute, err := filepath.Abs(path)
			if err != nil {
				return Backend{}, fmt.Errorf("%s of backend %s: %w", name, kind, err)
			}
			object[name] = absolute
		}
	}
	resolved, err := json.Marshal(object)
	return Backend{Type: kind, Config: resolved}, err
}

// Place names the backend and where the data lies in it, without credentials; "" is
// none.
func (b Backend) Place() string {
	var config map[string]any
	if b.Type == "" || json.Unmarshal(b.Config, &config) != nil {
		return b.Type
	}
	maps.DeleteFunc(config, func(name string, _ any) bool { return !slices.Contains(public, name) })
	place, err := json.Marshal(config) // sorted by name
	if err != nil {
		return b.Type
	}
	return b.Type + " " + string(place)
}

const (
	backendTimeout = 30 // seconds for one request
	connectTimeout = 10 // seconds
	// backendRetries come after half a second, a second …, for each of the reads
	// that one read of a file can need.
	backendRetries = 2
)

type registryConfig struct {
	Scheme         string `json:"scheme"`
	Host           string `json:"host"`
	Repo           string `json:"repo"`
	Auth           string `json:"auth,omitempty"`
	SkipVerify     bool   `json:"skip_verify"`
	Timeout        int    `json:"timeout"`
	ConnectTimeout int    `json:"connect_timeout"`
	RetryLimit     int    `json:"retry_limit"`
}

// inferBackend describes the place that the image came from. Links are the
// blobs of an OCI layout, which nydusd wants to be named by their IDs.
func inferBackend(ctx context.Context, image *nydusimage.Image, skipVerify bool) (Backend, map[string]string, error) {
	access, err := image.Access(ctx)
	if errors.Is(err, nydusimage.ErrLogin) {
		return Backend{}, nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if err != nil {
		return Backend{}, nil, err
	}
	if access == nil {
		return layoutBackend(image)
	}
	if image.Reference != nil && access.Host != image.Reference.Context().RegistryStr() {
		return Backend{}, nil, fmt.Errorf("%w: the image was read from the mirror %s", ErrRefused, access.Host)
	}
	c := registryConfig{
		Scheme: access.Scheme, Host: access.Host, Repo: access.Repository, SkipVerify: skipVerify,
		Timeout: backendTimeout, ConnectTimeout: connectTimeout, RetryLimit: backendRetries,
	}
	if access.Username != "" || access.Password != "" {
		c.Auth = base64.StdEncoding.EncodeToString([]byte(access.Username + ":" + access.Password))
	}
	config, err := json.Marshal(c)
	return Backend{Type: "registry", Config: config}, nil, err
}

func layoutBackend(image *nydusimage.Image) (Backend, map[string]string, error) {
	links := make(map[string]string, len(image.Layers))
	for i := range image.Layers {
		layer := &image.Layers[i]
		sources := map[string]blob.Source{layer.Digest.Hex: layer.Source}
		if id := layer.BlobID(); id != layer.Digest.Hex { // the data lies in an OCI layer
			data, err := image.Data(layer, 0)
			if err != nil {
				return Backend{}, nil, err
			}
			sources[id] = data
		}
		for id, source := range sources {
			var err error
			if links[id], err = blobPath(source); err != nil {
				return Backend{}, nil, fmt.Errorf("blob %s: %w", id, err)
			}
		}
	}
	config, err := json.Marshal(map[string]string{"dir": blobsDir})
	return Backend{Type: "localfs", Config: config}, links, err
}

// blobPath is the absolute path of a blob that is a file.
func blobPath(source blob.Source) (string, error) {
	file, ok := source.(interface{ Path() (string, bool) })
	if !ok {
		return "", fmt.Errorf("%w: it is no file", ErrRefused)
	}
	path, ok := file.Path()
	if !ok {
		return "", fmt.Errorf("%w: the image lies in an archive: unpack it to a folder", ErrRefused)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return path, inLayout(path, source.Size())
}

// inLayout refuses a blob of a layout that is not a file in there. nydusd reads it as
// it is, and verifies none of RAFS v6: a link to another file of this machine would be
// shown as the image's data.
func inLayout(path string, size int64) error {
	const below = 3 // blobs/sha256/HEX
	root, err := filepath.EvalSymlinks(filepath.Join(path, strings.Repeat("../", below)))
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	if inside, err := filepath.Rel(root, real); err != nil || !filepath.IsLocal(inside) {
		return fmt.Errorf("%w: %s leads out of the OCI layout", ErrRefused, path)
	}
	info, err := os.Stat(real)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: %s is no regular file", ErrRefused, path)
	case size > 0 && info.Size() != size:
		return fmt.Errorf("%w: %s has %d bytes, the manifest says %d", ErrRefused, path, info.Size(), size)
	}
	return nil
}

type object map[string]any

// nydusdConfig is nydusd's configuration, of its version 2: by one of version
// 1, nydusd compares no data with its digest, whatever digest_validate says there.
// Without a cache in a folder nydusd 2.2 fetches a chunk anew for each read, and
// without the folder's name it would write beside the blobs.
func nydusdConfig(b Backend, validate, prefetch bool) ([]byte, error) {
	ahead := object{"enable": prefetch, "prefetch_all": prefetch, "threads": 4}
	return json.Marshal(object{
		"version": 2,
		"backend": object{"type": b.Type, b.Type: b.Config},
		"cache": object{
			"type": "blobcache", "filecache": object{"work_dir": cacheDir},
			"validate": validate, // data
			"prefetch": ahead,
		},
		"rafs": object{
			"mode": "direct", "enable_xattr": true, "iostats_files": false,
			"validate": validate, // the bootstrap
			"prefetch": ahead,
		},
	})
}

// public are the fields of backends that hold no secret. All other strings are
// kept out of messages.
var public = []string{
	"scheme", "host", "repo", "dir", "blob_file", "endpoint", "bucket_name", "region", "object_prefix",
	"blob_url_scheme", "blob_redirected_host",
}

// secrets lists what must not be shown of the configuration, also in the forms
// in which nydusd could write it.
func (b Backend) secrets() []string {
	var config any
	if json.Unmarshal(b.Config, &config) != nil {
		return nil
	}
	var found []string
	// Also as nydusd's log and a form write them.
	add := func(secret string) {
		quoted := strconv.Quote(secret)
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), quoted[1 : len(quoted)-1]} {
			if !slices.Contains(found, form) {
				found = append(found, form)
			}
		}
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, value := range v {
				if !slices.Contains(public, name) {
					walk(value)
				}
			}
		case []any:
			for _, value := range v {
				walk(value)
			}
		case string:
			if len(v) < 4 {
				return // would blacken every text
			}
			add(v)
			if plain, err := base64.StdEncoding.DecodeString(v); err == nil {
				if _, password, ok := strings.Cut(string(plain), ":"); ok && len(password) >= 4 {
					add(string(plain))
					add(password)
				}
			}
		}
	}
	walk(config)
	// The longest first: one may be a part of another.
	slices.SortFunc(found, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return found
}

// redact takes secrets out of a text.
func redact(text string, secrets []string) string {
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, "***")
	}
	return text
}
