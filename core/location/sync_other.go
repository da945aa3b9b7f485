//go:build !linux

package location

import "os"

func datasync(f *os.File) error { return f.Sync() }
