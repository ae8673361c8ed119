package main

import (
	"errors"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aquasecurity/trivy/pkg/fanal/types"
	"github.com/aquasecurity/trivy/pkg/flag"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/consistency"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// TestLogins: credentials for one registry are never handed to the other.
func TestLogins(t *testing.T) {
	alice, bob, eve := types.Credential{Username: "alice", Password: "1"}, types.Credential{Username: "bob", Password: "2"}, types.Credential{Username: "eve", Password: "3"}
	list := func(c *types.Credential) []types.Credential {
		if c == nil {
			return nil
		}
		return []types.Credential{*c}
	}
	for _, c := range []struct {
		name                    string
		general, source, target *types.Credential
		from, to                string
		wantSource, wantTarget  *types.Credential
		refused                 bool
	}{
		{"none", nil, nil, nil, "a.test/oci", "b.test/nydus", nil, nil, false},
		{"one registry", &eve, nil, nil, "a.test/oci", "a.test/nydus", &eve, &eve, false},
		{"two registries", &eve, nil, nil, "a.test/oci", "b.test/nydus", nil, nil, true},
		{"Docker Hub and another", &eve, nil, nil, "oci", "b.test/nydus", nil, nil, true},
		{"a registry and a path", &eve, nil, nil, "a.test/oci", "./x", &eve, &eve, false},
		{"both sides' own", nil, &alice, &bob, "a.test/oci", "b.test/nydus", &alice, &bob, false},
		{"one side's own", nil, &alice, nil, "a.test/oci", "b.test/nydus", &alice, nil, false},
		{"one side's own, the other's general", &eve, nil, &bob, "a.test/oci", "b.test/nydus", &eve, &bob, false},
		{"own before general", &eve, &alice, &bob, "a.test/oci", "a.test/nydus", &alice, &bob, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			options := flag.Options{RegistryOptions: flag.RegistryOptions{Credentials: list(c.general)}}
			ours := checkFlags{source: c.source, target: c.target}
			forSource, forTarget, err := ours.logins(options, c.from, c.to)
			if c.refused {
				require.ErrorContains(t, err, "--source-username")
				return
			}
			require.NoError(t, err)
			assert.Equal(t, list(c.wantSource), forSource.Credentials)
			assert.Equal(t, list(c.wantTarget), forTarget.Credentials)
		})
	}
	t.Run("a token", func(t *testing.T) {
		options := flag.Options{RegistryOptions: flag.RegistryOptions{RegistryToken: "token"}}
		_, _, err := (&checkFlags{}).logins(options, "a.test/oci", "b.test/nydus")
		assert.ErrorContains(t, err, "--registry-token")
		forSource, forTarget, err := (&checkFlags{source: &alice}).logins(options, "a.test/oci", "b.test/nydus")
		require.NoError(t, err)
		assert.Empty(t, forSource.RegistryToken)
		assert.Equal(t, "token", forTarget.RegistryToken)
	})
}

func TestMatchPlatforms(t *testing.T) {
	amd64 := v1.Platform{OS: "linux", Architecture: "amd64"}
	arm64, armV8 := v1.Platform{OS: "linux", Architecture: "arm64"}, v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	armV6, armV7 := v1.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}, v1.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	image := func(name string) []v1.Descriptor {
		return []v1.Descriptor{{Digest: v1.Hash{Algorithm: "sha256", Hex: name}}}
	}
	oci := func(platforms ...v1.Platform) (list []nydusimage.PlatformImages) {
		for _, p := range platforms {
			list = append(list, nydusimage.PlatformImages{Platform: p, OCI: image("oci " + p.String())})
		}
		return list
	}
	nydus := func(platforms ...v1.Platform) (list []nydusimage.PlatformImages) {
		for _, p := range platforms {
			list = append(list, nydusimage.PlatformImages{Platform: p, Nydus: image("nydus " + p.String())})
		}
		return list
	}
	said := func(list []checkPlatform) (said []string) {
		for _, p := range list {
			text := p.name + ":"
			for _, d := range []*v1.Descriptor{p.source, p.target} {
				if d != nil {
					text += " " + d.Digest.Hex
				}
			}
			if p.missing != nil {
				text += ", " + p.missing.Want + " is " + p.missing.Got
			}
			if p.err != nil {
				text = p.name + ": " + p.err.Error()
			}
			said = append(said, text)
		}
		return said
	}
	list := matchPlatforms(oci(amd64, armV8, armV6), nydus(arm64, armV7, amd64))
	assert.Equal(t, []string{
		"linux/amd64: oci linux/amd64 nydus linux/amd64",
		"linux/arm64/v8: oci linux/arm64/v8 nydus linux/arm64",
		"linux/arm/v6: oci linux/arm/v6, a Nydus image is none",
		"linux/arm/v7: nydus linux/arm/v7, an OCI image is none",
	}, said(list))

	// Those that are spelled alike first.
	assert.Equal(t, []string{
		"linux/arm64: oci linux/arm64, a Nydus image is none",
		"linux/arm64/v8: oci linux/arm64/v8 nydus linux/arm64/v8",
	}, said(matchPlatforms(oci(arm64, armV8), nydus(armV8))))

	// What is not known, and what is there twice, is not compared.
	unread, twice := oci(arm64), nydus(amd64)
	unread[0].Err = errors.New("it cannot be read")
	twice[0].Nydus = append(twice[0].Nydus, image("another")...)
	assert.Equal(t, []string{
		"linux/amd64: it has 2 images of one kind for the platform, sha256:nydus linux/amd64 and sha256:another: which one is meant is not said",
		"linux/arm64: it cannot be read",
	}, said(matchPlatforms(append(oci(amd64), unread...), append(twice, nydus(arm64)...))))

	// Of a pair of which there is one image neither is read, whatever was to be.
	missing := list[2].missing
	pair := &checkedPair{Data: consistency.DepthFull}
	pair.settle(missingReport(missing, consistency.Options{}), nil)
	assert.Equal(t, "different: 1 difference in 1 path; no image was read", pair.Summary)
	assert.Equal(t, consistency.Different, pair.Verdict)
	ignore, err := consistency.ParseIgnore("index:linux/arm/v6")
	require.NoError(t, err)
	assert.Equal(t, consistency.Equal, missingReport(missing, consistency.Options{Ignore: []consistency.Ignore{ignore}}).Verdict())
}

// TestPrintable: names in an image do not reach the terminal as they are.
func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"plain":      "plain",
		"änderung":   "änderung",
		"a\x1b[31mb": `a\x1b[31mb`,
		"a\nb\tc":    `a\x0ab\x09c`,
		"a\xffb":     `a\xffb`,
		"a\ufffdb":   "a\ufffdb",
		"a\u202eb":   `a\x202eb`, // turns the text around
	} {
		assert.Equal(t, want, printable(text))
	}
	assert.Equal(t, "a; b c", oneLine(" a\nb\tc\n"))
}
