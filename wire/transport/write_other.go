//go:build !unix

package transport

import "syscall"

// writeNow leaves everything to the writer goroutine.
func writeNow(uintptr, []byte) (int, error) { return 0, syscall.EAGAIN }
