package nydusmount

import (
	"cmp"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// endTimeout is how long the watcher may take to clean up.
const endTimeout = 10 * time.Second

// A Daemon is a nydusd that serves an image at MountPoint.
type Daemon struct {
	// MountPoint is an absolute path.
	MountPoint string

	folder  string
	secrets []string
	watcher *exec.Cmd
	pipe    *os.File      // the watcher lives until it is closed
	done    chan struct{} // closed when nydusd has ended
	exited  chan struct{} // closed when the watcher has ended

	closing sync.Once
	failed  error // of closing

	mu     sync.Mutex
	err    error // why nydusd has ended, if not by Close
	last   error // what the watcher said after that
	closed bool
	before []func() error // what Close does first
}

// launch starts a watcher and returns when nydusd serves, or when ctx ends.
func launch(ctx context.Context, j job) (*Daemon, error) {
	in, pipe, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	events, out, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, pipe.Close())
	}
	defer out.Close()
	// The same program, also if its file has been replaced since.
	cmd := exec.Command("/proc/self/exe", watcherArgument)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin = in
	cmd.ExtraFiles = []*os.File{out}
	// The watcher's folder is another: a relative path would lead elsewhere.
	temporary, err := filepath.Abs(os.TempDir())
	if err != nil {
		return nil, errors.Join(err, pipe.Close(), events.Close())
	}
	cmd.Env = append(cleanEnvironment(), "TMPDIR="+temporary)
	cmd.Dir = "/"
	// A signal from the terminal is for the plugin alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the watcher of %w: %w", ErrNydusd, err), pipe.Close(), events.Close())
	}
	d := &Daemon{secrets: j.Secrets, watcher: cmd, pipe: pipe, done: make(chan struct{}), exited: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(d.exited)
		// What the watcher was just starting may hold the other end.
		time.AfterFunc(time.Second, func() { _ = events.SetReadDeadline(time.Now()) })
	}()
	go func() { _ = gob.NewEncoder(pipe).Encode(j) }() // fails where the watcher fails

	decoder := gob.NewDecoder(events)
	first := make(chan error, 1)
	var ready event
	go func() {
		defer events.Close()
		defer close(d.done)
		err := next(decoder, &ready)
		first <- err
		if err == nil {
			var last event
			err = next(decoder, &last)
		}
		d.end(err)
	}()
	select {
	case err = <-first:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	d.folder, d.MountPoint = ready.Folder, ready.MountPoint
	return d, nil
}

// next reads an event; a failure is an error.
func next(events *gob.Decoder, e *event) error {
	if err := events.Decode(e); err != nil {
		return fmt.Errorf("%w: its watcher ended", ErrNydusd)
	}
	if e.Failed == "" {
		return nil
	}
	failed := &watcherError{text: e.Failed, kind: ErrNydusd, left: e.Left, folder: e.Folder}
	switch {
	case e.Limit != nil:
		failed.kind = e.Limit
	case e.OfMountPoint:
		failed.kind = ErrMountPoint
	}
	return failed
}

// A watcherError is an error of another process.
type watcherError struct {
	text string
	kind error
	// left says why the watcher could not remove its run folder; "" if it could.
	left, folder string
}

func (e *watcherError) Error() string { return e.text }
func (e *watcherError) Unwrap() error { return e.kind }

func (d *Daemon) end(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		d.last = err
	} else {
		d.err = err
	}
}

// Done is closed when nydusd has ended, for whatever reason.
func (d *Daemon) Done() <-chan struct{} { return d.done }

// Err says why nydusd has ended on its own; else it is nil.
func (d *Daemon) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// Traffic says what nydusd has read of its backend so far, as it counts:
// requests, and compressed bytes.
func (d *Daemon) Traffic(ctx context.Context) (requests, bytes int64) { return traffic(ctx, d.folder) }

// Cause is the error of all that was done with the mount, err, with the reason where
// nydusd is that; and the reason alone where there was no error, for where the mount was
// taken away, folders are empty.
func (d *Daemon) Cause(err error) error {
	if err == nil {
		return d.Err()
	}
	return d.cause(err)
}

// cause adds to the error of a read, which the kernel gives, that nydusd has
// ended, or what it last said. A read fails a moment before the end is known.
func (d *Daemon) cause(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, fs.ErrClosed) {
		return err
	}
	if errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED) {
		select {
		case <-d.done:
		case <-time.After(endTimeout):
		}
	}
	if ended := d.Err(); ended != nil {
		return fmt.Errorf("%w: %w", err, ended)
	}
	if word := lastWord(readLog(d.folder, d.secrets)); word != "" {
		return fmt.Errorf("%w; nydusd last said: %s", err, word)
	}
	return err
}

// EndWith closes the daemon when ctx ends: reads that hang can be ended in no
// other way.
func (d *Daemon) EndWith(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = d.Close() })
	d.onClose(func() error { stop(); return nil })
}

// onClose has something done before nydusd is ended; at once if that is over.
func (d *Daemon) onClose(f func() error) {
	d.mu.Lock()
	closed := d.closed
	if !closed {
		d.before = append(d.before, f)
	}
	d.mu.Unlock()
	if closed {
		_ = f()
	}
}

// Close ends nydusd and returns when its mount and its files are gone, also where
// another is closing it.
func (d *Daemon) Close() error {
	d.closing.Do(func() { d.failed = d.close() })
	return d.failed
}

func (d *Daemon) close() error {
	d.mu.Lock()
	before := d.before
	d.closed = true
	d.mu.Unlock()
	var errs []error
	for _, f := range before {
		errs = append(errs, f())
	}
	errs = append(errs, d.pipe.Close())
	select {
	case <-d.exited:
	case <-time.After(endTimeout):
		// nydusd dies with its watcher; the rest is done here.
		errs = append(errs, fmt.Errorf("%w: its watcher did not end within %v", ErrNydusd, endTimeout), d.watcher.Process.Kill())
		<-d.exited
	}
	if !d.watcher.ProcessState.Success() {
		cleanLeftovers(os.TempDir())
		errs = append(errs, d.unsaid())
	}
	return errors.Join(errs...)
}

// unsaid is what the user does not know yet of a watcher that has failed: what is left
// behind, or why nydusd had ended before it was closed.
func (d *Daemon) unsaid() error {
	<-d.done
	d.mu.Lock()
	defer d.mu.Unlock()
	folder, why := d.folder, cmp.Or(d.last, d.err)
	var told *watcherError
	if errors.As(why, &told) && told.left != "" {
		folder, why = told.folder, errors.New(told.left)
	}
	if _, err := os.Lstat(folder); folder != "" && err == nil {
		return fmt.Errorf("%w %s: %w", ErrLeft, folder, why)
	}
	if d.folder != "" && d.watcher.ProcessState.Exited() {
		return d.last
	}
	return nil
}
