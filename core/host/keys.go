package host

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"fernamt/core/config"
	"fernamt/core/ident"
)

// certsDir is the folder of the authority and the host's certificate in the data folder.
const certsDir = "certs"

// authorityFile is the authority's certificate, for whoever wants to trust it.
func authorityFile(data string) string { return filepath.Join(data, certsDir, "ca.pem") }

// certified is what a host's own certificate is for: its name, its pool's, the
// domains, and the addresses that the settings give.
func certified(s *config.Settings, h *config.Host) ident.Host {
	x := ident.Host{Name: h.Name, Domains: s.Domains}
	if pool := s.PoolOf(h); pool != "" {
		x.Names = append(x.Names, pool)
	}
	x.Names = append(x.Names, s.Domains...)
	lists := [][]netip.Addr{h.Internal, h.External}
	for _, door := range slices.Sorted(maps.Keys(h.Addresses)) {
		lists = append(lists, h.Addresses[door])
	}
	for _, list := range lists {
		for _, a := range list {
			ip := net.IP(a.Unmap().AsSlice())
			if a.IsUnspecified() || slices.ContainsFunc(x.Addresses, ip.Equal) {
				continue
			}
			if ip.IsLoopback() && len(x.Names) > 0 && x.Names[len(x.Names)-1] != "localhost" {
				x.Names = append(x.Names, "localhost")
			}
			x.Addresses = append(x.Addresses, ip)
		}
	}
	return x
}

// keysConfig says where the certificates are. A folder with the authority's key makes
// and renews the host's own.
func keysConfig(s *config.Settings, self *config.Host, data string, log *slog.Logger) ident.KeysConfig {
	c := ident.KeysConfig{Dir: filepath.Join(data, certsDir), Host: self.Name, Log: log}
	for _, f := range s.Certificates {
		c.Public = append(c.Public, ident.CertificateFile{Names: f.Names, Cert: s.Path(f.Cert), Key: s.Path(f.Key.File())})
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "ca.key")); err == nil {
		x := certified(s, self)
		c.Renew = &x
	}
	return c
}

// newKeys opens the certificates. A data folder without any gets an authority of its own.
func newKeys(s *config.Settings, self *config.Host, data string, log *slog.Logger) (*ident.Keys, error) {
	if _, err := os.Stat(authorityFile(data)); errors.Is(err, os.ErrNotExist) {
		if _, err := ident.NewAuthority(filepath.Join(data, certsDir), "Fernamt "+s.Domain()); err != nil {
			return nil, err
		}
		log.Info("authority made", "file", authorityFile(data))
	}
	return ident.OpenKeys(keysConfig(s, self, data, log))
}

// lookAfterKeys reads the certificates again every minute and when told, renews what
// nears its end, and warns.
func (s *server) lookAfterKeys(ctx context.Context, told <-chan os.Signal) {
	s.host.Keys.Warn(time.Now())
	every := time.NewTicker(time.Minute)
	defer every.Stop()
	failed := ""
	for {
		asked := false
		select {
		case <-ctx.Done():
			return
		case <-told:
			asked = true
		case <-every.C:
		}
		switch err := s.host.Keys.Reload(); {
		case err == nil && asked:
			s.host.Log.Info("certificates read again")
			failed = ""
		case err == nil:
			failed = ""
		case asked || err.Error() != failed: // said once, not every minute
			failed = err.Error()
			s.host.Log.Error("certificates not read again, the old ones stay", "err", err)
		}
		s.host.Keys.Warn(time.Now())
	}
}

// keyInfo is one certificate as check sees it.
type keyInfo struct {
	What    string
	Expires time.Time
	Renewed bool // by ourselves, in time
	Names   []string
	Missing []string // names that it should be for
	Mend    string
}

// inspectKeys looks at the certificates and changes none.
func inspectKeys(s *config.Settings, self *config.Host, data string) ([]keyInfo, error) {
	c := keysConfig(s, self, data, slog.New(slog.DiscardHandler))
	renewed := c.Renew != nil
	c.Renew = nil
	k, err := ident.OpenKeys(c)
	if err != nil {
		return nil, err
	}
	var list []keyInfo
	for _, e := range k.Expiries(time.Now()) {
		x := keyInfo{What: e.Name + " (" + e.File + ")", Expires: e.End, Mend: "get a new certificate and put it in " + e.File}
		switch {
		case e.Name == "CA":
			x.Names, x.Mend = []string{"the hosts among themselves"}, "fernamt quickstart in a fresh folder, for a new authority"
		case e.File == filepath.Join(c.Dir, self.Name+".pem"):
			x.Names = []string{self.Name}
			x.Renewed = renewed
			x.Mend = "kill -HUP the server, which makes a new one"
			if !renewed {
				x.Mend = "fernamt config export " + self.Name + " where the authority's key is"
			}
		default:
			x.Names = []string{e.Name}
		}
		list = append(list, x)
	}
	for _, d := range append([]string{self.Name}, s.Domains...) {
		cert, err := k.Certificate("", d)
		if err != nil || cert.Leaf == nil || cert.Leaf.VerifyHostname(d) == nil {
			continue
		}
		list[len(list)-1].Missing = append(list[len(list)-1].Missing, strings.ToLower(d))
	}
	return list, nil
}
