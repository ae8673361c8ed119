package testimage

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// noise is n bytes that no compressor shrinks, the same for the same seed.
func noise(seed uint64, n int) []byte {
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
	out := make([]byte, n)
	random.Read(out)
	return out
}

// Odd is an image of everything that layers can hold: four layers, of which the third has no data.
func Odd(testing.TB) Spec {
	return Spec{Name: "odd", Layers: OddLayers()}
}

// OddLayers are the layers of Odd.
func OddLayers() []Layer {
	return []Layer{oddBase(), oddUpper(), oddMetadata(), oddTop()}
}

// capNetBind is a security.capability value: version 2, effective, cap_net_bind_service.
const capNetBind = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func oddBase() Layer {
	l := Layer{
		Dir("dir"), Text("dir/file", "content\n"), Dir("dir/empty"), Reg("empty", nil),
		Text("gone", "removed by layer 2\n"), Dir("gonedir"), Text("gonedir/a", "a\n"),
		Dir("opaque"), Text("opaque/lower", "hidden by the opaque directory\n"),
		Dir("opaque/sub"), Text("opaque/sub/deep", "hidden too\n"),
		Text("file-to-dir", "was a file\n"), Dir("dir-to-link"), Text("dir-to-link/x", "x\n"),
		Sym("link-to-file", "dir/file"), Text("replaced", "old\n"), Text("same-size", "12345\n"),
		Text("hard/a", "three names\n"), Hard("hard/b", "hard/a"), Hard("hard/c", "hard/a"),
		Sym("link", "dir/file"), Sym("dangling", "/no/such"), Sym("long-link", strings.Repeat("long/", 200)+"end"),
		Char("dev/null", 1, 3).WithMode(0o666), Char("dev/big", 300, 70000), Block("dev/sda", 8, 0), Pipe("dev/fifo"),
		Text("mode/setuid", "s\n").WithMode(0o4755), Text("mode/setgid", "g\n").WithMode(0o2755),
		Dir("mode/sticky").WithMode(0o1777), Text("mode/none", "n\n").WithMode(0),
		Text("owner/user", "u\n").WithOwner(1000, 1001), Text("owner/big", "b\n").WithOwner(2000000, 2000001),
		Text("time/epoch", "e\n").WithTime(time.Unix(0, 0)), Text("time/old", "o\n").WithTime(time.Unix(86400, 0)),
		Text("time/future", "f\n").WithTime(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)),
		Text("xattr/user", "x\n").WithXattr("user.one", "1").WithXattr("user.binary", "\x00\x01\xff"),
		Exec("xattr/capability", []byte("c\n")).WithXattr("security.capability", capNetBind),
		Dir("xattr/dir").WithXattr("user.dir", "yes").WithXattr("trusted.t", strings.Repeat("t", 1500)),
		Reg("chunks/zero", make([]byte, 3<<20)), Reg("chunks/noise", noise(1, 2<<20+12345)),
		Reg("chunks/text", bytes.Repeat([]byte("a line that compresses well\n"), 60000)),
		Reg("chunks/exact", noise(2, 1<<20)), Reg("chunks/one-more", noise(2, 1<<20+1)),
		Reg("same/1", noise(3, 100000)), Reg("same/2", noise(3, 100000)),
		Dir("many"),
	}
	for i := range 500 {
		l = append(l, Text(fmt.Sprintf("many/file-%03d", i), fmt.Sprintf("file %d\n", i)))
	}
	for i, name := range OddNames() {
		l = append(l, Text("names/"+name, fmt.Sprintf("name %d\n", i)))
	}
	return l.WithParents()
}

// OddNames are file names that give trouble.
func OddNames() []string {
	return []string{" leading space", "two  spaces", "!bang", "-dash", "new\nline", "tab\ttab", "quote'\"", "back\\slash",
		"percent%41", "üñïcødé", "日本語", "…", ".hidden", "..two", "~tilde", "$var", "*?[", strings.Repeat("n", 255)}
}

func oddUpper() Layer {
	return Layer{
		Whiteout("gone"), Whiteout("gonedir"), Whiteout("never-was"),
		Dir("opaque"), Opaque("opaque"), Text("opaque/upper", "shown\n"),
		Dir("file-to-dir"), Text("file-to-dir/inside", "now a directory\n"),
		Sym("dir-to-link", "dir"), Text("link-to-file", "now a file\n"),
		Text("replaced", "new and longer\n").WithMode(0o600).WithOwner(5, 6), Text("same-size", "54321\n"),
		Whiteout("hard/b"), Reg("same/3", noise(3, 100000)), Text("upper-only", "upper\n"),
	}.WithParents()
}

// oddMetadata has no data: its blob is not in the merged bootstrap's blob table.
func oddMetadata() Layer {
	return Layer{
		Dir("dir").WithMode(0o750), Dir("metadata"), Reg("metadata/empty", nil), Sym("metadata/link", "../dir/file"),
		Whiteout("upper-only"), Pipe("metadata/fifo"),
	}
}

func oddTop() Layer {
	return Layer{
		Text("gone", "back again\n"), Reg("same/1", noise(3, 100000)), Text("top", "top\n"),
		Dir("opaque"), Text("opaque/top", "top\n"), Text("hard/d", "own\n"), Hard("hard/e", "hard/d"),
	}.WithParents()
}
