package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/go/packages"
)

// TestForeignPlatforms type-checks the command for platforms that are not this one, with
// all that it imports. To compile all of Trivy for each takes nine minutes each;
// make dist does.
func TestForeignPlatforms(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	for _, platform := range []string{"windows/amd64", "darwin/arm64"} {
		t.Run(platform, func(t *testing.T) {
			system, architecture, _ := strings.Cut(platform, "/")
			loaded, err := packages.Load(&packages.Config{
				Mode: packages.NeedName | packages.NeedImports | packages.NeedDeps | packages.NeedTypes | packages.NeedSyntax | packages.NeedTypesInfo | packages.NeedModule,
				Env:  append(os.Environ(), "GOOS="+system, "GOARCH="+architecture),
				ParseFile: func(files *token.FileSet, name string, source []byte) (*ast.File, error) {
					file, err := parser.ParseFile(files, name, source, parser.SkipObjectResolution)
					if file != nil && strings.Contains(name, "/pkg/mod/") {
						dropBodies(file)
					}
					return file, err
				},
			}, "./...")
			require.NoError(t, err)
			require.Greater(t, len(loaded), 10)
			for _, p := range loaded {
				for _, e := range p.Errors {
					assert.NoError(t, e, p.PkgPath)
				}
			}
		})
	}
}

// dropBodies keeps of functions what they are called and take: what is in those of
// other modules is for these to test.
func dropBodies(file *ast.File) {
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			f.Body = nil
		}
	}
}
