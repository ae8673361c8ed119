//go:build amd64 || arm64

package confined

import (
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// allowed are the system calls that a Go program makes which only computes: memory,
// threads, timers, and what is open already.
var allowed = slices.Concat(allowedHere, []uint32{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_LSEEK, unix.SYS_CLOSE, unix.SYS_FSTAT,
	unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MREMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_BRK,
	unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_RESTART_SYSCALL,
	unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_GETTIMEOFDAY,
	unix.SYS_SETITIMER, unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_DELETE,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2, unix.SYS_PIPE2,
	unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_GETTID, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID,
	unix.SYS_GETCWD, unix.SYS_UNAME, unix.SYS_SYSINFO, unix.SYS_GETRANDOM, unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
})

// absent are the system calls by which files are found. Nothing is there, which code that looks
// for a file that it can do without takes better than that it may not look.
var absent = slices.Concat(absentHere, []uint32{
	unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_NEWFSTATAT, unix.SYS_STATX, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_READLINKAT,
	unix.SYS_MKDIRAT, unix.SYS_UNLINKAT, unix.SYS_CHDIR, unix.SYS_EXECVE, unix.SYS_EXECVEAT,
})

// Where seccomp_data (linux/seccomp.h) has what a filter looks at; all machines of this
// filter are little-endian.
const (
	atNumber   = 0
	atMachine  = 4
	atArgument = 16 // the lower half of the first argument
)

// filter is a program for seccomp, in classic BPF, for the process with the given ID:
// what is neither allowed nor absent is not permitted.
func filter(pid int) []unix.SockFilter {
	const (
		allow  = unix.SECCOMP_RET_ALLOW
		refuse = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
		none   = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOENT)
	)
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	give := func(what uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: what}
	}
	// unless skips n instructions if the loaded value is another.
	unless := func(value uint32, n uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: n}
	}
	p := []unix.SockFilter{load(atMachine), {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: machine, Jt: 1}, give(refuse), load(atNumber)}
	for _, call := range allowed {
		p = append(p, unless(call, 1), give(allow))
	}
	for _, call := range absent {
		p = append(p, unless(call, 1), give(none))
	}
	return append(p,
		// A thread may be made, no process. What the newer call is told cannot be seen here; the C library
		// takes the older one where the newer is not known.
		unless(unix.SYS_CLONE3, 1), give(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)),
		unless(unix.SYS_CLONE, 4), load(atArgument),
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.CLONE_THREAD, Jf: 1}, give(allow), give(refuse),
		// The runtime interrupts its own threads.
		unless(unix.SYS_TGKILL, 3), load(atArgument), unless(uint32(pid), 1), give(allow),
		give(refuse),
	)
}

// install gives all threads of the process a filter.
func install(program []unix.SockFilter) error {
	p := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	stray, _, err := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&p)))
	switch {
	case err != 0:
		return err
	case stray != 0:
		return unix.EBUSY // the ID of a thread that has a filter of its own
	}
	return nil
}
