package testimage

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
)

// run runs a program in dir and returns its stdout; the error holds the command line and the end of what it said.
func run(dir, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	return output(cmd)
}

// output runs a prepared command as run does.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stderr.String() + stdout.String())
		if len(said) > 2000 {
			said = "… " + said[len(said)-2000:]
		}
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, said)
	}
	return stdout.Bytes(), nil
}
