package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"fernamt/core/admin"
	"fernamt/core/listen"
	"fernamt/core/store"
)

// storeCommands keep and bring back everything.
func (p *Program) storeCommands() []admin.Command {
	return []admin.Command{
		{Name: "backup", Args: "[PATH]", Where: admin.Either, Rights: admin.Own, Long: true, Run: backup,
			Help: "Writes everything that is stored to a new file, while the server goes on\n\n" +
				"Without PATH into backups in the data folder. Accounts, messages and events are in it; settings,\n" +
				"certificates and keys are files of the data folder and are not."},
		{Name: "restore", Args: "PATH [--replace]", Where: admin.Stopped, Rights: admin.Own, Long: true, Run: p.restore,
			Help: "Brings back what a backup holds, into an empty store of either engine\n\n" +
				"--replace empties the store first; what was there is backed up before."},
	}
}

func backup(ctx context.Context, c *admin.Call) error {
	path := c.Arg(0)
	if path == "" {
		dir := filepath.Join(c.Data, "backups")
		if err := os.MkdirAll(dir, 0o700); err != nil {
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

// restore works on a store that nobody has open.
func (p *Program) restore(ctx context.Context, c *admin.Call) error {
	s, err := p.load()
	if err != nil {
		return err
	}
	doors := listen.New(listen.Config{Network: p.Network})
	if err := doors.Declare("host", ownPorts(s)); err != nil {
		return err
	}
	cfg, err := storeConfig(baseConfig{settings: s, data: c.Data, doors: doors, log: quiet(c.Err)})
	if err != nil {
		return err
	}
	how := store.Restoring{Replace: c.Has("replace"),
		Progress: func(x store.Progress) { c.Progress(x.Done, x.Total, "restoring "+x.Table) }}
	info, err := store.Inspect(c.Arg(0))
	if err != nil {
		return err
	}
	if err := store.Restore(ctx, cfg, c.Arg(0), how); err != nil {
		return err
	}
	c.Printf("%d rows of %s are back\n", info.Rows, info.Made.Local().Format(time.DateTime))
	return nil
}

// megabytes is for people.
func megabytes(n uint64) string { return fmt.Sprintf("%d MiB", n>>20) }
