package consistency

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// Images of what layers can say in more than one way.

// parents leaves directories unnamed, and reaches them through symbolic links.
func parents(testing.TB) testimage.Spec {
	odd := testimage.Dir("odd").WithMode(0o1750).WithOwner(5, 6).WithXattr("user.odd", "yes")
	return testimage.Spec{Name: "parents", Layers: []testimage.Layer{
		{
			odd, testimage.Text("odd/file", "lower\n"), testimage.Dir("odd/below").WithMode(0o700), testimage.Text("odd/below/file", "x\n"),
			testimage.Text("nobody/named/this", "x\n"), testimage.Sym("to-nobody", "nobody"),
			testimage.Sym("to-named-later", "named-later"), testimage.Text("to-named-later/file", "x\n"), testimage.Dir("named-later").WithMode(0o711),
			testimage.Sym("absolute", "/nobody/named"), testimage.Text("absolute/too", "x\n"),
			testimage.Sym("nowhere", "no/such"), testimage.Text("nowhere/file", "x\n"),
			testimage.Dir("deep/er"), testimage.Sym("deep/er/up", "../../nobody"), testimage.Text("deep/er/up/file", "x\n"),
			testimage.Sym("out", "../../../../nobody"), testimage.Text("out/file-too", "x\n"),
			testimage.Sym("twice", "deep/er/up"), testimage.Text("twice/file-three", "x\n"),
		},
		{
			testimage.Text("odd/upper", "upper\n"), testimage.Text("odd/below/upper", "upper\n"),
			testimage.Text("to-nobody/file", "no link any more\n"), testimage.Whiteout("odd/file"), testimage.Whiteout("odd/not-there"),
		},
		{odd.WithMode(0o700).WithOwner(7, 8), testimage.Text("odd/top", "top\n")},
		{testimage.Opaque("odd/below"), testimage.Text("odd/below/alone", "x\n")},
	}}
}

// names are spelled as tars spell them.
func names(testing.TB) testimage.Spec {
	return testimage.Spec{Name: "names", Layers: []testimage.Layer{
		{
			testimage.Dir("."), testimage.Dir("./dot"), testimage.Text("./dot/file", "x\n"), testimage.Dir("/slash"), testimage.Text("/slash/file", "x\n"),
			testimage.Dir("double"), testimage.Text("double//file", "x\n"), testimage.Text("double/./other", "x\n"),
			testimage.Hard("linked", "./dot/file"), testimage.Hard("linked-too", "/slash//file"),
			testimage.Text("\xff\xfe not UTF-8", "x\n"), testimage.Sym("not UTF-8 either", "\xff"),
			testimage.Text(strings.Repeat("long/", 60)+strings.Repeat("n", 255), "x\n"),
			testimage.Text(".wh", "x\n"), testimage.Text("wh.x", "x\n"), testimage.Text("x.wh.y", "x\n"),
		},
		{testimage.Whiteout("./dot/file"), testimage.Whiteout("\xff\xfe not UTF-8")},
	}}
}

// replaced has paths that change what they are, within a layer and from one to
// the next.
func replaced(testing.TB) testimage.Spec {
	return testimage.Spec{Name: "replaced", Layers: []testimage.Layer{
		{
			testimage.Text("twice", "one\n"), testimage.Text("twice", "two, longer\n").WithMode(0o600).WithXattr("user.two", "2"),
			testimage.Dir("dir").WithMode(0o700).WithXattr("user.one", "1"), testimage.Text("dir/kept", "x\n"), testimage.Dir("dir").WithMode(0o755).WithXattr("user.two", "2"),
			testimage.Text("file-then-dir", "x\n"), testimage.Dir("file-then-dir"), testimage.Text("file-then-dir/file", "x\n"),
			testimage.Dir("dir-then-file"), testimage.Text("dir-then-file/gone", "x\n"), testimage.Text("dir-then-file", "x\n"),
			testimage.Sym("link-then-dir", "dir"), testimage.Dir("link-then-dir"), testimage.Text("link-then-dir/own", "x\n"),
			testimage.Text("a", "file\n"), testimage.Dir("b"), testimage.Text("b/x", "x\n"), testimage.Sym("c", "b"), testimage.Pipe("d"),
			testimage.Char("e", 1, 3), testimage.Text("f", "stays\n"), testimage.Dir("g"), testimage.Text("g/lower", "x\n"),
			testimage.Dir("h"), testimage.Text("h/lower", "x\n"), testimage.Dir("i"), testimage.Text("i/lower", "x\n"),
		},
		{
			testimage.Dir("a"), testimage.Text("a/x", "x\n"), testimage.Text("b", "file\n"), testimage.Dir("c"), testimage.Text("d", "file\n"), testimage.Sym("e", "f"),
			testimage.Dir("g"), testimage.Text("g/before", "x\n"), testimage.Opaque("g"), testimage.Text("g/after", "x\n"),
			testimage.Whiteout("h"), testimage.Whiteout("i/lower"), testimage.Text("i/upper", "x\n"),
		},
		{testimage.Dir("b"), testimage.Text("b/y", "y\n"), testimage.Dir("h").WithMode(0o711), testimage.Text("h/new", "x\n"), testimage.Text("i/lower", "again\n")},
		{testimage.Whiteout("g/before"), testimage.Whiteout("c"), testimage.Block("e", 8, 1).WithMode(0o660).WithOwner(0, 6)},
	}}
}

// hardLinks whose entries say other things of the file than its own.
func hardLinks(testing.TB) testimage.Spec {
	link := func(name, target string) testimage.File {
		return testimage.Hard(name, target).WithMode(0o4755).WithOwner(3, 4).WithTime(time.Unix(1000, 0))
	}
	return testimage.Spec{Name: "hard-links", Layers: []testimage.Layer{
		{
			testimage.Text("file", "content\n"), link("link", "file"), testimage.Hard("unlike", "link"),
			testimage.Exec("capable", []byte("x\n")).WithXattr("security.capability", capability).WithXattr("user.x", "x"), link("incapable", "capable"),
			testimage.Exec("able", []byte("x\n")).WithXattr("security.capability", capability), link("able-too", "able").WithXattr("security.capability", capability),
			testimage.Sym("symlink", "file"), link("symlink-too", "symlink"), testimage.Pipe("fifo"), link("fifo-too", "fifo"),
			testimage.Char("null", 1, 3), link("null-too", "null"),
			testimage.Dir("dir"), testimage.Sym("to-dir", "dir"), testimage.Text("dir/a", "a\n"), testimage.Hard("through", "to-dir/a"),
			testimage.Text("replaced", "old\n"), testimage.Hard("keeps-old", "replaced"), testimage.Text("replaced", "new\n"),
			testimage.Text("1", "x\n"), testimage.Hard("2", "1"), testimage.Hard("3", "2"), testimage.Hard("4", "3"),
			testimage.Text("other", "y\n"), testimage.Hard("4", "other"),
		},
		{testimage.Whiteout("file"), testimage.Text("2", "own\n"), testimage.Text("new", "n\n"), testimage.Hard("able", "new")},
	}}
}

// capability is a security.capability value: version 2, cap_net_bind_service.
const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// precise has what a tar says in PAX records only.
func precise(testing.TB) testimage.Spec {
	return testimage.Spec{Name: "precise", Layers: []testimage.Layer{{
		testimage.Text("nanoseconds", "x\n").WithTime(time.Unix(1700000000, 123456789)),
		testimage.Dir("directory").WithTime(time.Unix(1700000000, 5)), testimage.Text("directory/file", "x\n"),
		testimage.Text("before", "x\n").WithTime(time.Unix(-1000, 0)),
		testimage.Text("owner", "x\n").WithOwner(3000000000, 4000000000),
		testimage.Text("xattr", "x\n").WithXattr("user.binary", "\x00=\n\xff").WithXattr("user.empty", ""),
		testimage.Sym("long", strings.Repeat("l/", 2000)+"end"),
	}}}
}

// manyLayers is thirty layers, each of which changes what the one before has.
func manyLayers(testing.TB) testimage.Spec {
	spec := testimage.Spec{Name: "many-layers"}
	for n := range 30 {
		l := testimage.Layer{
			testimage.Dir("d"), testimage.Text(fmt.Sprintf("d/%d", n), fmt.Sprintf("layer %d\n", n)), testimage.Text("changing", strings.Repeat("x", n)),
		}
		if n > 0 && n%2 == 0 {
			l = append(l, testimage.Whiteout(fmt.Sprintf("d/%d", n-1)))
		}
		if n == 20 {
			l = append(l, testimage.Opaque("d"))
		}
		spec.Layers = append(spec.Layers, l)
	}
	return spec
}
