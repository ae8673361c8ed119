// Package projects scans configuration that can lead Trivy's scanners elsewhere.
//
// Trivy's scanners of Ansible and Terraform take a folder for a project and open what
// the project names: inventories and roles by absolute paths, templates that include any
// file, modules from any host, by programs such as git. In an image all of that is
// somebody else's choice. So these run in a process that can open nothing ([confined]).
//
// A project's files go there in one temporary file, which the process maps: analyzers ask
// for many files, and the scanners open few of them.
package projects

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"gopkg.in/yaml.v3"

	"github.com/aquasecurity/trivy/pkg/fanal/analyzer"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
	"github.com/aquasecurity/trivy/pkg/iac/detection"
	ansible "github.com/aquasecurity/trivy/pkg/iac/scanners/ansible/parser"
	"github.com/aquasecurity/trivy/pkg/mapfs"
	"github.com/aquasecurity/trivy/pkg/misconf"
	xio "github.com/aquasecurity/trivy/pkg/x/io"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/confined"
)

// scanners are the analyzers whose scanners open what files name, by what these scanners
// go by in pkg/misconf of Trivy 0.74.
var scanners = map[analyzer.Type]detection.FileType{
	analyzer.TypeAnsible:               detection.FileTypeAnsible,
	analyzer.TypeTerraform:             detection.FileTypeTerraform,
	analyzer.TypeTerraformPlanJSON:     detection.FileTypeTerraformPlanJSON,
	analyzer.TypeTerraformPlanSnapshot: detection.FileTypeTerraformPlanSnapshot,
}

// Types are the analyzers of those scanners.
func Types() []analyzer.Type { return slices.Sorted(maps.Keys(scanners)) }

// Leads says whether an analyzer's scanner is one of those.
func Leads(t analyzer.Type) bool {
	_, is := scanners[t]
	return is
}

// A Project is what one analyzer is given of one layer.
type Project struct {
	Type  analyzer.Type
	Files *mapfs.FS
}

// LooksAt says whether an analyzer's scanner would look at any of the files; also where
// that cannot be told.
func LooksAt(t analyzer.Type, files *mapfs.FS) bool {
	if t == analyzer.TypeAnsible {
		found, err := ansible.FindProjects(files, ".")
		return err != nil || len(found) > 0
	}
	errFound := errors.New("found")
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		f, err := files.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		if r, ok := f.(xio.ReadSeekerAt); !ok || detection.IsType(name, r, scanners[t]) {
			return errFound
		}
		return nil
	})
	return err != nil
}

// A Scanner scans projects in confined processes.
type Scanner struct {
	// Option is what Trivy's scanners go by, and Schemas the files of its
	// ConfigFileSchemas. Checks are compiled there: a RegoScanner is of no use.
	Option  misconf.ScannerOption
	Schemas []string
	// Debug and Quiet set the log of such a process, which goes to Log.
	Debug, Quiet bool
	Log          io.Writer
}

// A request is what a confined process is told.
type request struct {
	Option       misconf.ScannerOption
	Schemas      []string
	ExtraVars    []byte // those of Option in YAML, in which numbers stay what they are
	Debug, Quiet bool
	Projects     []described
}

type described struct {
	Type  analyzer.Type
	Files []extent
}

// An extent is where a file lies in the data, in bytes.
type extent struct {
	Name      []byte
	Off, Size int64
}

// Scan returns what was found in each project. take is asked before temporary files of
// that many bytes are written.
func (s *Scanner) Scan(ctx context.Context, projects []Project, take func(size int64) error) ([][]ftypes.Misconfiguration, error) {
	if err := s.check(projects); err != nil {
		return nil, err
	}
	data, err := os.CreateTemp("", "trivy-nydus-projects-")
	if err != nil {
		return nil, fmt.Errorf("make a temporary file: %w", err)
	}
	defer os.Remove(data.Name())
	defer data.Close()
	r := request{Option: s.Option, Schemas: s.Schemas, Debug: s.Debug, Quiet: s.Quiet}
	if r.ExtraVars, err = yaml.Marshal(s.Option.AnsibleExtraVars); err != nil {
		return nil, fmt.Errorf("pass Ansible variables on: %w", err)
	}
	r.Option.AnsibleExtraVars, r.Option.ConfigFileSchemas, r.Option.RegoScanner = nil, nil, nil
	w := &writer{data: data, take: take}
	for _, p := range projects {
		d, err := w.add(p)
		if err != nil {
			return nil, fmt.Errorf("copy the files of %s projects to %s: %w", p.Type, data.Name(), err)
		}
		r.Projects = append(r.Projects, d)
	}
	input, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	output, err := confined.Run(ctx, PartName, bytes.NewReader(input), data, s.Log)
	if err != nil {
		return nil, err
	}
	var found [][]ftypes.Misconfiguration
	if err := json.Unmarshal(output, &found); err != nil {
		return nil, fmt.Errorf("read what was found: %w", err)
	}
	if len(found) != len(projects) {
		return nil, fmt.Errorf("findings of %d projects of %d", len(found), len(projects))
	}
	return found, nil
}

// check refuses what a confined process could not do for the user.
func (s *Scanner) check(projects []Project) error {
	for _, p := range projects {
		if p.Type != analyzer.TypeAnsible {
			continue
		}
		for _, inventory := range s.Option.AnsibleInventories {
			if filepath.IsAbs(inventory) {
				return fmt.Errorf("--ansible-inventory %s lies on this machine, and files of this machine are not opened for an image: %w", inventory, confined.ErrUnavailable)
			}
		}
	}
	return nil
}

// A writer puts files one after another.
type writer struct {
	data *os.File
	off  int64
	take func(size int64) error
}

func (w *writer) add(p Project) (described, error) {
	d := described{Type: p.Type}
	err := fs.WalkDir(p.Files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if err := w.take(info.Size()); err != nil {
			return err
		}
		f, err := p.Files.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		size, err := io.Copy(w.data, f)
		if err != nil {
			return err
		}
		d.Files = append(d.Files, extent{[]byte(name), w.off, size})
		w.off += size
		return nil
	})
	return d, err
}
