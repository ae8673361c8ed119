package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/aquasecurity/trivy/pkg/flag"
)

// Trivy hands its leading global flags on in front of the command word.
func TestCommandFirst(t *testing.T) {
	commands := []string{"help", "scan", "check", "version"}
	forms := map[string][][]string{} // a flag's name to the ways to write it
	cmd := newCobra()
	flag.NewGlobalFlagGroup().AddFlags(cmd)
	cmd.PersistentFlags().VisitAll(func(f *pflag.Flag) {
		long, short := "--"+f.Name, "-"+f.Shorthand
		if f.NoOptDefVal != "" { // a boolean
			forms[f.Name] = [][]string{{long}, {long + "=true"}, {long + "=false"}}
			if f.Shorthand != "" {
				forms[f.Name] = append(forms[f.Name], []string{short}, []string{short + short[1:]})
			}
			return
		}
		// A value may be spelled like a command.
		forms[f.Name] = [][]string{{long, "value"}, {long + "=value"}, {long, "scan"}, {long + "=scan"}}
		if f.Shorthand != "" {
			forms[f.Name] = append(forms[f.Name], []string{short, "value"}, []string{short + "value"}, []string{short, "check"},
				[]string{"-q" + f.Shorthand, "value"}, []string{"-qd" + f.Shorthand + "value"})
		}
	})
	require.Contains(t, forms, "quiet")
	require.Contains(t, forms, "config")
	require.GreaterOrEqual(t, len(forms), 10)

	for name, ways := range forms {
		for _, way := range ways {
			t.Run(name+" "+strings.Join(way, " "), func(t *testing.T) {
				for _, word := range []string{"scan", "check", "version"} {
					rest := append(slices.Clone(way), "image:tag")
					require.Equal(t, append([]string{word}, rest...), commandFirst(slices.Concat(way, []string{word, "image:tag"}), commands), "before the word")
					require.Equal(t, append([]string{word}, rest...), commandFirst(append([]string{word}, rest...), commands), "after the word")
				}
				// No command word: scan is meant.
				for _, reference := range []string{"image:tag", "frobnicate", "./scan"} {
					args := append(slices.Clone(way), reference)
					require.Equal(t, append([]string{"scan"}, args...), commandFirst(args, commands))
				}
			})
		}
	}
	for _, test := range []struct{ args, want string }{
		{"", ""},
		{"--help", "--help"},
		{"-h", "-h"},
		{"scan", "scan"},
		{"scan check", "scan check"},      // a reference that is named like a command
		{"image scan", "scan image scan"}, // the second argument is no command word
		{"--severity HIGH image", "scan --severity HIGH image"}, // not a global flag
		{"-s scan image", "scan -s scan image"},
		{"--quiet --severity scan image", "scan --quiet --severity scan image"},
		{"-qd scan image", "scan -qd image"},
		{"-qdc file --debug check a b", "check -qdc file --debug a b"},
		{"-- scan", "scan -- scan"},
		{"-", "scan -"},
	} {
		require.Equal(t, strings.Fields(test.want), commandFirst(strings.Fields(test.args), commands), test.args)
	}
}
