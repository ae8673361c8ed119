package artifact

import (
	"os"
	"testing"

	"github.com/aquasecurity/trivy/pkg/log"
)

func TestMain(m *testing.M) {
	log.InitLogger(false, true) // until then Trivy's log is not safe for concurrent use
	os.Exit(m.Run())
}
