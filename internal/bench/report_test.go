//go:build linux

package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A report is what a tool found: findings and packages, each spelled without what belongs to the way of scanning, and how
// often it is there.
type report struct{ findings, packages map[string]int }

func readReport(t *testing.T, file string) report {
	t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	var decoded struct {
		Results []struct {
			Target, Type, Class string
			Packages            []struct{ Name, Version, FilePath string }
			Vulnerabilities     []struct{ VulnerabilityID, PkgName, InstalledVersion, PkgPath string }
			Secrets             []struct {
				RuleID    string
				StartLine int
			}
			Misconfigurations []struct {
				ID, Status, Message string
			}
		}
	}
	require.NoError(t, json.Unmarshal(raw, &decoded))
	r := report{map[string]int{}, map[string]int{}}
	for _, result := range decoded.Results {
		target := strings.TrimPrefix(result.Target, "/")
		for _, p := range result.Packages {
			r.packages[fmt.Sprintln("package", result.Type, p.Name, p.Version, strings.TrimPrefix(p.FilePath, "/"))]++
		}
		for _, v := range result.Vulnerabilities {
			r.findings[fmt.Sprintln("vulnerability", result.Type, v.VulnerabilityID, v.PkgName, v.InstalledVersion, strings.TrimPrefix(v.PkgPath, "/"))]++
		}
		for _, s := range result.Secrets {
			r.findings[fmt.Sprintln("secret", target, s.RuleID, s.StartLine)]++
		}
		for _, m := range result.Misconfigurations {
			if m.Status == "FAIL" {
				r.findings[fmt.Sprintln("check", target, result.Type, m.ID, m.Message)]++
			}
		}
	}
	return r
}

func sum(counts map[string]int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}

// lacks is how many findings and packages of other are not in r.
func (r report) lacks(other report) int {
	n := 0
	for what, count := range other.findings {
		n += max(0, count-r.findings[what])
	}
	for what, count := range other.packages {
		n += max(0, count-r.packages[what])
	}
	return n
}
