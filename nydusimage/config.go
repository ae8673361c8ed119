package nydusimage

import (
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// sourceConfig decodes a config and takes back what the converter added: the
// one history entry and the one diff ID of the bootstrap layer. Left in, they
// make Trivy take the whole image for its own base image, whose layers it does
// not scan for secrets. diffIDs are those of the layers data layers, nil where
// the config does not list them one to one.
func sourceConfig(raw []byte, layers int) (_ *v1.ConfigFile, diffIDs []v1.Hash, err error) {
	config, err := parse(raw, v1.ParseConfigFile)
	if err != nil {
		return nil, nil, err
	}
	if n := len(config.History) - 1; n >= 0 {
		last := config.History[n]
		if !last.EmptyLayer && (last.CreatedBy == ConverterCreatedBy || last.Comment == ConverterComment) {
			config.History = config.History[:n]
		}
	}
	if len(config.RootFS.DiffIDs) == layers+1 {
		config.RootFS.DiffIDs = config.RootFS.DiffIDs[:layers]
	}
	if len(config.RootFS.DiffIDs) == layers {
		diffIDs = config.RootFS.DiffIDs
	}
	return config, diffIDs, nil
}

// CreatedBy returns the commands that made the layers, spelled as Trivy does;
// nil where the history does not have one for each.
func CreatedBy(history []v1.History, layers int) []string {
	if HistoryLayers(history) != layers {
		return nil
	}
	var commands []string
	for _, h := range history {
		if !h.EmptyLayer {
			command := strings.TrimPrefix(h.CreatedBy, "/bin/sh -c ")
			commands = append(commands, strings.TrimPrefix(command, "#(nop) "))
		}
	}
	return commands
}

// HistoryLayers is how many layers a history tells of.
func HistoryLayers(history []v1.History) int {
	layers := 0
	for _, h := range history {
		if !h.EmptyLayer {
			layers++
		}
	}
	return layers
}
