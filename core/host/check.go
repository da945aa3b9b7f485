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
	"fernamt/core/ident"
	"fernamt/core/listen"
	"fernamt/core/store"
)

// finding is one thing that check looked at.
type finding struct {
	Area string `json:"area"` // settings ports certificates clock storage dns
	OK   bool   `json:"ok"`
	What string `json:"what"`
	Mend string `json:"mend,omitempty"` // the one command
}

// findings gathers them.
type findings struct{ list []finding }

func (f *findings) good(area, format string, args ...any) {
	f.list = append(f.list, finding{area, true, fmt.Sprintf(format, args...), ""})
}

func (f *findings) bad(area, mend, format string, args ...any) {
	f.list = append(f.list, finding{area, false, fmt.Sprintf(format, args...), mend})
}

// check looks for what is wrong. It changes nothing.
func (p *Program) check(ctx context.Context, c *admin.Call) error {
	f := &findings{}
	n, err := offset(c)
	if err != nil {
		return err
	}
	s, err := p.load()
	if err != nil {
		f.bad("settings", "fernamt config check", "%v", err)
		var se *config.Error
		if errors.As(err, &se) && fresh(p.dataDir()) && p.settings == "" {
			f.list[0].Mend = "fernamt quickstart DOMAIN"
		}
		return f.print(c)
	}
	self, err := s.Pick(c.Flag("host"), machine())
	if err != nil {
		f.bad("settings", "fernamt check --host NAME", "%v", err)
		return f.print(c)
	}
	f.good("settings", "%s, host %s, roles %s", s.File, self.Name, strings.Join(self.Roles, " "))
	doors := listen.New(listen.Config{Network: p.Network, Offset: n, Addresses: sides(self), At: self.Addresses})
	if !p.checkPorts(ctx, f, s, self, doors) {
		return f.print(c)
	}
	p.checkClock(f, time.Now())
	f.good("firewall", "not looked at: this version does not read the machine's filter rules")
	p.checkCertificates(f, s, self)
	p.checkStorage(ctx, f, s)
	checkDNS(ctx, f, s, self, doors)
	return f.print(c)
}

func (f *findings) print(c *admin.Call) error {
	wrong := 0
	for _, x := range f.list {
		if !x.OK {
			wrong++
		}
	}
	if c.Format() == "json" {
		if err := c.JSON(map[string]any{"ok": wrong == 0, "findings": f.list}); err != nil {
			return err
		}
	} else {
		for _, x := range f.list {
			word := "ok   "
			if !x.OK {
				word = "WRONG"
			}
			c.Printf("%s  %-12s  %s\n", word, x.Area, x.What)
			if x.Mend != "" {
				c.Printf("                     mend: %s\n", x.Mend)
			}
		}
	}
	if wrong > 0 {
		return admin.Found()
	}
	return nil
}

// checkPorts tries every number. false: doors clash, and nothing else makes sense.
func (p *Program) checkPorts(ctx context.Context, f *findings, s *config.Settings, self *config.Host, doors *listen.Doors) bool {
	for _, x := range allPorts(s, p.slots(s, self.Roles, nil)) {
		if err := doors.Declare(x.owner, x.ports); err != nil {
			f.bad("ports", "edit "+s.File, "%v", err)
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
			f.bad("ports", mend, "%s", t)
		case listen.Broken:
			f.bad("ports", "edit "+s.File+": addresses of host "+self.Name, "%s", t)
		case listen.Moves:
			f.bad("ports", "setcap cap_net_bind_service=+ep $(command -v fernamt)", "%s", t)
		default:
			good++
		}
	}
	state := "free"
	if pid > 0 {
		state = fmt.Sprintf("free or open in the running server (pid %d)", pid)
	}
	f.good("ports", "%d numbers are %s", good, state)
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
func (p *Program) checkClock(f *findings, now time.Time) {
	const mend = "timedatectl set-ntp true"
	if now.Year() < 2026 || now.Year() > 2100 {
		f.bad("clock", mend, "it is said to be %s", now.Format(time.DateTime))
		return
	}
	files := map[string]string{filepath.Join(p.dataDir(), "store.db"): "something was stored"}
	if exe, err := os.Executable(); err == nil {
		files[exe] = "this program was installed"
	}
	for name, what := range files {
		if st, err := os.Stat(name); err == nil && st.ModTime().After(now.Add(time.Hour)) {
			f.bad("clock", mend, "it is said to be %s, but %s on %s", now.Format(time.DateTime), what, st.ModTime().Format(time.DateTime))
			return
		}
	}
	f.good("clock", "%s", now.Format("2006-01-02 15:04:05 MST"))
}

func (p *Program) checkCertificates(f *findings, s *config.Settings, self *config.Host) {
	list, err := inspectKeys(s, self, p.dataDir())
	if err != nil {
		f.bad("certificates", "fernamt start, which makes what is missing", "%v", err)
		return
	}
	for _, c := range list {
		left := time.Until(c.Expires)
		switch {
		case left <= 0:
			f.bad("certificates", c.Mend, "%s expired on %s", c.What, c.Expires.Format(time.DateOnly))
		case left < 30*24*time.Hour && !c.Renewed:
			f.bad("certificates", c.Mend, "%s expires in %d days, on %s", c.What, int(left.Hours()/24), c.Expires.Format(time.DateOnly))
		default:
			f.good("certificates", "%s for %s, until %s", c.What, strings.Join(c.Names, " "), c.Expires.Format(time.DateOnly))
		}
		for _, n := range c.Missing {
			f.bad("certificates", c.Mend, "%s is not for %s", c.What, n)
		}
	}
}

// checkStorage looks at the disk and at the store. A store that a server has open is
// looked at beside it.
func (p *Program) checkStorage(ctx context.Context, f *findings, s *config.Settings) {
	var st syscall.Statfs_t
	dir := p.dataDir()
	if err := syscall.Statfs(dir, &st); err == nil {
		free := st.Bavail * uint64(st.Bsize)
		if free < 512<<20 {
			f.bad("storage", "rm old files in "+filepath.Join(dir, "backups"), "%s free in %s", megabytes(free), dir)
		} else {
			f.good("storage", "%s free in %s", megabytes(free), dir)
		}
	}
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o077 != 0 {
		f.bad("storage", "chmod 700 "+dir, "others may look into %s", dir)
	}
	doors := listen.New(listen.Config{Network: p.Network})
	if err := doors.Declare("host", ownPorts(s)); err != nil {
		f.bad("storage", "", "%v", err)
		return
	}
	cfg, err := storeConfig(baseConfig{settings: s, data: dir, doors: doors, log: quiet(os.Stderr)})
	if err != nil {
		f.bad("storage", "edit "+s.File, "%v", err)
		return
	}
	cfg.ReadOnly = true
	db, err := store.Open(ctx, cfg)
	if err != nil {
		f.bad("storage", mendStore(cfg, err), "%v", err)
		return
	}
	defer db.Close()
	problems, err := db.Check(ctx)
	if err != nil {
		f.bad("storage", mendStore(cfg, err), "%v", err)
		return
	}
	for _, x := range problems {
		f.bad("storage", x.Mend, "%s", x.What)
	}
	if len(problems) == 0 {
		f.good("storage", "%s, schema %d, undamaged", db.Engine(), db.Schema())
	}
}

// mendStore is the one command for a store that does not open.
func mendStore(cfg store.Config, err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, store.ErrNone):
		return "fernamt start, which makes it"
	case errors.Is(err, store.ErrUnavailable):
		return "systemctl start postgresql"
	case errors.Is(err, ident.ErrTaken):
		return ""
	}
	return "fernamt restore PATH with the last good backup of " + filepath.Join(cfg.Dir, "backups")
}
