package nydusmount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A mountEntry is a line of /proc/self/mountinfo.
type mountEntry struct {
	id     string // of this mount, which a filesystem can have many of
	device string // major:minor, which no two filesystems share at a time
	point  string
	kind   string // the filesystem's type
}

func (m *mountEntry) isFUSE() bool { return m.kind == "fuse" || strings.HasPrefix(m.kind, "fuse.") }

// mountTable reads what is mounted, in the order in which it was.
func mountTable() ([]mountEntry, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("see what is mounted: %w", err)
	}
	return parseMountTable(string(text)), nil
}

func parseMountTable(text string) []mountEntry {
	var table []mountEntry
	for line := range strings.Lines(text) {
		// 36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw
		before, after, ok := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(kind) < 1 {
			continue
		}
		table = append(table, mountEntry{id: fields[0], device: fields[2], point: unescapeMount(fields[4]), kind: kind[0]})
	}
	return table
}

// unescapeMount reads the octal escapes of spaces, tabs, line breaks and
// backslashes.
func unescapeMount(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+3 < len(text) {
			if code, err := strconv.ParseUint(text[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(code))
				i += 3
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// topMount returns what is mounted at a path, nil if nothing is. Of several,
// one over the other, it is the uppermost.
func topMount(path string) (*mountEntry, error) {
	table, err := mountTable()
	if err != nil {
		return nil, err
	}
	for i := len(table) - 1; i >= 0; i-- {
		if table[i].point == path {
			return &table[i], nil
		}
	}
	return nil, nil
}

// mountsOf finds the mounts of a FUSE filesystem, wherever they are by now: a folder above
// may have another name.
func mountsOf(device string) ([]mountEntry, error) {
	table, err := mountTable()
	return slices.DeleteFunc(table, func(m mountEntry) bool { return m.device != device || !m.isFUSE() }), err
}

// errCovered is the error of a mount that no path leads to.
var errCovered = errors.New("something else is mounted over it")

// open opens a mount's root, and nothing else that its path may lead to. That asks
// nothing of its server.
func (m *mountEntry) open() (*os.File, error) {
	fd, err := unix.Open(m.point, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	root := os.NewFile(uintptr(fd), m.point)
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err == nil && !slices.Contains(strings.Split(string(info), "\n"), "mnt_id:\t"+m.id) {
		err = errCovered
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// unmountAll takes all mounts away that list finds, the last first. Processes that use
// them keep them until they let go. One may go with another.
func unmountAll(list func() ([]mountEntry, error)) error {
	mounts, err := list()
	if err != nil {
		return err
	}
	var errs []error
	for i := range slices.Backward(mounts) {
		errs = append(errs, mounts[i].unmount())
	}
	if err := errors.Join(errs...); err != nil {
		left, again := list()
		if again != nil || len(left) > 0 {
			return errors.Join(err, again)
		}
	}
	return nil
}

// helperTimeout is how long fusermount may take.
const helperTimeout = 5 * time.Second

func (m *mountEntry) unmount() error {
	root, err := m.open()
	if err != nil {
		return fmt.Errorf("unmount %s: %w", m.point, err)
	}
	defer root.Close()
	err = unix.Unmount(fmt.Sprintf("/proc/self/fd/%d", root.Fd()), unix.MNT_DETACH)
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EPERM) && unmountByHelper(m.point) {
		return nil
	}
	return fmt.Errorf("unmount %s: %w", m.point, err)
}

// unmountByHelper has the program unmount that has mounted, for who has no right to.
func unmountByHelper(point string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), helperTimeout)
	defer cancel()
	for _, helper := range []string{"fusermount3", "fusermount"} {
		cmd := exec.CommandContext(ctx, helper, "-u", "-z", "--", point)
		cmd.Env = cleanEnvironment()
		if cmd.Run() == nil {
			return true
		}
	}
	return false
}
