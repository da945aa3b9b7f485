package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"fernamt/core/admin"
	"fernamt/core/trace"
)

// start serves the roles that the settings give this host.
func (p *Program) start(ctx context.Context, c *admin.Call) error {
	o, err := p.options(c)
	if err != nil {
		return err
	}
	return p.serve(ctx, o)
}

// options reads settings and flags.
func (p *Program) options(c *admin.Call) (serveOptions, error) {
	var o serveOptions
	var err error
	if o.offset, err = offset(c); err != nil {
		return o, err
	}
	if o.settings, err = p.load(); err != nil {
		return o, err
	}
	if o.self, err = o.settings.Pick(c.Flag("host"), machine()); err != nil {
		return o, err
	}
	o.log, o.level, err = trace.NewLog(p.Err, o.settings.Log.Format, o.settings.Log.Level)
	return o, err
}

// offset reads --port-offset.
func offset(c *admin.Call) (int, error) {
	f := c.Flag("port-offset")
	if f == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(f)
	if err != nil || n < 0 || n > 60000 {
		return 0, admin.Usagef("--port-offset %s: must be from 0 to 60000", f)
	}
	return n, nil
}

// writeFile writes a whole file or none, and never over another.
func writeFile(name string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(name)
	}
	return err
}

// replaceFile puts a whole file in the place of another, at once.
func replaceFile(name string, content []byte, mode os.FileMode) error {
	part := name + ".part"
	_ = os.Remove(part)
	if err := writeFile(part, content, mode); err != nil {
		return err
	}
	return os.Rename(part, name)
}

// makeDir makes the data folder, for its owner alone.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	return nil
}

// fresh says whether a folder has no settings yet, or none that can be seen: who writes there then hears why not.
func fresh(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, settingsFile))
	return err != nil
}

// every is the names of all roles, in the order of roles.go.
func (p *Program) every() []string {
	var names []string
	for _, k := range p.Kinds {
		names = append(names, k.Name)
	}
	return names
}
