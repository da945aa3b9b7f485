package admin

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"fernamt/core/store"
)

// Backup is the command that writes everything to a file.
func Backup() Command {
	return Command{Name: "backup", Args: "[PATH]", Where: Either, Rights: Own, Long: true, Run: backup,
		Help: "Writes everything that is stored to a new file, while the server goes on\n\n" +
			"Without PATH into backups in the data folder. Accounts, messages and events are in it; settings,\n" +
			"certificates and keys are files of the data folder and are not."}
}

func backup(ctx context.Context, c *Call) error {
	path := c.Arg(0)
	if path == "" {
		dir, err := store.BackupDir(c.Data)
		if err != nil {
			return err
		}
		path = filepath.Join(dir, time.Now().UTC().Format("2006-01-02T150405Z")+".fernamt.gz")
	}
	err := c.Store.Backup(ctx, path, func(p store.Progress) { c.Progress(p.Done, p.Total, "backup of "+p.Table) })
	if err != nil {
		return err
	}
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	c.Printf("%s, %d KiB\n", path, (st.Size()+1023)/1024)
	return nil
}
