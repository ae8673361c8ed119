package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/samber/lo"
	"gopkg.in/yaml.v3"

	"github.com/aquasecurity/trivy/pkg/commands/operation"
	"github.com/aquasecurity/trivy/pkg/fanal/analyzer"
	fartifact "github.com/aquasecurity/trivy/pkg/fanal/artifact"
	"github.com/aquasecurity/trivy/pkg/flag"
	"github.com/aquasecurity/trivy/pkg/iac/rego"
	"github.com/aquasecurity/trivy/pkg/log"
	"github.com/aquasecurity/trivy/pkg/misconf"
	"github.com/aquasecurity/trivy/pkg/policy"
	tscan "github.com/aquasecurity/trivy/pkg/scan"
	"github.com/aquasecurity/trivy/pkg/types"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/projects"
)

// Trivy's runner compiles the misconfiguration checks for every image before it
// asks for a service: most of the time of a scan whose results are all cached.
// So the runner is told of no misconfiguration scanner (withoutMisconf), the
// options that it would have made are made here (misconfOption), and the checks
// are compiled beside the first analysis, once for all images. This
// follows pkg/commands/artifact/run.go of Trivy.

// withoutMisconf returns the options that are given to Trivy's runner.
func withoutMisconf(options flag.Options) flag.Options {
	options.Scanners = lo.Without(options.Scanners, types.MisconfigScanner)
	if options.ImageConfigScanners.Enabled(types.MisconfigScanner) {
		options.ImageConfigScanners = nil // the runner does nothing else with them
	}
	return options
}

// wantsMisconf says whether any misconfiguration scanner is enabled.
func wantsMisconf(options flag.Options) bool {
	return options.Scanners.Enabled(types.MisconfigScanner) || options.ImageConfigScanners.Enabled(types.MisconfigScanner)
}

// withMisconfAnalyzers corrects the analyzers that the runner has disabled for
// want of a misconfiguration scanner (disabledAnalyzers in run.go).
func withMisconfAnalyzers(disabled []analyzer.Type, options flag.Options) []analyzer.Type {
	disabled = lo.Without(disabled, append(slices.Clone(analyzer.TypeConfigFiles), analyzer.TypeHistoryDockerfile)...)
	_, unknown := lo.Difference(analyzer.TypeConfigFiles, options.MisconfigScanners)
	switch {
	case !options.Scanners.AnyEnabled(types.MisconfigScanner, types.RBACScanner):
		disabled = append(disabled, analyzer.TypeConfigFiles...)
	case len(unknown) > 0:
		log.Error("Invalid misconfiguration scanners provided, using default scanners",
			log.Any("invalid_scanners", unknown), log.Any("default_scanners", analyzer.TypeConfigFiles))
	default:
		disabled = append(disabled, lo.Without(analyzer.TypeConfigFiles, options.MisconfigScanners...)...)
	}
	if !options.ImageConfigScanners.Enabled(types.MisconfigScanner) {
		disabled = append(disabled, analyzer.TypeHistoryDockerfile)
	}
	return disabled
}

// misconfOption makes the options of the misconfiguration scanners, all but the
// compiled checks; it downloads the checks where they are not there
// (initMisconfScannerOption in run.go).
func misconfOption(ctx context.Context, options flag.Options) (misconf.ScannerOption, error) {
	ctx = log.WithContextPrefix(ctx, log.PrefixMisconfiguration)
	log.InfoContext(ctx, "Misconfiguration scanning is enabled")
	client, err := policy.NewClient(options.CacheDir, options.Quiet, options.MisconfOptions.ChecksBundleRepository)
	if err != nil {
		return misconf.ScannerOption{}, fmt.Errorf("open the misconfiguration checks: %w", err)
	}
	policies := slices.Clone(options.CheckPaths)
	downloaded, err := operation.InitBuiltinChecks(ctx, client, options.SkipCheckUpdate, options.RegistryOpts())
	if err != nil {
		log.ErrorContext(ctx, "Falling back to embedded checks", log.Err(err))
	} else {
		log.DebugContext(ctx, "Checks successfully loaded from disk")
		if downloaded != "" {
			policies = append(policies, downloaded)
		}
	}
	embedded := err != nil
	schemas, err := misconf.LoadConfigSchemas(options.ConfigFileSchemas)
	if err != nil {
		return misconf.ScannerOption{}, fmt.Errorf("load the schemas of configuration files: %w", err)
	}
	variables, err := ansibleVariables(options.AnsibleExtraVars)
	if err != nil {
		log.DebugContext(ctx, "Failed to resolve Ansible extra-vars", log.Err(err))
		variables = make(map[string]any)
	}
	return misconf.ScannerOption{
		Trace:                    options.RegoOptions.Trace,
		Namespaces:               slices.Concat(options.CheckNamespaces, rego.BuiltinNamespaces()),
		PolicyPaths:              policies,
		DataPaths:                options.DataPaths,
		HelmValues:               options.HelmValues,
		HelmValueFiles:           options.HelmValueFiles,
		HelmFileValues:           options.HelmFileValues,
		HelmStringValues:         options.HelmStringValues,
		HelmAPIVersions:          options.HelmAPIVersions,
		HelmKubeVersion:          options.HelmKubeVersion,
		TerraformTFVars:          options.TerraformTFVars,
		CloudFormationParamVars:  options.CloudFormationParamVars,
		K8sVersion:               options.K8sVersion,
		DisableEmbeddedPolicies:  !embedded,
		DisableEmbeddedLibraries: !embedded,
		IncludeDeprecatedChecks:  options.IncludeDeprecatedChecks,
		RegoErrorLimit:           options.RegoOptions.ErrorLimit,
		TfExcludeDownloaded:      options.TfExcludeDownloaded,
		RawConfigScanners:        options.RawConfigScanners,
		FilePatterns:             options.FilePatterns,
		ConfigFileSchemas:        schemas,
		SkipFiles:                options.SkipFiles,
		SkipDirs:                 options.SkipDirs,
		AnsiblePlaybooks:         options.AnsiblePlaybooks,
		AnsibleInventories:       options.AnsibleInventories,
		AnsibleExtraVars:         variables,
	}, nil
}

// ansibleVariables reads --ansible-extra-vars: name=value, or @ and the name of
// a JSON or YAML file.
func ansibleVariables(inputs []string) (map[string]any, error) {
	all := make(map[string]any)
	for _, input := range inputs {
		var variables map[string]any
		name, value, pair := strings.Cut(input, "=")
		switch {
		case strings.HasPrefix(input, "@"):
			data, err := os.ReadFile(input[1:])
			if err != nil {
				return nil, fmt.Errorf("read Ansible variables: %w", err)
			}
			read := yaml.Unmarshal
			if strings.HasPrefix(strings.TrimSpace(string(data)), "{") {
				read = json.Unmarshal
			}
			if err := read(data, &variables); err != nil {
				return nil, fmt.Errorf("read Ansible variables from %s: %w", input[1:], err)
			}
		case pair:
			variables = map[string]any{name: value}
		default:
			return nil, fmt.Errorf("%q is no Ansible variable: neither name=value nor @file", input)
		}
		maps.Copy(all, variables)
	}
	return all, nil
}

// restoreMisconf puts into an artifact's options what the runner has left out.
func (s *session) restoreMisconf(ctx context.Context, options flag.Options, option *fartifact.Option) error {
	if !wantsMisconf(options) {
		return nil
	}
	if options.ImageConfigScanners.Enabled(types.MisconfigScanner) {
		log.WithPrefix(log.PrefixContainerImage).Info("Container image config scanners", log.Any("scanners", options.ImageConfigScanners))
	}
	if s.misconf == nil {
		made, err := misconfOption(ctx, databaseOptions(options, options.Target))
		if err != nil {
			return err
		}
		s.misconf = &made
	}
	option.MisconfScannerOption = *s.misconf
	option.DisabledAnalyzers = withMisconfAnalyzers(option.DisabledAnalyzers, options)
	return nil
}

// compileMisconf is what compileChecks does the first time, once misconf is known.
func (s *session) compileMisconf() (misconf.ScannerOption, error) {
	if s.misconf == nil {
		return misconf.ScannerOption{}, nil
	}
	compiled := *s.misconf
	scanner, err := misconf.InitRegoScanner(compiled)
	if err != nil {
		return misconf.ScannerOption{}, fmt.Errorf("compile the misconfiguration checks: %w", err)
	}
	compiled.RegoScanner = scanner
	return compiled, nil
}

// A backend is Trivy's, told of all scanners again.
type backend struct {
	tscan.Backend
	options types.ScanOptions
}

func (b backend) Scan(ctx context.Context, target, artifactKey string, blobKeys []string, _ types.ScanOptions) (types.ScanResponse, error) {
	return b.Backend.Scan(ctx, target, artifactKey, blobKeys, b.options)
}

// projects scans the projects in an image where they can lead nowhere; nil if the user
// allows them to.
func (s *session) projects(options flag.Options) *projects.Scanner {
	if s.ours.unconfined {
		return nil
	}
	scanner := &projects.Scanner{Schemas: options.ConfigFileSchemas, Debug: options.Debug, Quiet: options.Quiet, Log: &visibleLines{to: s.stderr, stacks: options.Debug}}
	if s.misconf != nil {
		scanner.Option = *s.misconf
	}
	return scanner
}
