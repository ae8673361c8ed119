package nydusmount_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusmount"
)

// atOnce is how many use one thing at the same time.
const atOnce = 16

// TestOneMountManyReaders reads all of one mount many times at once. What the real
// converter was given is what each reader sees.
func TestOneMountManyReaders(t *testing.T) {
	want := testimage.Flatten(testimage.Odd(t).Layers...)
	for _, options := range []testimage.ConvertOptions{{FSVersion: "5", Compressor: "lz4_block"}, {FSVersion: "6", Compressor: "zstd"}} {
		_, mount := open(t, testimage.Odd(t), options)
		var group sync.WaitGroup
		for range atOnce {
			group.Go(func() { assert.NoError(t, gives(mount, want), options.FSVersion) })
		}
		group.Wait()
	}
}

// TestOneMetadataCacheManyImages opens and reads an image many times at once, out of
// a registry and with one metadata cache, whose files are cut and altered meanwhile:
// what is in them is never believed for being there.
func TestOneMetadataCacheManyImages(t *testing.T) {
	spec := testimage.Tiny(t)
	want := testimage.Flatten(spec.Layers...)
	registry := testregistry.Start(t)
	ref := registry.Host() + "/test/tiny:v6"
	testimage.Push(t, ref, testimage.Convert(t, testimage.BuildOCI(t, spec), testimage.ConvertOptions{FSVersion: "6"}))

	dir := t.TempDir()
	read := func() error {
		image, err := nydusimage.Open(t.Context(), ref, nydusimage.Options{Metadata: nydusimage.NewMetadataCache(dir)})
		if err != nil {
			return err
		}
		defer image.Close()
		mount, err := nydusmount.Native(t.Context(), image)
		if err != nil {
			return err
		}
		defer mount.Close()
		return gives(mount, want)
	}
	require.NoError(t, read())
	require.NotZero(t, damage(t, dir, 0), "the first one left metadata for the others")

	ctx, stop := context.WithCancel(t.Context())
	var vandal, group sync.WaitGroup
	damaged := 0
	vandal.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			damaged += damage(t, dir, n)
		}
	})
	for range atOnce {
		group.Go(func() { assert.NoError(t, read()) })
	}
	group.Wait()
	stop()
	vandal.Wait()
	assert.NotZero(t, damaged)

	require.NoError(t, read(), "with what the last damage left")
	left, err := filepath.Glob(filepath.Join(dir, "*", "new-*"))
	require.NoError(t, err)
	assert.Empty(t, left, "unfinished files")
}

// damage alters all files of a folder, in one of two ways, and counts them.
func damage(t *testing.T, dir string, n int) (count int) {
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil // others rename and remove at the same time
		}
		data, err := os.ReadFile(path)
		if err != nil || len(data) == 0 {
			return nil
		}
		if n%2 == 0 {
			data[len(data)-1] ^= 0x40
		} else {
			data = data[:len(data)/2]
		}
		if os.WriteFile(path, data, 0o600) == nil {
			count++
		}
		return nil
	})
	assert.NoError(t, err)
	return count
}

// gives says how the bytes that a mount gives differ from those of the files that
// went into the image.
func gives(mount *nydusmount.Mount, want map[string]testimage.File) error {
	files := 0
	for name, f := range want {
		if f.Type != testimage.Regular {
			continue
		}
		inode, err := mount.Merged.Lookup(name)
		if err != nil {
			return err
		}
		file := mount.Merged.Open(name, inode)
		data, err := io.ReadAll(file)
		if err = cmp.Or(err, file.Close()); err != nil {
			return err
		}
		if !bytes.Equal(data, f.Data) {
			return fmt.Errorf("%s differs from the image's source", name)
		}
		files++
	}
	if files == 0 {
		return errors.New("the image has no files")
	}
	return nil
}
