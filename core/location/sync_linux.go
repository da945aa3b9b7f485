package location

import (
	"os"
	"syscall"
)

// datasync brings the octets of f to the disk, but not its times.
func datasync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }
