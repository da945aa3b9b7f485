package host

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"fernamt/core/admin"
	"fernamt/core/listen"
	"fernamt/core/store"
)

// storeCommands keep and bring back everything.
func (p *Program) storeCommands() []admin.Command {
	return []admin.Command{
		admin.Backup(),
		{Name: "restore", Args: "PATH [--replace]", Where: admin.Stopped, Rights: admin.Own, Long: true, Run: p.restore,
			Help: "Brings back what a backup holds, into an empty store of either engine\n\n" +
				"--replace puts it in the place of a store that holds data; what was there is kept beside."},
	}
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
	switch {
	case how.Replace && s.Storage.DSN == "":
		c.Printf("what was there is kept: rm %s once it is not needed\n", filepath.Join(c.Data, "store.db.replaced-*"))
	case how.Replace:
		c.Printf("what was there is kept in the database's schemas fernamt_replaced_*: drop them once they are not needed\n")
	}
	return nil
}

// megabytes is for people.
func megabytes(n uint64) string { return fmt.Sprintf("%d MiB", n>>20) }
