package testterminal

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A Console is a pseudo-terminal with a person at it.
type Console struct {
	person, program *os.File

	mu    sync.Mutex
	shown bytes.Buffer
	done  chan struct{}
}

// Open opens a pseudo-terminal (ptmx(4)) with so many columns.
func Open(t testing.TB, columns int) *Console {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("open a pseudo-terminal: %v", err)
		}
	}
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	check(err)
	check(unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	check(err)
	program, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	check(err)
	check(unix.IoctlSetWinsize(int(program.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: uint16(columns)}))
	c := &Console{person: person, program: program, done: make(chan struct{})}
	go c.watch()
	t.Cleanup(func() {
		c.End()
		person.Close()
	})
	return c
}

// watch keeps what is shown, until nothing has the terminal open any more.
func (c *Console) watch() {
	defer close(c.done)
	buffer := make([]byte, 4096)
	for {
		n, err := c.person.Read(buffer)
		c.mu.Lock()
		c.shown.Write(buffer[:n])
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Program is the end that a program has as its standard input and output.
func (c *Console) Program() *os.File { return c.program }

// End closes the program's end and returns what was shown and is not taken yet. Every
// program must have ended.
func (c *Console) End() string {
	c.program.Close()
	<-c.done
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shown.String()
}

// Wait waits until text is shown and returns all that was shown up to its end; it is
// taken away.
func (c *Console) Wait(t testing.TB, text string) string {
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
	t.Fatalf("it is not shown: %q is not in %q", text, c.shown.String())
	return ""
}

// Type types keys.
func (c *Console) Type(t testing.TB, keys string) {
	t.Helper()
	if _, err := c.person.WriteString(keys); err != nil {
		t.Fatalf("type %q: %v", keys, err)
	}
}
