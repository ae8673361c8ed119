package nydusmount

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// environment names the variable that says where nydusd is.
const environment = "NYDUSD"

const howToGet = "install it (cargo install nydus-rs, or a release from https://github.com/dragonflyoss/nydus/releases) " +
	"and put it into PATH, or name it with --nydusd or " + environment

// findNydusd returns the absolute path of nydusd: the given path or name, else
// the variable NYDUSD, else "nydusd" in PATH.
func findNydusd(program string) (string, error) {
	from := "--nydusd"
	if program == "" {
		program, from = os.Getenv(environment), environment
	}
	if program == "" {
		program, from = "nydusd", "PATH"
	}
	found, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("%w is not there (%s: %w): %s", ErrNydusd, from, err, howToGet)
	}
	return filepath.Abs(found)
}

var versionLine = regexp.MustCompile(`(?i)^\s*(?:nydusd\s+)?version:\s*(\S+)`)

// checkVersion reads what nydusd says of itself with --version and --help. What
// cargo builds does not know its version: then it counts what it can do.
func checkVersion(version, help string) error {
	found := versionLine.FindStringSubmatch(version)
	if found == nil {
		return fmt.Errorf("%w: this is another program: it says %q of its version", ErrNydusd, firstLine(version))
	}
	number := strings.TrimPrefix(found[1], "v")
	if number != "unknown" && !strings.HasPrefix(number, "2.") {
		return fmt.Errorf("%w has version %s, this needs 2.x: %s", ErrNydusd, found[1], howToGet)
	}
	if !strings.Contains(help, "--rlimit-nofile") || !strings.Contains(help, "--apisock") {
		return fmt.Errorf("%w of version %s does not know the options that this needs of 2.x: %s", ErrNydusd, found[1], howToGet)
	}
	return nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
