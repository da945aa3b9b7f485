package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"
)

// fail is an error at key, with the line it stands on, or its table's.
func (s *Settings) fail(key, problem string) error {
	file := s.File
	if file == "" {
		file = "settings"
	}
	line := 0
	for k := key; k != ""; {
		if l, ok := s.lines[k]; ok {
			line = l
			break
		}
		i := strings.LastIndexAny(k, ".[")
		if i < 0 {
			break
		}
		k = k[:i]
	}
	return &Error{File: file, Line: line, Key: key, Problem: problem}
}

// Fail is an error at one of the settings' keys, for those who find something wrong
// later than Load.
func (s *Settings) Fail(key string, err error) error { return s.fail(key, err.Error()) }

// Line is where a key stands; 0 when it does not.
func (s *Settings) Line(key string) int { return s.lines[key] }

func (s *Settings) check() error {
	for _, f := range []func() error{s.checkDomains, s.checkOwn, s.checkSIP, s.checkLimits, s.checkPools, s.checkHosts, s.checkRoles} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Settings) checkDomains() error {
	if len(s.Domains) == 0 {
		return s.fail("domains", `missing; write domains = ["your.domain"]`)
	}
	for _, d := range s.Domains {
		if err := hostName(d); err != nil {
			return s.fail("domains", err.Error())
		}
	}
	return nil
}

func (s *Settings) checkOwn() error {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, s.Log.Level) {
		return s.fail("log.level", "must be debug, info, warn or error")
	}
	if s.Log.Format != "text" && s.Log.Format != "json" {
		return s.fail("log.format", "must be text or json")
	}
	if s.Storage.DSN != "" {
		u, err := url.Parse(s.Storage.DSN)
		switch {
		case err != nil: // not repeated: a password may stand in it
			return s.fail("storage.dsn", "must be as postgres://user@host:5432/name")
		case u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Host == "":
			return s.fail("storage.dsn", "must be as postgres://user@host:5432/name; leave it empty for SQLite")
		}
		if _, has := u.User.Password(); has || u.Query().Has("password") {
			return s.fail("storage.dsn", "holds a password; put it in a file and write password = \"file:NAME\"")
		}
	}
	for _, a := range s.DNS.Servers {
		if _, err := AddrPort(a, 53); err != nil {
			return s.fail("dns.servers", err.Error())
		}
	}
	if s.HEP.Target != "" {
		if _, err := AddrPort(s.HEP.Target, 0); err != nil {
			return s.fail("hep.target", err.Error())
		}
	}
	for i, c := range s.Certificates {
		key := fmt.Sprintf("certificate[%d]", i)
		if c.Cert == "" {
			return s.fail(key+".cert", "missing; name the PEM file")
		}
		if c.Key.File() == "" {
			return s.fail(key+".key", "missing; write key = \"file:NAME\"")
		}
	}
	return nil
}

// AddrPort reads ADDRESS or ADDRESS:PORT; without a port it is the given one, 0
// means that there must be one.
func AddrPort(text string, port uint16) (netip.AddrPort, error) {
	if ap, err := netip.ParseAddrPort(text); err == nil && ap.Port() != 0 {
		return ap, nil
	}
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil && port != 0 {
		return netip.AddrPortFrom(a, port), nil
	}
	if port == 0 {
		return netip.AddrPort{}, fmt.Errorf("%q must be ADDRESS:PORT, as 192.0.2.1:9060", text)
	}
	return netip.AddrPort{}, fmt.Errorf("%q must be ADDRESS or ADDRESS:PORT, as 192.0.2.1", text)
}

func (s *Settings) checkSIP() error {
	for _, a := range s.SIP.Digest {
		if a != "SHA-256" && a != "MD5" {
			return s.fail("sip.digest", fmt.Sprintf("%q is not known; known: \"SHA-256\", \"MD5\"", a))
		}
	}
	if len(s.SIP.Digest) == 0 {
		return s.fail("sip.digest", "must name one at least: \"SHA-256\", \"MD5\"")
	}
	if time.Duration(s.SIP.Pace) > 10*time.Millisecond {
		return s.fail("sip.pace", "must be at most \"10ms\": every message waits that long")
	}
	return nil
}

func (s *Settings) checkLimits() error {
	l := s.Limits
	for _, n := range []struct {
		key      string
		v        int
		min, max int
	}{
		{"message_header", l.MessageHeader, 4 << 10, 16 << 20},
		{"message_body", l.MessageBody, 4 << 10, 64 << 20},
		{"connections", l.Connections, 1, 10_000_000},
		{"connections_per_address", l.ConnectionsPerAddress, 1, 10_000_000},
		{"requests_per_address", l.RequestsPerAddress, 0, 10_000_000},
		{"address_failures", l.AddressFailures, 1, 10_000_000},
		{"user_failures", l.UserFailures, 1, 10_000_000},
		{"memory", l.Memory, 0, 1 << 24},
		{"transactions", l.Transactions, 100, 100_000_000},
	} {
		if n.v < n.min || n.v > n.max {
			return s.fail("limits."+n.key, fmt.Sprintf("must be from %d to %d", n.min, n.max))
		}
	}
	for _, d := range []struct {
		key string
		v   Duration
	}{{"dns.timeout", s.DNS.Timeout}, {"limits.header_time", l.HeaderTime}, {"limits.idle_time", l.IdleTime}, {"limits.ban_time", l.BanTime}} {
		if time.Duration(d.v) < time.Millisecond {
			return s.fail(d.key, "must be a duration with its unit, such as \"30s\", and more than nothing")
		}
	}
	return nil
}

func (s *Settings) checkPools() error {
	seen := map[string]bool{}
	for i, p := range s.Pools {
		key := fmt.Sprintf("pool[%d]", i)
		if err := hostName(p.Name); err != nil {
			return s.fail(key+".name", err.Error())
		}
		if seen[strings.ToLower(p.Name)] {
			return s.fail(key+".name", p.Name+" is there twice")
		}
		seen[strings.ToLower(p.Name)] = true
		for _, d := range p.Domains {
			if !slices.Contains(s.Domains, d) {
				return s.fail(key+".domains", d+" is not among domains")
			}
		}
	}
	return nil
}

func (s *Settings) checkHosts() error {
	if len(s.Hosts) == 0 {
		return s.fail("host", "no [[host]]: nothing would run")
	}
	seen := map[string]bool{}
	for i := range s.Hosts {
		h, key := &s.Hosts[i], fmt.Sprintf("host[%d]", i)
		if err := hostName(h.Name); err != nil {
			return s.fail(key+".name", err.Error())
		}
		if seen[strings.ToLower(h.Name)] {
			return s.fail(key+".name", h.Name+" is there twice")
		}
		seen[strings.ToLower(h.Name)] = true
		if err := s.checkHost(h, key); err != nil {
			return err
		}
	}
	return nil
}

func (s *Settings) checkHost(h *Host, key string) error {
	known := make([]string, 0, len(s.Roles))
	for r := range s.Roles {
		known = append(known, r)
	}
	slices.Sort(known)
	for i, r := range h.Roles {
		if _, ok := s.Roles[r]; !ok {
			p := "there is no role " + r
			if n := Nearest(r, known); n != "" {
				p += "; did you mean " + n + "?"
			}
			return s.fail(key+".roles", p+" (allowed: "+strings.Join(known, ", ")+")")
		}
		if slices.Contains(h.Roles[:i], r) {
			return s.fail(key+".roles", r+" is there twice")
		}
	}
	var pools []string
	for _, p := range s.Pools {
		pools = append(pools, p.Name)
	}
	if h.Pool != "" && !slices.Contains(pools, h.Pool) {
		return s.fail(key+".pool", "there is no [[pool]] "+h.Pool+" (allowed: "+strings.Join(pools, ", ")+")")
	}
	if len(h.Internal) == 0 && len(h.External) == 0 {
		return s.fail(key+".internal", "missing; write internal = [\"0.0.0.0\", \"::\"] for all addresses")
	}
	for _, a := range h.Loopback {
		if !a.IsLoopback() {
			return s.fail(key+".loopback", a.String()+" is not a loopback address")
		}
	}
	return nil
}

// checkRoles looks at durations without a unit, which the decoder takes for
// nanoseconds, and has each role look at its own.
func (s *Settings) checkRoles() error {
	names := make([]string, 0, len(s.Roles))
	for n := range s.Roles {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, name := range names {
		v := reflect.ValueOf(s.Roles[name]).Elem()
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() || f.Type != durationType {
				continue
			}
			if d := time.Duration(v.Field(i).Int()); d < 0 || d > 0 && d < time.Microsecond {
				return s.fail(name+"."+keyOf(f), "must be a duration with its unit, such as \"30s\"")
			}
		}
		c, ok := s.Roles[name].(interface{ Check() error })
		if !ok {
			continue
		}
		if err := c.Check(); err != nil {
			var ke *KeyError
			if errors.As(err, &ke) {
				return s.fail(name+"."+ke.Key, ke.Err.Error())
			}
			return s.fail(name, err.Error())
		}
	}
	return nil
}

// hostName allows what DNS allows, and IP addresses do not count.
func hostName(n string) error {
	if n == "" {
		return errors.New("missing; it needs a name as in DNS, such as a.example.test")
	}
	if _, err := netip.ParseAddr(n); err == nil {
		return fmt.Errorf("%q is an address; a name as in DNS is needed", n)
	}
	if len(n) > 253 {
		return fmt.Errorf("%q is longer than 253 letters", n)
	}
	for _, label := range strings.Split(n, ".") {
		ok := label != "" && len(label) <= 63 && label[0] != '-' && label[len(label)-1] != '-'
		for i := 0; i < len(label) && ok; i++ {
			c := label[i] | 0x20
			ok = c >= 'a' && c <= 'z' || label[i] >= '0' && label[i] <= '9' || label[i] == '-'
		}
		if !ok {
			return fmt.Errorf("%q is not a name as in DNS: letters, digits and dashes between dots", n)
		}
	}
	return nil
}

// CheckName says what is wrong with a domain or host name; nil when nothing is.
func CheckName(n string) error { return hostName(n) }
