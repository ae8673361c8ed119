package main

import (
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/aquasecurity/trivy/pkg/flag"
)

// hasLogin says whether flags or variables give credentials. They name no host:
// they are for the registry of the image.
func hasLogin(options flag.Options) bool {
	return len(options.Credentials) > 0 || options.RegistryToken != ""
}

// checkLogin refuses credentials of which it is not clear to whom they belong.
func checkLogin(options flag.Options, targets []string) error {
	if !hasLogin(options) {
		return nil
	}
	hosts := registryHosts(targets)
	if len(hosts) > 1 {
		return usage("--username, --password and --registry-token do not say for which of %s they are: log in with docker login, or scan the images of one registry in one call",
			strings.Join(hosts, ", "))
	}
	return nil
}

// registryHosts are the hosts of references, each once, in their order.
func registryHosts(targets []string) []string {
	var hosts []string
	for _, target := range targets {
		if host := registryHost(target); host != "" && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// databaseOptions are options without the credentials for the image's registry,
// unless the databases and checks, which Trivy asks for with them, lie in that
// registry, too. Without an image they can be for nothing else.
func databaseOptions(options flag.Options, targets ...string) flag.Options {
	var repositories []string
	for _, r := range slices.Concat(options.DBRepositories, options.JavaDBRepositories) {
		repositories = append(repositories, r.Context().RegistryStr())
	}
	if checks, err := name.ParseReference(options.MisconfOptions.ChecksBundleRepository); err == nil {
		repositories = append(repositories, checks.Context().RegistryStr())
	}
	hosts := registryHosts(targets)
	theirs := func(host string) bool { return !slices.Contains(hosts, host) }
	if len(targets) > 0 && slices.ContainsFunc(repositories, theirs) {
		options.Credentials, options.RegistryToken = nil, ""
	}
	return options
}
