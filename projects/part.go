package projects

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"gopkg.in/yaml.v3"

	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
	"github.com/aquasecurity/trivy/pkg/log"
	"github.com/aquasecurity/trivy/pkg/mapfs"
	"github.com/aquasecurity/trivy/pkg/misconf"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/confined"
)

// PartName is what [Part] is called for [confined.Main].
const PartName = "projects"

// Part is the [confined.Part] that scans.
func Part(input io.Reader, data *os.File, output io.Writer) error {
	var r request
	if err := json.NewDecoder(input).Decode(&r); err != nil {
		return fmt.Errorf("read what is to be scanned: %w", err)
	}
	log.InitLogger(r.Debug, r.Quiet)
	option, err := r.option()
	if err != nil {
		return err
	}
	content, err := mapped(data)
	if err != nil {
		return fmt.Errorf("map the projects' files: %w", err)
	}
	log.Debug("Scanning projects where nothing else can be opened") // it also finds the time zone
	if err := confined.Enter(); err != nil {
		return err
	}
	found := make([][]ftypes.Misconfiguration, len(r.Projects))
	for n, d := range r.Projects {
		if found[n], err = d.scan(content, option); err != nil {
			return fmt.Errorf("scan %s projects: %w", d.Type, err)
		}
	}
	return json.NewEncoder(output).Encode(found)
}

// option completes the options with what takes files of this machine.
func (r *request) option() (option misconf.ScannerOption, err error) {
	option = r.Option
	if err := yaml.Unmarshal(r.ExtraVars, &option.AnsibleExtraVars); err != nil {
		return option, fmt.Errorf("read Ansible variables: %w", err)
	}
	if option.ConfigFileSchemas, err = misconf.LoadConfigSchemas(r.Schemas); err != nil {
		return option, fmt.Errorf("load the schemas of configuration files: %w", err)
	}
	if option.RegoScanner, err = misconf.InitRegoScanner(option); err != nil {
		return option, fmt.Errorf("compile the misconfiguration checks: %w", err)
	}
	return option, nil
}

// scan does what the analyzer does (pkg/fanal/analyzer/config of Trivy).
func (d *described) scan(content []byte, option misconf.ScannerOption) ([]ftypes.Misconfiguration, error) {
	scanner, err := misconf.NewScanner(scanners[d.Type], option)
	if err != nil {
		return nil, err
	}
	files := mapfs.New()
	for _, f := range d.Files {
		name := string(f.Name)
		if err := files.MkdirAll(path.Dir(name), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if err := files.WriteVirtualFile(name, content[f.Off:f.Off+f.Size], 0o600); err != nil {
			return nil, err
		}
	}
	return scanner.Scan(context.Background(), files)
}
