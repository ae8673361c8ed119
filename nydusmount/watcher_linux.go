package nydusmount

import (
	"bytes"
	"cmp"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The watcher is a process between the plugin and nydusd: the plugin's own
// program, run with watcherArgument, in a session of its own. Trivy kills its
// plugins without notice; the watcher then sees the end of a pipe, and takes
// nydusd, the mount and the run folder away. nydusd is its child and dies with
// it.
const (
	watcherArgument  = "--watch-nydusd"
	eventsDescriptor = 3
	// versionTimeout is how long nydusd may take to say its version.
	versionTimeout = 10 * time.Second
	// pollFirst and pollLast are the pauses between looks at a nydusd that starts.
	pollFirst = 5 * time.Millisecond
	pollLast  = 100 * time.Millisecond
	// parentPause is between looks at the plugin.
	parentPause = 250 * time.Millisecond
)

// Watcher runs the watcher if the program's arguments, without its name, ask
// for it, and returns its exit code. main must call it before anything else.
func Watcher(args []string) (code int, is bool) {
	if len(args) != 1 || args[0] != watcherArgument {
		return 0, false
	}
	// nydusd is killed when the thread that started it ends.
	runtime.LockOSThread()
	// Only the watcher's end is to be the end of the events, not that of what it starts.
	unix.CloseOnExec(eventsDescriptor)
	// What a script around nydusd has started is waited for, too.
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	// Nobody may be left to read events.
	signal.Ignore(unix.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var j job
	if err := gob.NewDecoder(os.Stdin).Decode(&j); err != nil {
		fmt.Fprintln(os.Stderr, watcherArgument, "is for the plugin itself")
		return 2, true
	}
	go func() {
		// The plugin's end of the pipe closes when it ends, however it ends.
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	go func() {
		for parent := os.Getppid(); !ending(parent); {
			time.Sleep(parentPause)
		}
		cancel()
	}()
	tell := gob.NewEncoder(os.NewFile(eventsDescriptor, "events"))
	if err := watch(ctx, &j, func(e event) { _ = tell.Encode(e) }); err != nil {
		_ = tell.Encode(lastEvent(err, j.Secrets))
		return 2, true
	}
	return 0, true
}

// ending says whether the plugin, the parent, has ended or is about to: where nydusd
// hangs, a plugin that is killed cannot close the files that it has open there, and keeps
// all of its files, with the pipe, until nydusd is gone.
func ending(parent int) bool {
	const exiting = 0x4 // PF_EXITING of its main thread
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", parent))
	if err != nil || os.Getppid() != parent {
		return true
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from the state on
	if len(fields) < 7 {
		return false
	}
	flags, err := strconv.ParseUint(fields[6], 10, 64)
	return err == nil && flags&exiting != 0
}

// lastEvent tells how watch has failed.
func lastEvent(err error, secrets []string) event {
	last := event{Failed: redact(err.Error(), secrets), OfMountPoint: errors.Is(err, ErrMountPoint)}
	_ = errors.As(err, &last.Limit)
	var left *leftError
	if errors.As(err, &left) {
		last.Folder, last.Left = left.folder, redact(left.why.Error(), secrets)
	}
	return last
}

// A leftError says that a run folder could not be removed.
type leftError struct {
	folder string
	why    error
}

func (e *leftError) Error() string { return fmt.Sprintf("remove %s: %v", e.folder, e.why) }
func (e *leftError) Unwrap() error { return e.why }

// watch runs nydusd until ctx ends or nydusd does, which is an error. Whatever
// happens, nothing is left of it.
func watch(ctx context.Context, j *job, tell func(event)) (err error) {
	if err := askVersion(ctx, j.Program); err != nil {
		return err
	}
	base, err := filepath.EvalSymlinks(os.TempDir())
	if err != nil {
		return fmt.Errorf("the folder for temporary files: %w", err)
	}
	cleanLeftovers(base)
	if j.MountPoint != "" {
		// Held until the end: two that mount at one folder would hide each other.
		release, err := claim(j.MountPoint)
		if err != nil {
			return err
		}
		defer release()
		// Another may have mounted since the plugin looked, and ours would hide it; or a
		// folder above may be another by now.
		switch now, err := CheckMountPoint(j.MountPoint); {
		case err != nil:
			return err
		case now != j.MountPoint:
			return fmt.Errorf("%w %s: it leads to %s by now", ErrMountPoint, j.MountPoint, now)
		}
	}
	run, err := newRunFolder(base)
	if err != nil {
		return err
	}
	defer func() {
		if why := run.remove(); why != nil {
			err = errors.Join(err, &leftError{run.path, why})
		}
	}()
	point := cmp.Or(j.MountPoint, run.file(mountDir))
	if err := run.prepare(j); err != nil {
		return fmt.Errorf("fill the run folder: %w", err)
	}
	j.Bootstrap, j.Config = nil, nil // the watcher lives as long as the mount
	if err := run.record(point, ""); err != nil {
		return err
	}
	n, err := startNydusd(run, j, point)
	if err != nil {
		return err
	}
	device := ""
	defer func() { err = errors.Join(err, n.end(point, device)) }()
	looking, stop := context.WithCancel(ctx)
	defer stop()
	seen := make(chan error, 2)
	go func() { seen <- run.overflow(looking, j.MaxDisk) }()
	if device, err = n.ready(ctx, point, j.StartTimeout, seen); err != nil || ctx.Err() != nil {
		return err
	}
	// nydusd has read it by now.
	if err := os.Remove(run.file(configFile)); err != nil {
		return err
	}
	if err := run.record(point, device); err != nil {
		return err
	}
	go func() { seen <- unmounted(looking, point, device) }()
	tell(event{Folder: run.path, MountPoint: point})
	select {
	case <-ctx.Done():
		return nil
	case err := <-seen:
		return err
	case <-n.exited:
		return n.died()
	}
}

// askVersion runs nydusd for its version and its options.
func askVersion(ctx context.Context, program string) error {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	var said [2]string
	for i, option := range []string{"--version", "--help"} {
		cmd := exec.CommandContext(ctx, program, option)
		cmd.Env = cleanEnvironment()
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
		cmd.WaitDelay = time.Second // for children of a script
		out, err := cmd.Output()
		if err != nil {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				err = fmt.Errorf("no answer in %v", versionTimeout)
			}
			return fmt.Errorf("%w: %s %s: %w", ErrNydusd, program, option, err)
		}
		said[i] = string(out)
	}
	return checkVersion(said[0], said[1])
}

// claim locks a folder against other watchers. What is mounted there has a root of
// its own, which may be locked although the folder below is: who claims has to look
// afterwards whether something is.
func claim(dir string) (release func(), err error) {
	folder, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrMountPoint, dir, err)
	}
	if err := flock(folder); err != nil {
		folder.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("another nydusd is being mounted there")
		}
		return nil, fmt.Errorf("%w %s: lock it: %w", ErrMountPoint, dir, err)
	}
	if !isAt(folder, dir) {
		folder.Close()
		return nil, fmt.Errorf("%w %s: something was mounted or unmounted there just now", ErrMountPoint, dir)
	}
	return func() { folder.Close() }, nil
}

// prepare fills the run folder with what nydusd reads.
func (r *runFolder) prepare(j *job) error {
	for _, dir := range []string{cacheDir, blobsDir, mountDir} {
		if err := os.Mkdir(r.file(dir), 0o700); err != nil {
			return err
		}
	}
	// Of a bootstrap that it refuses, nydusd makes a blob's ID of the file's name, looks
	// in the backend for a blob of this ID, and takes the bootstrap in there, which
	// nobody verifies (RafsSuper::load_from_file, TocEntryList::extract_rafs_meta). It
	// would keep it under this name: a folder there keeps it from that.
	if err := os.Mkdir(filepath.Join(r.file(cacheDir), bootstrapFile+".image.boot"), 0o500); err != nil {
		return err
	}
	for name, path := range j.Links {
		if err := os.Symlink(path, filepath.Join(r.file(blobsDir), name)); err != nil {
			return err
		}
	}
	if err := r.write(bootstrapFile, j.Bootstrap); err != nil {
		return err
	}
	return r.write(configFile, j.Config)
}

// A nydusd is a process that was started.
type nydusd struct {
	cmd     *exec.Cmd
	run     *runFolder
	secrets []string
	before  *mountEntry // what was mounted at its mount point when it started
	exited  chan struct{}
}

func startNydusd(run *runFolder, j *job, point string) (*nydusd, error) {
	before, err := topMount(point)
	if err != nil {
		return nil, err
	}
	files, err := openFilesLimit()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(run.file(logFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(j.Program, "fuse", "--config", configFile, "--bootstrap", bootstrapFile, "--mountpoint", point,
		"--apisock", apiSocket, "--log-level", "warn", "--rlimit-nofile", files)
	cmd.Dir = run.path
	cmd.Env = cleanEnvironment()
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own, so that what a script around nydusd starts dies with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
	if err := limitMemory(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %w: %w", ErrNydusd, err)
	}
	n := &nydusd{cmd: cmd, run: run, secrets: j.Secrets, before: before, exited: make(chan struct{})}
	go n.wait()
	return n, nil
}

// wait returns when nydusd has ended, and with it all of its group, of which the watcher
// is the parent then.
func (n *nydusd) wait() {
	defer close(n.exited)
	group := n.cmd.Process.Pid
	// Until it is waited for, its number and that of its group are nobody else's.
	for unix.Waitid(unix.P_PID, group, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	_ = unix.Kill(-group, unix.SIGKILL)
	_ = n.cmd.Wait()
	for {
		if _, err := unix.Wait4(-group, nil, 0, nil); err != nil && err != unix.EINTR {
			return
		}
	}
}

// openFilesLimit is nydusd's own default where the hard limit allows that:
// nydusd gives up where it does not.
func openFilesLimit() (string, error) {
	const usual = 1000000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return "", fmt.Errorf("limit of open files: %w", err)
	}
	return strconv.FormatUint(min(limit.Max, usual), 10), nil
}

// cleanEnvironment is the environment without Trivy's variables, some of which
// hold passwords, and without the one that a newer nydusd takes for its login to
// the registry in place of the configuration's.
func cleanEnvironment() []string {
	var clean []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "TRIVY_") && !strings.HasPrefix(variable, "IMAGE_PULL_AUTH=") {
			clean = append(clean, variable)
		}
	}
	return clean
}

// mounted returns the device that nydusd has mounted at its mount point, "" if it has
// not. What was there before is another's.
func (n *nydusd) mounted(point string) (device string, err error) {
	top, err := topMount(point)
	if err != nil || top == nil || !top.isFUSE() || n.before != nil && *top == *n.before {
		return "", err
	}
	return top.device, nil
}

// ready waits until nydusd serves the mount point and returns the mount's
// device. It returns early, without an error, when ctx ends, and with what was seen of
// a bound that was passed.
func (n *nydusd) ready(ctx context.Context, point string, limit time.Duration, seen <-chan error) (device string, err error) {
	deadline := time.After(limit)
	for pause := pollFirst; ; pause = min(pause*2, pollLast) {
		if running(ctx, n.run.path) {
			if device, err := n.mounted(point); err != nil || device != "" {
				return device, err
			}
		}
		select {
		case <-ctx.Done():
			return "", nil
		case <-n.exited:
			return "", n.died()
		case err := <-seen:
			return "", err
		case <-deadline:
			return "", fmt.Errorf("%w does not serve after %v%s", ErrNydusd, limit, n.lastWords())
		case <-time.After(pause):
		}
	}
}

func (n *nydusd) died() error {
	return fmt.Errorf("%w ended: %v%s", ErrNydusd, n.cmd.ProcessState, n.lastWords())
}

// lastWords is the end of nydusd's log as an error shows it.
func (n *nydusd) lastWords() string {
	said := readLog(n.run.path, n.secrets)
	if said == "" {
		return ""
	}
	for _, refusal := range mountRefusals {
		if strings.Contains(said, refusal) {
			said += "\n" + howToMount
			break
		}
	}
	return "; its log ends:\n" + said
}

// mountRefusals are what the log of a nydusd says that may not mount: 2.2.0 knows
// the system call only, newer ones also the program fusermount3.
var mountRefusals = []string{"Operation not permitted", "PermissionDenied", "session mount error"}

const howToMount = "mounting needs CAP_SYS_ADMIN: be root, or run this in a user namespace " +
	"(unshare --user --map-root-user --mount); a newer nydusd can also mount through fusermount3, " +
	"with user_allow_other in /etc/fuse.conf"

// end kills nydusd and takes its mount away. What is read of it at that moment
// fails. device is "" where nydusd did not come to serve.
func (n *nydusd) end(point, device string) error {
	mounts := func() ([]mountEntry, error) { return mountsOf(device) }
	if device == "" {
		// It may have mounted just before. As long as it lives, what is there may be
		// another's as well.
		mounts = func() ([]mountEntry, error) {
			found, err := (&mountRecord{Point: point}).mounts()
			return slices.DeleteFunc(found, func(m mountEntry) bool { return n.before != nil && m == *n.before }), err
		}
	} else if unmountAll(mounts) == nil {
		mounts = nil // the number of its device may be another's soon
	}
	_ = n.cmd.Process.Kill() // its group follows
	<-n.exited
	if mounts == nil {
		return nil
	}
	return unmountAll(mounts)
}
