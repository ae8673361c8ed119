// Package confined runs a part of this program where it can open no file, reach no host
// and start no program.
//
// It is for code of others that follows what its input says: Trivy's scanners of
// projects open what these name, wherever that lies. Such a part runs in a process of
// its own, the same program started anew ([Main]). It is given its input and a file of
// data ([Run]), prepares what it needs of this machine, gives up all rights ([Enter]), and
// then looks at the data. From there on, what it wants to open does not exist.
//
// Processes are confined by Linux's seccomp. Elsewhere Enter says [ErrUnavailable].
package confined

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

var (
	// ErrUnavailable is wrapped by the errors of systems that cannot confine a process.
	ErrUnavailable = errors.New("no process can be confined on this system")
	// ErrEnded is wrapped by the error of a process that ended without telling why, as
	// one does that takes more than MaxMemory.
	ErrEnded = errors.New("the confined process ended")
)

// MaxMemory is how many bytes of memory, without mapped files, a process may take. What
// reads a project takes some hundreds of MB; a template of some bytes can ask for
// any amount.
const MaxMemory = 4 << 30

const (
	// argument, followed by the name of a part, starts the program for that part.
	argument = "--confined-part"
	// exitFailed and exitUnavailable are the exit codes of a part's process whose
	// output is an error.
	exitFailed, exitUnavailable = 1, 3
	// dataDescriptor is where a part's process has its data.
	dataDescriptor = 3
)

// A Part reads its input, calls [Enter], looks at data, and writes what it finds. The
// input comes from this program, data from elsewhere.
type Part func(input io.Reader, data *os.File, output io.Writer) error

// Main runs the part that args name and returns the exit code; is says whether they name
// one. There is nothing else to be done then.
func Main(args []string, parts map[string]Part) (code int, is bool) {
	if len(args) != 2 || args[0] != argument {
		return 0, false
	}
	part, known := parts[args[1]]
	if !known {
		return exitFailed, true
	}
	var output bytes.Buffer
	err := part(os.Stdin, os.NewFile(dataDescriptor, "data"), &output)
	switch {
	case errors.Is(err, ErrUnavailable):
		code = exitUnavailable
	case err != nil:
		code = exitFailed
	}
	if err != nil {
		output.Reset()
		output.WriteString(err.Error())
	}
	if _, err := output.WriteTo(os.Stdout); err != nil {
		code = exitFailed
	}
	return code, true
}

// Run starts a process for a part and returns what the part writes. The process ends
// with ctx and with this one, and has nothing of the environment but the time zone. What
// it logs goes to stderr.
func Run(ctx context.Context, part string, input io.Reader, data *os.File, stderr io.Writer) ([]byte, error) {
	program, err := self()
	if err != nil {
		return nil, err
	}
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, program, argument, part)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &output, stderr
	cmd.ExtraFiles = []*os.File{data}
	cmd.Env = []string{}
	if zone, set := os.LookupEnv("TZ"); set {
		cmd.Env = append(cmd.Env, "TZ="+zone)
	}
	err = run(cmd)
	switch {
	case err == nil:
		return output.Bytes(), nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case cmd.ProcessState == nil:
		return nil, fmt.Errorf("start a confined process: %w", err)
	}
	switch code := cmd.ProcessState.ExitCode(); {
	case code == exitUnavailable:
		return nil, told{output.String(), ErrUnavailable}
	case code == exitFailed && output.Len() > 0:
		return nil, told{output.String(), err}
	}
	return nil, fmt.Errorf("%w: %w", ErrEnded, err)
}

// A told error is one that a part's process tells of, in its words.
type told struct {
	text string
	kind error
}

func (t told) Error() string { return t.text }
func (t told) Unwrap() error { return t.kind }
