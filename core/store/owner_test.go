package store

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"fernamt/test/is"
)

// TestOwner: what root does in a folder of somebody else's leaves nothing there that its
// owner may not read. Who is not root owns all of it anyhow.
func TestOwner(t *testing.T) {
	dir := t.TempDir()
	if os.Geteuid() == 0 {
		is.NoErr(t, os.Chown(dir, 65534, 65534))
	}
	want := owner(t, dir)
	db := opened(t, Config{Dir: dir})
	backups, err := BackupDir(dir)
	is.NoErr(t, err)
	name := filepath.Join(backups, "one"+dumpSuffix)
	is.NoErr(t, db.Backup(t.Context(), name, nil))
	is.NoErr(t, db.Close())
	is.NoErr(t, Restore(t.Context(), Config{Dir: dir}, name, Restoring{Replace: true}))
	seen := 0
	is.NoErr(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		is.NoErr(t, err)
		is.Equal(t, owner(t, path), want, path)
		seen++
		return nil
	}))
	is.True(t, seen >= 5, "folder, backups, backup, store and lock")
}

func owner(t *testing.T, path string) uint32 {
	st, err := os.Lstat(path)
	is.NoErr(t, err)
	return st.Sys().(*syscall.Stat_t).Uid
}
