//go:build unix

package transport

import "golang.org/x/sys/unix"

// writeNow writes what the kernel takes at once.
func writeNow(fd uintptr, b []byte) (int, error) { return unix.Write(int(fd), b) }
