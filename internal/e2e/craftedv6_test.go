package e2e

import (
	"bytes"
	"encoding/binary"
	"os"
	"path"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// craftedV6 is a bootstrap of RAFS v6 as nydus-image makes it, with the places of what tests
// change. Each name occurs in it once.
type craftedV6 struct {
	boot []byte
	tree *rafs.Tree
}

// inode is the record of a path. Its size stands at 8, its attributes' count at 2.
func (c craftedV6) inode(t *testing.T, path string) []byte {
	t.Helper()
	return c.boot[uint64(binary.LittleEndian.Uint32(c.boot[1024+40:]))*4096+c.number(t, path)*32:]
}

// once is what begins with some text.
func (c craftedV6) once(t *testing.T, text string) []byte {
	t.Helper()
	require.Equal(t, 1, bytes.Count(c.boot, []byte(text)), text)
	return c.boot[bytes.Index(c.boot, []byte(text)):]
}

// number is the number of the inode of a path.
func (c craftedV6) number(t *testing.T, path string) uint64 {
	t.Helper()
	i, err := c.tree.Lookup(path)
	require.NoError(t, err)
	return i.Number
}

// entry is the directory entry of a path, which begins with the number of its inode. The names of
// a directory follow its entries.
func (c craftedV6) entry(t *testing.T, at string) []byte {
	t.Helper()
	name := len(c.boot) - len(c.once(t, path.Base(at)))
	entry := bytes.LastIndex(c.boot[:name], binary.LittleEndian.AppendUint64(nil, c.number(t, at)))
	require.Greater(t, entry, name-4096)
	return c.boot[entry:]
}

// attribute is the one that the image has: the sizes of its name, 1 byte, and, at 2, of its value.
func (c craftedV6) attribute(t *testing.T) []byte {
	t.Helper()
	return c.boot[len(c.boot)-len(c.once(t, "zxattr"))-4:]
}

// address is that of a file's first chunk: its number and its blob, 2 bytes each, and its block.
func (c craftedV6) address(t *testing.T, path string) []byte {
	t.Helper()
	record := c.inode(t, path)
	require.Zero(t, binary.LittleEndian.Uint16(record[2:]), "attributes")
	return record[64:]
}

// TestCraftedV6: what bootstraps of RAFS v6 can lie about, each as an image. An image is refused
// by all commands, or, where what is said is nothing that is gone by, gives the report that it would without.
func TestCraftedV6(t *testing.T) {
	t.Parallel()
	le := binary.LittleEndian
	spec := testimage.Spec{Name: "crafted-v6", Layers: []testimage.Layer{testimage.Layer{
		testimage.Text("names/akakakak", "a\n"), testimage.Text("names/mqmqmqmq", "m\n"), testimage.Text("names/zqzqzqzq", "z\n"),
		testimage.Dir("folders/qinner"), testimage.Dir("folders/qinner/mostinner"), testimage.Dir("folders/wother"),
		testimage.Text("attributes", "x\n").WithXattr("user.zxattr", "wvalue"),
		testimage.SecretFile("srv/.env"), {Path: "srv/big.env", Type: testimage.Regular, Mode: 0o644, Data: testNoise(3 << 20)},
	}.WithParents()}}
	n := testimage.Convert(t, testimage.BuildOCI(t, spec), testimage.ConvertOptions{FSVersion: "6"})
	sound, err := os.ReadFile(n.BootstrapPath)
	require.NoError(t, err)
	const super, extended = 1024, 1024 + 128

	for name, c := range map[string]struct {
		alter func(t *testing.T, c craftedV6)
		says  string // nothing: there is a report
		data  bool   // only reading data goes by it
	}{
		"nothing": {func(*testing.T, craftedV6) {}, "", false},

		"a name ..":           {func(t *testing.T, c craftedV6) { copy(c.once(t, "zqzqzqzq"), "..\x00\x00\x00\x00\x00\x00") }, "..", false},
		"a name with a slash": {func(t *testing.T, c craftedV6) { copy(c.once(t, "mqmqmqmq"), "mq/qmqmq") }, "slash", false},
		"a name with a NUL":   {func(t *testing.T, c craftedV6) { copy(c.once(t, "mqmqmqmq"), "mq\x00qmqmq") }, "NUL", false},
		"a name twice":        {func(t *testing.T, c craftedV6) { copy(c.once(t, "mqmqmqmq"), "akakakak") }, "does not sort after", false},
		"a subtree of two": {func(t *testing.T, c craftedV6) {
			le.PutUint64(c.entry(t, "folders/wother"), c.number(t, "folders/qinner/mostinner"))
		}, "is reached twice", false},
		"a cycle": {func(t *testing.T, c craftedV6) {
			le.PutUint64(c.entry(t, "folders/qinner/mostinner"), c.number(t, "folders/qinner"))
		}, "folders/qinner", false},
		"an inode far away":     {func(t *testing.T, c craftedV6) { le.PutUint64(c.entry(t, "folders/wother"), 1<<62) }, "folders/wother", false},
		"an inode at the end":   {func(t *testing.T, c craftedV6) { le.PutUint64(c.entry(t, "folders/wother"), 1<<64-1) }, "folders/wother", false},
		"a file of 2^63 bytes":  {func(t *testing.T, c craftedV6) { le.PutUint64(c.inode(t, "srv/.env")[8:], 1<<63) }, "9223372036854775808", false},
		"a file of 2^62 bytes":  {func(t *testing.T, c craftedV6) { le.PutUint64(c.inode(t, "srv/.env")[8:], 1<<62) }, "srv/.env", false},
		"a folder of 2^62":      {func(t *testing.T, c craftedV6) { le.PutUint64(c.inode(t, "folders/wother")[8:], 1<<62) }, "folders/wother", false},
		"a link of no target":   {func(t *testing.T, c craftedV6) { le.PutUint16(c.inode(t, "names/akakakak")[4:], 0o120777) }, "", false},
		"no kind of file":       {func(t *testing.T, c craftedV6) { le.PutUint16(c.inode(t, "names/akakakak")[4:], 0o170644) }, "names/akakakak", false},
		"attributes of 256 kB":  {func(t *testing.T, c craftedV6) { le.PutUint16(c.inode(t, "attributes")[2:], 1<<16-1) }, "attributes", false},
		"a long value":          {func(t *testing.T, c craftedV6) { le.PutUint16(c.attribute(t)[2:], 1<<16-1) }, "", false},
		"a long name":           {func(t *testing.T, c craftedV6) { c.attribute(t)[0] = 255 }, "", false},
		"no such blob":          {func(t *testing.T, c craftedV6) { le.PutUint16(c.address(t, "srv/.env")[2:], 1<<8) }, "srv/.env", false},
		"a chunk of another":    {func(t *testing.T, c craftedV6) { copy(c.address(t, "srv/.env")[:8], c.address(t, "srv/big.env")[:8]) }, "srv/.env", false},
		"a chunk of no number":  {func(t *testing.T, c craftedV6) { le.PutUint16(c.address(t, "srv/.env"), 1<<16-1) }, "srv/.env", false},
		"inodes without number": {func(_ *testing.T, c craftedV6) { le.PutUint64(c.boot[super+16:], 1<<62) }, "", false},
		"another root":          {func(_ *testing.T, c craftedV6) { le.PutUint16(c.boot[super+14:], 1<<16-1) }, "root", false},
		"inodes elsewhere":      {func(_ *testing.T, c craftedV6) { le.PutUint32(c.boot[super+40:], 1<<31) }, "the inodes begin", false},
		"65535 devices":         {func(_ *testing.T, c craftedV6) { le.PutUint16(c.boot[super+86:], 1<<16-1) }, "device table", false},
		"a far table of blobs":  {func(_ *testing.T, c craftedV6) { le.PutUint64(c.boot[extended+8:], 1<<63) }, "blob table", false},
		"many blobs":            {func(_ *testing.T, c craftedV6) { le.PutUint32(c.boot[extended+16:], 1<<31) }, "blob table", false},
		"chunks of 2 GiB":       {func(_ *testing.T, c craftedV6) { le.PutUint32(c.boot[extended+20:], 1<<31) }, "chunk", false},
		"chunks of 3 bytes":     {func(_ *testing.T, c craftedV6) { le.PutUint32(c.boot[extended+20:], 3) }, "chunk", false},
		"a far table of chunks": {func(_ *testing.T, c craftedV6) { le.PutUint64(c.boot[extended+24:], 1<<62) }, "chunk table", false},
		"chunks of 2^62 bytes":  {func(_ *testing.T, c craftedV6) { le.PutUint64(c.boot[extended+32:], 1<<62) }, "chunk table", false},
		"a blob of 2^62 bytes":  {func(_ *testing.T, c craftedV6) { le.PutUint64(tableAt(c.boot, 8)[88:], 1<<62) }, "", false},
		"decompressed of 2^62":  {func(_ *testing.T, c craftedV6) { le.PutUint64(tableAt(c.boot, 8)[96:], 1<<62) }, "", false},
		"2^31 chunks in a blob": {func(_ *testing.T, c craftedV6) { le.PutUint32(tableAt(c.boot, 8)[72:], 1<<31) }, "chunk", false},
		"a meta far away":       {func(_ *testing.T, c craftedV6) { le.PutUint64(tableAt(c.boot, 8)[112:], 1<<62) }, "blob.meta", true},
		"a meta of 2^62 bytes":  {func(_ *testing.T, c craftedV6) { le.PutUint64(tableAt(c.boot, 8)[120:], 1<<62) }, "blob.meta", false},
		"a meta that inflates":  {func(_ *testing.T, c craftedV6) { le.PutUint64(tableAt(c.boot, 8)[128:], 1<<62) }, "blob.meta", false},
		"no such compressor":    {func(_ *testing.T, c craftedV6) { le.PutUint32(tableAt(c.boot, 8)[76:], 99) }, "compressor", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			crafted := craftedV6{boot: bytes.Clone(sound)}
			var err error
			crafted.tree, err = rafs.Open(bytes.NewReader(sound), int64(len(sound)))
			require.NoError(t, err)
			c.alter(t, crafted)
			dir := t.TempDir()
			testimage.WriteLayout(t, dir, map[string]any{"crafted": testimage.Wrap(t, n, testimage.Wrapping{Bootstrap: crafted.boot})})
			switch {
			case c.says == "":
				assert.Equal(t, []string{"/srv/.env"}, secretPaths(scanCrafted(t, dir)))
			case c.data:
				args, output := scanArguments(t, dir)
				refusedCrafted(t, []string{c.says}, args...)
				assert.NoFileExists(t, output)
			default:
				refusedByAll(t, dir, c.says)
			}
			r := bounded(t, "check", "--cache-dir", t.TempDir(), dir)
			assert.Equal(t, bytes.Equal(crafted.boot, sound), r.code == 0, r.stdout+r.stderr)
		})
	}
}
