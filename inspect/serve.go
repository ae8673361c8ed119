package inspect

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/nydusimage"
)

// An Output is where answers go, and how.
type Output struct {
	Out io.Writer
	// Err is for errors, where answers are text, and for what was fetched.
	Err io.Writer
	// Explain makes lines for a person of an error, safe for a terminal.
	Explain func(error) string
	// JSON says that answers and errors are JSON documents, one a line.
	JSON bool
	// Timeout bounds each command; 0 does not.
	Timeout time.Duration
	// Traffic, if not nil, is told after each command.
	Traffic *nydusimage.Traffic
}

// Lines gives command lines, at last [io.EOF].
type Lines interface {
	ReadLine() (string, error)
}

// ErrFailed is wrapped by the error of [Session.Serve] about commands that failed.
var ErrFailed = errors.New("commands failed")

// A failure is an error as a JSON document.
type failure struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

// answerBuffer is how much of an answer is written at once, in bytes.
const answerBuffer = 64 << 10

// Answer runs a call and writes its answer. The error is left to the caller.
func (s *Session) Answer(ctx context.Context, c *Call, o Output) error {
	if o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.Timeout,
			fmt.Errorf("%s took longer than %v (--timeout): %w", c.Command.Name, o.Timeout, context.DeadlineExceeded))
		defer cancel()
	}
	var requests, bytes int64
	if o.Traffic != nil {
		requests, bytes = o.Traffic.Requests(), o.Traffic.Bytes()
	}
	err := s.answer(ctx, c, o)
	if o.Traffic != nil && c.Command.run != nil {
		fmt.Fprintf(o.Err, "nydus: %s read %d bytes in %d requests\n", c.Command.Name, o.Traffic.Bytes()-bytes, o.Traffic.Requests()-requests)
	}
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = context.Cause(ctx)
	}
	return err
}

func (s *Session) answer(ctx context.Context, c *Call, o Output) error {
	a, err := s.Run(ctx, c)
	if err != nil {
		return err
	}
	if o.JSON {
		w := bufio.NewWriterSize(o.Out, answerBuffer)
		return errors.Join(WriteJSON(w, a), w.Flush())
	}
	out := textWriter{to: o.Out, escape: IsTerminal(o.Out)}
	w := bufio.NewWriterSize(&out, answerBuffer)
	return errors.Join(a.Text(w), w.Flush(), out.end())
}

// Serve answers command after command until exit or the end of the lines. A
// command that fails does not end it: its error is written, as a line to o.Err,
// or as a document in place of the answer. With JSON, where a program asks, the
// error at the end says how many failed and wraps [ErrFailed].
func (s *Session) Serve(ctx context.Context, lines Lines, o Output) error {
	asked, failed := 0, 0
	for {
		line, err := readLine(ctx, lines)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read a command: %w", err)
		}
		words, err := Words(line)
		if err == nil && len(words) == 0 {
			continue
		}
		if err != nil {
			err = &UsageError{err, "quote names as in a shell"}
		} else {
			err = s.serve(ctx, words, o)
		}
		if errors.Is(err, errExit) {
			break
		}
		asked++
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			continue
		}
		failed++
		if err := o.fail(err); err != nil {
			return err
		}
	}
	if failed > 0 && o.JSON {
		return fmt.Errorf("%d of %d %w", failed, asked, ErrFailed)
	}
	return nil
}

// readLine waits for a line no longer than ctx lasts. What then still reads cannot
// be stopped, and ends with the program.
func readLine(ctx context.Context, lines Lines) (string, error) {
	type read struct {
		line string
		err  error
	}
	done := make(chan read, 1)
	go func() {
		line, err := lines.ReadLine()
		done <- read{line, err}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func (s *Session) serve(ctx context.Context, words []string, o Output) error {
	c, err := Parse(words)
	if err != nil {
		return err
	}
	return s.Answer(ctx, c, o)
}

// fail writes an error.
func (o *Output) fail(err error) error {
	if !o.JSON {
		_, err := fmt.Fprintln(o.Err, o.Explain(err))
		return err
	}
	document := failure{Error: err.Error()}
	var wrong *UsageError
	if errors.As(err, &wrong) {
		document.Hint = wrong.Hint
	}
	w := bufio.NewWriter(o.Out)
	encodeErr := encode(w, document)
	w.WriteByte('\n')
	return errors.Join(encodeErr, w.Flush())
}
