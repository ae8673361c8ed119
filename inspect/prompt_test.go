//go:build linux

package inspect_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/inspect"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testterminal"
)

// TestPrompt drives the prompt in a pseudo-terminal: commands, mistakes, history,
// completion, and its ends: by command, by key, and by a signal.
func TestPrompt(t *testing.T) {
	i := open(t, testimage.Odd(t), testimage.ConvertOptions{})
	for _, end := range []string{"exit\r", "\x04", "\x03", ""} {
		c := testterminal.Open(t, 200)
		ctx, interrupt := context.WithCancel(t.Context())
		lines := inspect.NewPrompt(i.Session, c.Program(), c.Program())
		require.True(t, inspect.IsTerminal(c.Program(), c.Program()))
		ended := make(chan error, 1)
		go func() {
			ended <- i.Serve(ctx, lines, inspect.Output{
				Out: c.Program(), Err: c.Program(), Explain: func(err error) string { return "error: " + err.Error() },
			})
		}()
		c.Wait(t, "nydus:/> ")
		c.Type(t, "cat dir/file\r")
		c.Wait(t, "\ncontent\r\n")
		c.Wait(t, "nydus:/> ")
		c.Type(t, "cat nowhere\r")
		c.Wait(t, "\nerror: /nowhere: ")
		c.Wait(t, "nydus:/> ")
		c.Type(t, "cd 'dir-to-link'\r")
		c.Wait(t, "nydus:/dir> ")
		c.Type(t, "\x1b[A\x1b[A\x1b[A\r") // three up: cat dir/file, which is not below /dir
		c.Wait(t, "error: /dir/dir/file: ")
		c.Wait(t, "nydus:/dir> ")
		c.Type(t, "ca\tf\t\r")
		c.Wait(t, "cat file ")
		c.Wait(t, "\ncontent\r\n")
		c.Wait(t, "nydus:/dir> ")
		c.Type(t, "cat /names/two\t\r")
		c.Wait(t, `cat /names/two\ \ spaces `)
		c.Wait(t, "\nname 1\r\n")
		c.Wait(t, "nydus:/dir> ")
		c.Type(t, "cd\r")
		c.Wait(t, "nydus:/> ")
		c.Type(t, end)
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
		termios, err := unix.IoctlGetTermios(int(c.Program().Fd()), unix.TCGETS)
		require.NoError(t, err)
		assert.NotZero(t, termios.Lflag&unix.ECHO, "the terminal is left as it was")
		c.Type(t, "\r") // for what still reads after an interrupt
	}
}
