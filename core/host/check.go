package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"fernamt/core/admin"
	"fernamt/core/config"
	"fernamt/core/listen"
	"fernamt/core/store"
)

// check looks for what is wrong. It changes nothing.
func (p *Program) check(ctx context.Context, c *admin.Call) error {
	f := &admin.Findings{}
	n, err := offset(c)
	if err != nil {
		return err
	}
	s, err := p.load()
	if err != nil {
		f.Bad("settings", "fernamt config check", "%v", err)
		var se *config.Error
		if errors.As(err, &se) && fresh(p.dataDir()) && p.settings == "" {
			f.List[0].Mend = "fernamt quickstart DOMAIN"
		}
		return f.Tell(c)
	}
	self, err := s.Pick(c.Flag("host"), machine())
	if err != nil {
		f.Bad("settings", "fernamt check --host NAME", "%v", err)
		return f.Tell(c)
	}
	f.Good("settings", "%s, host %s, roles %s", s.File, self.Name, strings.Join(self.Roles, " "))
	doors := listen.New(listen.Config{Network: p.Network, Offset: n, Addresses: sides(self), At: self.Addresses})
	if !p.checkPorts(ctx, f, s, self, doors) {
		return f.Tell(c)
	}
	p.checkClock(f, time.Now())
	f.Skip("firewall", "not looked at: this version does not read the machine's filter rules")
	p.checkCertificates(f, s, self)
	p.checkStorage(ctx, f, s)
	checkDNS(ctx, f, s, self, doors)
	return f.Tell(c)
}

// checkPorts tries every number. false: doors clash, and nothing else makes sense.
func (p *Program) checkPorts(ctx context.Context, f *admin.Findings, s *config.Settings, self *config.Host, doors *listen.Doors) bool {
	for _, x := range allPorts(s, p.slots(s, self.Roles, nil)) {
		if err := doors.Declare(x.owner, x.ports); err != nil {
			f.Bad("ports", "edit "+s.File, "%v", err)
			return false
		}
	}
	pid := p.runningPID(ctx)
	good := 0
	for _, t := range doors.Try(ctx, pid) {
		switch t.State {
		case listen.Taken:
			mend := "find out who uses it: ss -lptn"
			if t.By.PID > 0 {
				mend = fmt.Sprintf("kill %d", t.By.PID)
			}
			f.Bad("ports", mend, "%s", t)
		case listen.Broken:
			f.Bad("ports", "edit "+s.File+": addresses of host "+self.Name, "%s", t)
		case listen.Moves:
			f.Bad("ports", "setcap cap_net_bind_service=+ep $(command -v fernamt)", "%s", t)
		default:
			good++
		}
	}
	state := "free"
	if pid > 0 {
		state = fmt.Sprintf("free or open in the running server (pid %d)", pid)
	}
	f.Good("ports", "%d numbers are %s", good, state)
	return true
}

// runningPID asks the running server; 0 when none runs.
func (p *Program) runningPID(ctx context.Context) int {
	conn, err := p.dial(ctx)
	if err != nil || conn == nil {
		return 0
	}
	defer conn.Close()
	var b strings.Builder
	if admin.Ask(conn, admin.Request{Argv: []string{"status", "--format=json"}, Out: &b, Err: &b}) != nil {
		return 0
	}
	var st struct{ PID int }
	if json.Unmarshal([]byte(b.String()), &st) != nil {
		return 0
	}
	return st.PID
}

// checkClock: certificates and Date headers need a clock that is about right. A machine
// that lost its time stands before its own program, or before what it has stored.
func (p *Program) checkClock(f *admin.Findings, now time.Time) {
	const mend = "timedatectl set-ntp true"
	if now.Year() < 2026 || now.Year() > 2100 {
		f.Bad("clock", mend, "it is said to be %s", now.Format(time.DateTime))
		return
	}
	files := map[string]string{filepath.Join(p.dataDir(), "store.db"): "something was stored"}
	if exe, err := os.Executable(); err == nil {
		files[exe] = "this program was installed"
	}
	for name, what := range files {
		if st, err := os.Stat(name); err == nil && st.ModTime().After(now.Add(time.Hour)) {
			f.Bad("clock", mend, "it is said to be %s, but %s on %s", now.Format(time.DateTime), what, st.ModTime().Format(time.DateTime))
			return
		}
	}
	f.Good("clock", "%s", now.Format("2006-01-02 15:04:05 MST"))
}

// mendKeys is the one command for certificates that cannot be read: our own are made, others got.
func mendKeys(s *config.Settings, err error) string {
	for _, c := range s.Certificates {
		if strings.Contains(err.Error(), s.Path(c.Cert)) {
			return "get the certificate and its own key, and put them in " + s.Path(c.Cert) + " and the file of its key"
		}
	}
	return "fernamt start, which makes what is missing"
}

func (p *Program) checkCertificates(f *admin.Findings, s *config.Settings, self *config.Host) {
	list, err := inspectKeys(s, self, p.dataDir())
	if err != nil {
		f.Bad("certificates", mendKeys(s, err), "%v", err)
		return
	}
	for _, c := range list {
		left := time.Until(c.Expires)
		switch {
		case left <= 0:
			f.Bad("certificates", c.Mend, "%s expired on %s", c.What, c.Expires.Format(time.DateOnly))
		case left < 30*24*time.Hour && !c.Renewed:
			f.Bad("certificates", c.Mend, "%s expires in %d days, on %s", c.What, int(left.Hours()/24), c.Expires.Format(time.DateOnly))
		default:
			f.Good("certificates", "%s for %s, until %s", c.What, strings.Join(c.Names, " "), c.Expires.Format(time.DateOnly))
		}
		for _, n := range c.Missing {
			f.Bad("certificates", c.Mend, "%s is not for %s", c.What, n)
		}
	}
}

// checkStorage looks at the disk and at the store. A store that a server has open is
// looked at beside it.
func (p *Program) checkStorage(ctx context.Context, f *admin.Findings, s *config.Settings) {
	var st syscall.Statfs_t
	dir := p.dataDir()
	if err := syscall.Statfs(dir, &st); err == nil {
		free := st.Bavail * uint64(st.Bsize)
		if free < 512<<20 {
			f.Bad("storage", "rm old files in "+filepath.Join(dir, "backups"), "%s free in %s", megabytes(free), dir)
		} else {
			f.Good("storage", "%s free in %s", megabytes(free), dir)
		}
	}
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o077 != 0 {
		f.Bad("storage", "chmod 700 "+dir, "others may look into %s", dir)
	}
	doors := listen.New(listen.Config{Network: p.Network})
	if err := doors.Declare("host", ownPorts(s)); err != nil {
		f.Bad("storage", "", "%v", err)
		return
	}
	if n := len(s.Playing("frontend")) + len(s.Playing("director")); n > 1 && len(s.Hosts) > 1 && s.Storage.DSN == "" {
		f.Bad("storage", "edit "+s.File+": storage.dsn", "each host has a store of its own, so that accounts made on one are unknown to the others: several hosts need PostgreSQL")
	}
	cfg, err := storeConfig(baseConfig{settings: s, data: dir, doors: doors, log: quiet(os.Stderr)})
	if err != nil {
		f.Bad("storage", "edit "+s.File, "%v", err)
		return
	}
	cfg.ReadOnly = true
	db, err := store.Open(ctx, cfg)
	if err != nil {
		f.Bad("storage", mendStore(cfg, err), "%v", err)
		return
	}
	defer db.Close()
	problems, err := db.Check(ctx)
	if err != nil {
		f.Bad("storage", mendStore(cfg, err), "%v", err)
		return
	}
	for _, x := range problems {
		f.Bad("storage", x.Mend, "%s", x.What)
	}
	if len(problems) == 0 {
		f.Good("storage", "%s, schema %d, undamaged", db.Engine(), db.Schema())
	}
}

// mendStore is the one command for a store that does not open.
func mendStore(cfg store.Config, err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, store.ErrNone), errors.Is(err, store.ErrOld):
		return "fernamt start, which makes it or brings it up to date"
	case errors.Is(err, store.ErrUnavailable):
		return "systemctl start postgresql"
	case errors.Is(err, store.ErrLogin):
		return "put the right password in the file that storage.password names"
	}
	return "fernamt restore PATH with the last good backup of " + filepath.Join(cfg.Dir, "backups")
}
