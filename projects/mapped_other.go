//go:build !unix

package projects

import (
	"fmt"
	"os"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/confined"
)

// mapped is not needed: no process is confined here.
func mapped(*os.File) ([]byte, error) {
	return nil, fmt.Errorf("map a file: %w", confined.ErrUnavailable)
}
