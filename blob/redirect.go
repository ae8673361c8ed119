package blob

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
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

// ErrNotFollowed is wrapped by the refusal of a host to which a registry leads.
var ErrNotFollowed = errors.New("which is not followed")

// CheckHost refuses a host to which a registry leads, both without port, if that
// is a private address or this machine and the registry is outside, or if it is of
// the kind that metadata services have ([ErrNotFollowed]).
func CheckHost(registry, to string) error {
	from, next := plainHost(registry), plainHost(to)
	if from != next && (isMetadata(next) || isInside(next) && !isInside(from)) {
		return fmt.Errorf("the private address %s, %w", to, ErrNotFollowed)
	}
	return nil
}

// plainHost spells a host as it is compared: resolvers take LOCALHOST and localhost.
// for localhost.
func plainHost(host string) string {
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// address is a host that is an address, else one of no kind at all.
func address(host string) netip.Addr {
	ip, _ := netip.ParseAddr(host)
	return ip.Unmap()
}

// shared is the range that carriers and clouds use inside as they do private ones
// (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// isInside says whether a host is this machine or, by its address, one of its
// own network.
func isInside(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := address(host)
	return ip.IsLoopback() || ip.IsPrivate() || ip.IsUnspecified() || shared.Contains(ip)
}

// metadata are the addresses of metadata services that are not link-local.
var metadata = []netip.Addr{
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
}

// isMetadata says whether a host is an address of the kind that metadata
// services have.
func isMetadata(host string) bool {
	ip := address(host)
	return ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || slices.Contains(metadata, ip)
}
