package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"fernamt/core/admin"
	"fernamt/core/config"
	"fernamt/core/ident"
)

// export writes one host's part of the settings and its certificate into a fresh folder.
func (p *Program) export(_ context.Context, c *admin.Call) error {
	s, err := p.load()
	if err != nil {
		return err
	}
	h, err := s.Pick(c.Arg(0), "")
	if err != nil {
		return err
	}
	dir := c.Flag("output")
	if dir == "" {
		dir = h.Name
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("%s is there already; name another folder with --output", dir)
		}
		return err
	}
	if err := p.exportInto(dir, s, h); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	c.Printf("%s holds what %s needs; take it there and run: fernamt start --data %s --host %s\n", dir, h.Name, filepath.Base(dir), h.Name)
	return nil
}

func (p *Program) exportInto(dir string, s *config.Settings, h *config.Host) error {
	authority := filepath.Join(p.dataDir(), certsDir)
	a, err := ident.NewAuthority(authority, "Fernamt "+s.Domain())
	if err != nil {
		return err
	}
	if _, err := a.Issue(certified(s, h)); err != nil {
		return err
	}
	if err := a.Export(h.Name, filepath.Join(dir, certsDir)); err != nil {
		return err
	}
	part, secrets := s.For(h)
	for _, f := range secrets {
		if err := copyFile(s.Path(f), filepath.Join(dir, filepath.Base(f))); err != nil {
			return err
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# What %s needs of the settings; written by fernamt config export.\n\n", h.Name)
	if err := part.Write(&b); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, settingsFile), b.Bytes(), 0o600)
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return writeFile(to, b, 0o600)
}
