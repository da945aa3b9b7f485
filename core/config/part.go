package config

import (
	"path/filepath"
	"slices"
)

// outposts are roles that stand outside: they keep no accounts and need no database.
var outposts = [...]string{"edge", "proxy", "balance"}

// For is the part of the settings that a host needs, and the files that it names:
// its own roles' tables, every host's name and inside address, and of the secrets only
// those that its roles use.
func (s *Settings) For(h *Host) (*Settings, []string) {
	part := *s
	part.Roles = map[string]any{}
	for _, r := range h.Roles {
		part.Roles[r] = s.Roles[r]
	}
	var files []string
	outside := !slices.ContainsFunc(h.Roles, func(r string) bool { return !slices.Contains(outposts[:], r) })
	switch {
	case outside:
		part.Storage = Storage{}
	case s.Storage.Password.File() != "":
		files = append(files, s.Storage.Password.File())
		part.Storage.Password = SecretIn(filepath.Base(s.Storage.Password.File()))
	}
	if f := s.HEP.Password.File(); f != "" {
		files = append(files, f)
		part.HEP.Password = SecretIn(filepath.Base(f))
	}
	part.Certificates = nil
	for _, c := range s.Certificates {
		files = append(files, c.Cert, c.Key.File())
		c.Cert, c.Key = filepath.Base(c.Cert), SecretIn(filepath.Base(c.Key.File()))
		part.Certificates = append(part.Certificates, c)
	}
	part.Hosts = nil
	for i := range s.Hosts {
		o := s.Hosts[i]
		if o.Name != h.Name {
			o = Host{Name: o.Name, Pool: o.Pool, Roles: o.Roles, Internal: o.Internal}
		}
		part.Hosts = append(part.Hosts, o)
	}
	return &part, files
}
