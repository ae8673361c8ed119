package nydusmount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A mountEntry is a line of /proc/self/mountinfo.
type mountEntry struct {
	device string // major:minor, which no two mounted filesystems share
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
		table = append(table, mountEntry{device: fields[2], point: unescapeMount(fields[4]), kind: kind[0]})
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

// helperTimeout is how long fusermount may take.
const helperTimeout = 5 * time.Second

// unmount takes the FUSE mount off a path if its device is the given one, or
// any if that is "". Processes that use it keep it until they let go.
func unmount(path, device string) error {
	top, err := topMount(path)
	if err != nil || top == nil || !top.isFUSE() || device != "" && top.device != device {
		return err
	}
	err = unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	// Without the right to unmount, the helper that has mounted can.
	ctx, cancel := context.WithTimeout(context.Background(), helperTimeout)
	defer cancel()
	for _, helper := range []string{"fusermount3", "fusermount"} {
		cmd := exec.CommandContext(ctx, helper, "-u", "-z", "--", path)
		cmd.Env = cleanEnvironment()
		if cmd.Run() == nil {
			return nil
		}
	}
	return fmt.Errorf("unmount %s: %w", path, err)
}
