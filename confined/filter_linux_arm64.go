package confined

import "golang.org/x/sys/unix"

const machine = unix.AUDIT_ARCH_AARCH64

// All calls are those of every machine.
var allowedHere, absentHere []uint32
