//go:build linux

package inspect_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/inspect"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
)

// A console is a pseudo-terminal with a person at it.
type console struct {
	person, program *os.File

	mu    sync.Mutex
	shown bytes.Buffer
}

// openConsole opens a pseudo-terminal (ptmx(4)).
func openConsole(t *testing.T) *console {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	program, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(int(program.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 200}))
	c := &console{person: person, program: program}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 4096)
		for {
			n, err := person.Read(buffer)
			c.mu.Lock()
			c.shown.Write(buffer[:n])
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		program.Close()
		<-done
		person.Close()
	})
	return c
}

// wait waits until text is shown and returns all that was shown up to its end; it
// is taken away.
func (c *console) wait(t *testing.T, text string) string {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		c.mu.Lock()
		shown := c.shown.String()
		if at := strings.Index(shown, text); at >= 0 {
			c.shown.Next(at + len(text))
			c.mu.Unlock()
			return shown[:at+len(text)]
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	require.FailNow(t, "it is not shown", "%q is not in %q", text, c.shown.String())
	return ""
}

func (c *console) typed(t *testing.T, keys string) {
	t.Helper()
	_, err := c.person.WriteString(keys)
	require.NoError(t, err)
}

// TestPrompt drives the prompt in a pseudo-terminal: commands, mistakes, history,
// completion, and its ends: by command, by key, and by a signal.
func TestPrompt(t *testing.T) {
	i := open(t, testimage.Odd(t), testimage.ConvertOptions{})
	for _, end := range []string{"exit\r", "\x04", "\x03", ""} {
		c := openConsole(t)
		ctx, interrupt := context.WithCancel(t.Context())
		lines := inspect.NewPrompt(i.Session, c.program, c.program)
		require.True(t, inspect.IsTerminal(c.program, c.program))
		ended := make(chan error, 1)
		go func() {
			ended <- i.Serve(ctx, lines, inspect.Output{
				Out: c.program, Err: c.program, Explain: func(err error) string { return "error: " + err.Error() },
			})
		}()
		c.wait(t, "nydus:/> ")
		c.typed(t, "cat dir/file\r")
		c.wait(t, "\ncontent\r\n")
		c.wait(t, "nydus:/> ")
		c.typed(t, "cat nowhere\r")
		c.wait(t, "\nerror: /nowhere: ")
		c.wait(t, "nydus:/> ")
		c.typed(t, "cd 'dir-to-link'\r")
		c.wait(t, "nydus:/dir> ")
		c.typed(t, "\x1b[A\x1b[A\x1b[A\r") // three up: cat dir/file, which is not below /dir
		c.wait(t, "error: /dir/dir/file: ")
		c.wait(t, "nydus:/dir> ")
		c.typed(t, "ca\tf\t\r")
		c.wait(t, "cat file ")
		c.wait(t, "\ncontent\r\n")
		c.wait(t, "nydus:/dir> ")
		c.typed(t, "cat /names/two\t\r")
		c.wait(t, `cat /names/two\ \ spaces `)
		c.wait(t, "\nname 1\r\n")
		c.wait(t, "nydus:/dir> ")
		c.typed(t, "cd\r")
		c.wait(t, "nydus:/> ")
		c.typed(t, end)
		if end == "" {
			interrupt()
		}
		select {
		case err := <-ended:
			assert.ErrorIs(t, err, ctx.Err(), "%q", end)
		case <-time.After(30 * time.Second):
			require.FailNow(t, "the prompt does not end", "%q", end)
		}
		require.NoError(t, lines.Close())
		interrupt()
		termios, err := unix.IoctlGetTermios(int(c.program.Fd()), unix.TCGETS)
		require.NoError(t, err)
		assert.NotZero(t, termios.Lflag&unix.ECHO, "the terminal is left as it was")
		c.typed(t, "\r") // for what still reads after an interrupt
	}
}
