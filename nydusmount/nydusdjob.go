package nydusmount

import (
	"time"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/rafs"
)

// A job is what the watcher needs to run nydusd. It goes through a pipe: until
// the watcher has it, nothing is on disk.
type job struct {
	Program   string // nydusd's path
	Bootstrap []byte
	Config    []byte // nydusd's; paths are relative to the run folder
	// Links are made in the folder blobsDir: names to absolute paths.
	Links map[string]string
	// Secrets are kept out of what is shown of nydusd's log.
	Secrets      []string
	MountPoint   string // absolute; "" is a folder in the run folder
	StartTimeout time.Duration
	MaxDisk      int64 // bytes that nydusd's cache may take
}

// An event is what the watcher tells, in this order: ready or failed, and after
// ready, if nydusd ends on its own or something is left, failed.
type event struct {
	Folder     string // the run folder
	MountPoint string
	Failed     string // why there is no mount, or no more
	// OfMountPoint says that the failure is one of the mount point.
	OfMountPoint bool
	// Limit, if not nil, is the bound that the failure is about.
	Limit *rafs.LimitError
	// Left says why the run folder could not be removed.
	Left string
}

// The files of a run folder. nydusd's working directory is the folder: a path
// to a socket must be short.
const (
	bootstrapFile = "bootstrap"
	configFile    = "config.json"
	logFile       = "nydusd.log"
	apiSocket     = "api.sock"
	cacheDir      = "cache"
	blobsDir      = "blobs"
	mountDir      = "mnt"
)
