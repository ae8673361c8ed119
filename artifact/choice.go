package artifact

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/aquasecurity/trivy/pkg/cache"
	"github.com/aquasecurity/trivy/pkg/fanal/analyzer"
)

// kindChoice is where the metadata cache keeps choices.
const kindChoice = "choices"

// A choice is a file of a slice that some analyzer wants. To ask the analyzers is much
// of what the scan of an image costs of which most layers are known, since a layer's
// results are kept under what is wanted of it: so the answers are kept, too.
type choice struct {
	file int // index in the slice
	want demand
}

// A keptChoice is a choice in the cache.
type keptChoice struct {
	File int             `json:"f"`
	Want uint8           `json:"w"` // the bits of demand.flags
	Post []analyzer.Type `json:"p,omitempty"`
}

// flags are the fields of a demand but for post, in the order of the bits that stand for
// them.
func (d *demand) flags() []*bool {
	return []*bool{&d.single, &d.database, &d.head, &d.secrets, &d.whole}
}

// choiceName covers all that the analyzers' answers depend on: what they are told of
// the files, which of them are asked, and their options. It is "" where more decides,
// as options of the misconfiguration scanners do, and where little is to be asked.
func (a *Artifact) choiceName(w *work) string {
	if len(w.slice.files) < filesAtOnce {
		return ""
	}
	if slices.ContainsFunc(a.desk.enabled, func(t analyzer.Type) bool { return slices.Contains(analyzer.TypeConfigFiles, t) }) {
		return ""
	}
	h := sha256.New()
	put := numbersInto(h)
	for i := range w.slice.files {
		f := &w.slice.files[i]
		info := f.inode.FileInfo(f.path)
		put(uint64(len(f.path)))
		_, _ = io.WriteString(h, f.path)
		put(uint64(f.seen))
		put(uint64(info.Mode()))
		put(uint64(info.Size()))
		put(uint64(info.ModTime().UnixNano()))
	}
	parts, err := json.Marshal(struct {
		Files           string
		Base            bool
		Secret, License any
	}{fmt.Sprintf("%x", h.Sum(nil)), w.base, a.option.SecretScannerOption, a.option.LicenseScannerOption})
	if err != nil {
		return ""
	}
	name, err := cache.CalcKey(keyPrefix+string(parts), version, a.group.AnalyzerVersions(), nil, a.option)
	if err != nil {
		return "" // sliceKey fails for the same reason, and says so
	}
	return name
}

// recallChoices returns what was chosen of a slice of so many files before, if it was.
func (a *Artifact) recallChoices(name string, files int) ([]choice, bool) {
	if name == "" {
		return nil, false
	}
	data := a.image.Metadata.Get(kindChoice, name)
	var kept []keptChoice
	if data == nil || json.Unmarshal(data, &kept) != nil {
		return nil, false
	}
	choices := make([]choice, len(kept))
	for n, k := range kept {
		if k.File < 0 || k.File >= files {
			return nil, false
		}
		c := choice{file: k.File, want: demand{post: k.Post}}
		for bit, flag := range c.want.flags() {
			*flag = k.Want&(1<<bit) != 0
		}
		choices[n] = c
	}
	return choices, true
}

// keepChoices keeps what was chosen.
func (a *Artifact) keepChoices(name string, choices []choice) {
	if name == "" {
		return
	}
	kept := make([]keptChoice, len(choices))
	for n := range choices {
		c := &choices[n]
		kept[n] = keptChoice{File: c.file, Post: c.want.post}
		for bit, flag := range c.want.flags() {
			if *flag {
				kept[n].Want |= 1 << bit
			}
		}
	}
	if data, err := json.Marshal(kept); err == nil {
		_ = a.image.Metadata.Put(kindChoice, name, data) // without it the next scan is slower, no more
	}
}
