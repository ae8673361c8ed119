package blob

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// maxRedirects is how many answers in a row may point elsewhere before a
// blob's bytes come; registries use one, CDNs in front of them two.
const maxRedirects = 5

// redirect returns where an answer of address points to. It refuses that a
// registry, whose own address is origin, sends this machine into its own
// network or to a cloud's metadata service. Names and the registry's own host
// are allowed, as go-containerregistry has it, and to a registry that itself
// lies inside, so is the rest of the inside.
func redirect(origin, address *url.URL, location string) (*url.URL, error) {
	next, err := address.Parse(location)
	if err != nil || location == "" || next.Host == "" || next.Scheme != "https" && next.Scheme != "http" {
		return nil, fmt.Errorf("%s redirects to nowhere", address.Host)
	}
	if err := CheckHost(origin.Hostname(), next.Hostname()); err != nil {
		return nil, fmt.Errorf("%s redirects to %w", address.Host, err)
	}
	return next, nil
}

// CheckHost refuses a host to which a registry leads, both without port, if that
// is a private address or this machine and the registry is outside, or if it is of
// the kind that metadata services have.
func CheckHost(registry, to string) error {
	if registry != to && (isLinkLocal(to) || isInside(to) && !isInside(registry)) {
		return fmt.Errorf("the private address %s, which is not followed", to)
	}
	return nil
}

// isInside says whether a host is this machine or, by its address, one of its
// own network.
func isInside(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	ip = ip.Unmap()
	return err == nil && (ip.IsLoopback() || ip.IsPrivate() || ip.IsUnspecified())
}

// isLinkLocal says whether a host is an address of the kind that metadata
// services have.
func isLinkLocal(host string) bool {
	ip, err := netip.ParseAddr(host)
	ip = ip.Unmap()
	return err == nil && (ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast())
}
