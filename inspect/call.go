package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"
)

// A Call is a command with its arguments.
type Call struct {
	Command *Command

	args []string
	// The values of the flags that the command has.
	layer             int
	name, types, size string // of find
	bytes             string // of cat
	changes           bool   // of layers
	uncompressed      bool   // of chunk
	output            string // of export
}

// A UsageError says that a command was called wrongly.
type UsageError struct {
	Err error
	// Hint says what to do about it.
	Hint string
}

func (e *UsageError) Error() string { return e.Err.Error() }

func (e *UsageError) Unwrap() error { return e.Err }

// The hints of a UsageError, beside how a command is called.
const (
	hintHelp   = "help lists the commands"
	hintLayers = "layers lists the layers"
	hintBlobs  = "blobs lists the blobs"
	hintStat   = "stat shows the inode and the chunks of a path"
)

func unknown(name string) error {
	return &UsageError{fmt.Errorf("there is no command %q", name), hintHelp}
}

// wrong makes a UsageError.
func (c *Call) wrong(format string, args ...any) error {
	return &UsageError{fmt.Errorf(c.Command.Name+": "+format, args...), "usage: " + c.Command.Usage()}
}

// Parse reads a command with its arguments. The flags in more are understood, too,
// and set. Where the command is wrong, the error is a [*UsageError].
func Parse(words []string, more ...*pflag.FlagSet) (*Call, error) {
	if len(words) == 0 {
		return nil, &UsageError{errors.New("no command is given"), hintHelp}
	}
	c := &Call{Command: Lookup(words[0])}
	if c.Command == nil {
		return nil, unknown(words[0])
	}
	flags := pflag.NewFlagSet(c.Command.Name, pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	if c.Command.flags != nil {
		c.Command.flags(flags, c)
	}
	for _, m := range more {
		flags.AddFlagSet(m)
	}
	err := flags.Parse(words[1:])
	asked := flags.Lookup("help") // another's
	if errors.Is(err, pflag.ErrHelp) || asked != nil && asked.Changed {
		return &Call{Command: Lookup("help"), args: words[:1]}, nil
	}
	if err != nil {
		return nil, c.wrong("%w", err)
	}
	c.args = flags.Args()
	switch n := len(c.args); {
	case n < c.Command.least:
		return nil, c.wrong("an argument is missing")
	case n > c.Command.most:
		return nil, c.wrong("%q is one argument too many", c.args[c.Command.most])
	case c.layer < 0:
		return nil, c.wrong("layers count from 1")
	}
	return c, nil
}

// arg returns an argument, or what stands for one that is not given.
func (c *Call) arg(n int, absent string) string {
	if n < len(c.args) {
		return c.args[n]
	}
	return absent
}

// Run gives the answer to a call. An answer may still fail while it is written.
func (s *Session) Run(ctx context.Context, c *Call) (Answer, error) {
	if c.Command.run == nil {
		return nil, errExit
	}
	return c.Command.run(ctx, s, c)
}

// errExit ends [Session.Serve].
var errExit = errors.New("exit ends a session")
