//go:build linux

// Command generate makes testdata/tree-v5 and testdata/tree-v6: it builds a
// tree with all kinds of inodes and odd names, makes an image of it with
// nydus-image and writes down what a mount by nydusd shows. Run it as root:
//
//	go run ./rafs/testdata/generate <folder of nydus-image and nydusd> <testdata folder>
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: generate <tools> <testdata>")
	}
	tools, out := os.Args[1], os.Args[2]
	work, err := os.MkdirTemp("", "rafs-generate-")
	must(err)
	defer os.RemoveAll(work)
	source := filepath.Join(work, "source")
	buildTree(source)
	for _, version := range []string{"5", "6"} {
		folder := filepath.Join(out, "tree-v"+version)
		must(os.RemoveAll(folder))
		must(os.MkdirAll(folder, 0o755))
		bootstrap := filepath.Join(folder, "bootstrap")
		blobs := filepath.Join(work, "blobs"+version)
		must(os.Mkdir(blobs, 0o755))
		run(tools+"/nydus-image", "create", "--type", "dir-rafs", "--fs-version", version,
			"--compressor", "none", "--digester", "sha256", "--chunk-size", "0x1000",
			"-B", bootstrap, "-D", blobs, source)
		must(os.WriteFile(filepath.Join(folder, "expected.tsv"), observe(tools, work, bootstrap, blobs), 0o644))
		entries, err := os.ReadDir(blobs)
		must(err)
		if len(entries) != 1 {
			log.Fatalf("%d blobs instead of one", len(entries))
		}
		data, err := os.ReadFile(filepath.Join(blobs, entries[0].Name()))
		must(err)
		must(os.WriteFile(filepath.Join(folder, "blob"), data, 0o644))
	}
}

func must(err error) {
	if err != nil {
		log.Panic(err)
	}
}

func run(name string, args ...string) {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		log.Panicf("%s %v: %v\n%s", name, args, err, out)
	}
}

// pattern returns n bytes that differ from chunk to chunk.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8)*7 ^ seed
	}
	return b
}

func buildTree(root string) {
	at := func(name string) string { return filepath.Join(root, name) }
	dir := func(name string) { must(os.MkdirAll(at(name), 0o755)) }
	file := func(name string, data []byte) { must(os.WriteFile(at(name), data, 0o644)) }
	defer syscall.Umask(syscall.Umask(0))

	dir("a/b/c/d/e/f")
	file("a/b/c/d/e/f/deep", []byte("deep\n"))
	dir("many")
	for i := range 3000 {
		file(fmt.Sprintf("many/%04d", i), nil)
	}
	dir("names")
	for _, name := range []string{"!bang", "-x", " sp", "new\nline", "bad\xffutf8", "...", "..x", strings.Repeat("n", 255)} {
		file("names/"+name, []byte(strconv.Quote(name)))
	}
	dir("links")
	file("links/hard1", pattern(5000, 1))
	must(os.Link(at("links/hard1"), at("links/hard2")))
	must(os.Link(at("links/hard1"), at("a/hard3")))
	for name, target := range map[string]string{
		"dangling": "nowhere", "absolute": "/a/b", "relative": "../a/b/c", "outside": "../../../../a",
		"file": "../data/chunks", "chain": "file", "loop": "loop", "long": strings.Repeat("t/", 1500), "bytes": "\xff\n",
	} {
		must(os.Symlink(target, at("links/"+name)))
	}
	dir("special")
	for name, node := range map[string]struct {
		mode         uint32
		major, minor uint64
	}{
		"chr": {syscall.S_IFCHR | 0o600, 10, 229}, "blk": {syscall.S_IFBLK | 0o660, 259, 0xabcde},
		"zero": {syscall.S_IFCHR, 0, 0}, "fifo": {syscall.S_IFIFO | 0o644, 0, 0}, "sock": {syscall.S_IFSOCK | 0o755, 0, 0},
	} {
		rdev := node.major<<8 | node.minor&0xff | node.minor&^0xff<<12
		must(syscall.Mknod(at("special/"+name), node.mode, int(rdev)))
	}
	dir("modes")
	for _, mode := range []uint32{0, 0o4755, 0o2755, 0o1777, 0o7777} {
		name := fmt.Sprintf("modes/%04o", mode)
		file(name, nil)
		must(syscall.Chmod(at(name), mode))
	}
	dir("modes/sticky")
	must(syscall.Chmod(at("modes/sticky"), 0o1777))
	file("modes/owned", nil)
	must(os.Lchown(at("modes/owned"), 65536+1000, 4000000000))
	dir("xattrs")
	for name, attrs := range map[string]map[string]string{
		"capability": {"security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		"user":       {"user.big": string(pattern(1500, 3)), "user.nul": "a\x00b", "user.empty": "", "trusted.t": "1"},
		"data":       {"user.a": "odd"},
	} {
		var data []byte
		if name == "data" {
			data = pattern(9000, 4)
		}
		file("xattrs/"+name, data)
		for key, value := range attrs {
			must(syscall.Setxattr(at("xattrs/"+name), key, []byte(value), 0))
		}
	}
	must(syscall.Setxattr(at("xattrs"), "user.dir", []byte("d"), 0))
	dir("data")
	file("data/empty", nil)
	file("data/one", []byte("x"))
	file("data/exact", pattern(4096, 5))
	file("data/chunks", pattern(5*4096+123, 6))
	file("data/duplicate", pattern(5*4096+123, 6))
	file("data/zeros", make([]byte, 3*4096))
	dir("times")
	for name, t := range map[string]time.Time{
		"negative": time.Unix(-86400*365, 123456789), "epoch": time.Unix(0, 0), "nsec": time.Unix(0, 1),
		"future": time.Date(2261, 1, 2, 3, 4, 5, 999999999, time.UTC), "now": time.Unix(1700000000, 987654321),
	} {
		file("times/"+name, nil)
		must(os.Chtimes(at("times/"+name), t, t))
	}
	dir("emptydir")
}

// observe mounts an image and returns one line for each path in it.
func observe(tools, work, bootstrap, blobs string) []byte {
	mountpoint, err := os.MkdirTemp(work, "mnt")
	must(err)
	config := mountpoint + ".json"
	must(os.WriteFile(config, []byte(`{"device":{"backend":{"type":"localfs","config":{"dir":"`+blobs+`"}},
		"cache":{"type":"blobcache","config":{"work_dir":"`+work+`"}}},"mode":"direct","digest_validate":false,"iostats_files":false,"enable_xattr":true}`), 0o644))
	daemon := exec.Command(tools+"/nydusd", "fuse", "--mountpoint", mountpoint, "--bootstrap", bootstrap,
		"--config", config, "--apisock", mountpoint+".sock", "--log-level", "error", "--rlimit-nofile", "0")
	daemon.Stderr, daemon.Stdout = os.Stderr, os.Stderr
	must(daemon.Start())
	defer func() {
		if err := syscall.Unmount(mountpoint, 0); err != nil {
			log.Printf("unmount: %v", err)
		}
		if err := daemon.Process.Signal(syscall.SIGTERM); err != nil {
			log.Printf("stop nydusd: %v", err)
		}
		_ = daemon.Wait()
	}()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Lstat(mountpoint + "/emptydir"); err == nil {
			break
		}
		if time.Now().After(deadline) {
			log.Panic("nydusd did not mount in 10 s")
		}
	}
	var lines []string
	must(filepath.WalkDir(mountpoint, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(mountpoint, path)
		must(err)
		lines = append(lines, line(path, name))
		return nil
	}))
	return []byte(strings.Join(lines, "\n") + "\n")
}

// line describes one path; README.md has the columns.
func line(path, name string) string {
	var st syscall.Stat_t
	must(syscall.Lstat(path, &st))
	target, digest, attrs := "-", "-", "-"
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFLNK:
		t, err := os.Readlink(path)
		must(err)
		target = strconv.QuoteToASCII(t)
	case syscall.S_IFREG:
		data, err := os.ReadFile(path)
		must(err)
		if len(data) > 0 {
			digest = fmt.Sprintf("%x", sha256.Sum256(data))
		}
		fallthrough
	default:
		attrs = xattrs(path)
	}
	return strings.Join([]string{strconv.QuoteToASCII(name), strconv.FormatUint(uint64(st.Mode), 8),
		fmt.Sprint(st.Uid), fmt.Sprint(st.Gid), fmt.Sprint(st.Size), fmt.Sprint(st.Nlink), fmt.Sprint(st.Rdev),
		fmt.Sprint(st.Ino), fmt.Sprintf("%d.%09d", st.Mtim.Sec, st.Mtim.Nsec), target, digest, attrs}, "\t")
}

// xattrs returns "name=hex" of each attribute, sorted, with commas between.
func xattrs(path string) string {
	names := make([]byte, 1<<16)
	n, err := syscall.Listxattr(path, names)
	must(err)
	var pairs []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 1<<16)
		n, err := syscall.Getxattr(path, name, value)
		must(err)
		pairs = append(pairs, name+"="+hex.EncodeToString(value[:n]))
	}
	if len(pairs) == 0 {
		return "-"
	}
	sort.Strings(pairs)
	return strings.Join(pairs, ",")
}
