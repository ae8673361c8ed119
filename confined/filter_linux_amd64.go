package confined

import "golang.org/x/sys/unix"

const machine = unix.AUDIT_ARCH_X86_64

// What only this machine has.
var (
	allowedHere = []uint32{unix.SYS_EPOLL_WAIT, unix.SYS_TIME, unix.SYS_ARCH_PRCTL}
	absentHere  = []uint32{unix.SYS_OPEN, unix.SYS_STAT, unix.SYS_LSTAT, unix.SYS_ACCESS, unix.SYS_READLINK, unix.SYS_MKDIR, unix.SYS_UNLINK, unix.SYS_RMDIR}
)
