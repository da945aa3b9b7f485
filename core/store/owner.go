package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// belong gives what root made to the owner of the data folder: root backs up and restores
// while the server is stopped, and the server, which runs as somebody else, must find its
// files again. A symbolic link is not followed.
func belong(dir string, paths ...string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner, ok := st.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	for _, p := range paths {
		if err := os.Lchown(p, int(owner.Uid), int(owner.Gid)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("give to the data folder's owner: %w", err)
		}
	}
	return nil
}

// BackupDir is where backups stand in a data folder; it is made if it is not there.
func BackupDir(data string) (string, error) {
	dir := filepath.Join(data, "backups")
	if err := os.Mkdir(dir, 0o700); err != nil {
		if errors.Is(err, os.ErrExist) {
			return dir, nil
		}
		return "", err
	}
	return dir, belong(data, dir)
}
