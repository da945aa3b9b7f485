package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"fernamt/core/admin"
	"fernamt/core/config"
	"fernamt/core/ident"
)

// outposts are roles that stand outside: they keep no accounts and need no database.
var outposts = [...]string{"edge", "proxy", "balance"}

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
	part, secrets := partFor(s, h)
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

// partFor is the part of the settings that a host needs, and the files that it names:
// its own roles' tables, every host's name and inside address, and of the secrets only
// those that its roles use.
func partFor(s *config.Settings, h *config.Host) (*config.Settings, []string) {
	part := *s
	part.Roles = map[string]any{}
	for _, r := range h.Roles {
		part.Roles[r] = s.Roles[r]
	}
	var files []string
	outside := !slices.ContainsFunc(h.Roles, func(r string) bool { return !slices.Contains(outposts[:], r) })
	switch {
	case outside:
		part.Storage = config.Storage{}
	case s.Storage.Password.File() != "":
		files = append(files, s.Storage.Password.File())
		part.Storage.Password = config.SecretIn(filepath.Base(s.Storage.Password.File()))
	}
	if f := s.HEP.Password.File(); f != "" {
		files = append(files, f)
		part.HEP.Password = config.SecretIn(filepath.Base(f))
	}
	part.Certificates = nil
	for _, c := range s.Certificates {
		files = append(files, c.Cert, c.Key.File())
		c.Cert, c.Key = filepath.Base(c.Cert), config.SecretIn(filepath.Base(c.Key.File()))
		part.Certificates = append(part.Certificates, c)
	}
	part.Hosts = nil
	for i := range s.Hosts {
		o := s.Hosts[i]
		if o.Name != h.Name {
			o = config.Host{Name: o.Name, Pool: o.Pool, Roles: o.Roles, Internal: o.Internal}
		}
		part.Hosts = append(part.Hosts, o)
	}
	return &part, files
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return writeFile(to, b, 0o600)
}
