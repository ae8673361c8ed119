package artifact

import (
	"path"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// databaseFolders are where package databases lie. This is a guess, to have their
// data on its way early: what lies elsewhere comes later, what is loaded in vain
// is not analyzed.
var databaseFolders = []string{
	"var/lib/dpkg", "var/lib/dpkg/info", "var/lib/dpkg/status.d",
	"lib/apk/db", "usr/lib/apk/db",
	"var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm",
}

// maxAhead bounds what is loaded before the layers are known, in bytes: no more
// than stays in memory until it is analyzed.
const maxAhead = 4 << 20

// databaseChunks are the chunks of the package databases that a merged tree shows.
// What cannot be read is left out: it is read again, and fails then.
func (a *Artifact) databaseChunks(tree *rafs.Tree) []rafs.Chunk {
	questions := a.desk.questions(a.desk.allBut(packageDatabases...))
	skip := newSkipper(a.option.WalkerOption)
	var all []rafs.Chunk
	var size int64
	for _, folder := range databaseFolders {
		dir, err := tree.Lookup(folder)
		if err != nil || !dir.IsDir() {
			continue
		}
		entries, err := dir.Entries()
		if err != nil {
			continue
		}
		for _, e := range entries {
			f := file{path: path.Join(folder, e.Name), inode: e.Inode}
			if !e.Inode.IsRegular() || skip.skips(f.path) {
				continue
			}
			if want := a.desk.demand(&f, questions); !want.database {
				continue
			}
			chunks, err := e.Inode.Chunks()
			if err != nil {
				continue
			}
			for n := range chunks {
				if size += int64(chunks[n].UncompressedSize); size > maxAhead {
					return all
				}
				all = append(all, chunks[n])
			}
		}
	}
	return all
}
