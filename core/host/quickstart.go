package host

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"

	"fernamt/core/admin"
	"fernamt/core/config"
	"fernamt/core/ident"
)

// quickstart writes what one server for one domain needs, and says what comes next.
func (p *Program) quickstart(ctx context.Context, c *admin.Call) error {
	domain := strings.ToLower(strings.TrimSuffix(c.Arg(0), "."))
	if err := config.CheckName(domain); err != nil {
		return admin.Usagef("%w", err)
	}
	addr, err := chosenAddress(c.Flag("address"))
	if err != nil {
		return err
	}
	dir := p.dataDir()
	if err := makeDir(dir); err != nil { // first: who may not look in cannot tell what is there
		return err
	}
	if !fresh(dir) {
		return fmt.Errorf("%s is there already; quickstart writes over nothing", filepath.Join(dir, settingsFile))
	}
	s := quickSettings(domain, addr, c.Flag("address") != "", p.oneHost())
	s.File = filepath.Join(dir, settingsFile)
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Settings of Fernamt. Every key with its default: fernamt config describe\n\n")
	if err := s.Write(&b); err != nil {
		return err
	}
	if err := writeFile(s.File, b.Bytes(), 0o640); err != nil {
		return err
	}
	s, err = p.load() // as the server will read it
	if err != nil {
		return err
	}
	if _, err := newKeys(s, &s.Hosts[0], dir, quiet(c.Err)); err != nil {
		return err
	}
	adr, pass, err := p.administrator(ctx, s, c)
	if err != nil {
		return err
	}
	c.Printf("written: %s, the authority and certificates in %s\nadministrator: %s\npassword:      %s\n\n",
		s.File, dir, adr, pass)
	c.Printf("DNS records for %s:\n\n", domain)
	records(c.Out, domain, s.Hosts[0].Name, addr)
	c.Printf("\nnext: fernamt check --data %s, then fernamt start --data %s\n", dir, dir)
	return nil
}

func quickSettings(domain string, addr netip.Addr, bind bool, roles []string) *config.Settings {
	s := config.Defaults()
	s.Domains = []string{domain}
	s.Pools = []config.Pool{{Name: "pool1." + domain}}
	internal := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	if bind {
		internal = []netip.Addr{addr}
	}
	s.Hosts = []config.Host{{Name: "sip." + domain, Roles: roles, Internal: internal,
		Loopback: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}}
	return s
}

// chosenAddress is what was asked for, or the machine's first address that others can reach.
func chosenAddress(text string) (netip.Addr, error) {
	if text != "" {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return a, admin.Usagef("--address %s: must be an IP address", text)
		}
		return a, nil
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, err
	}
	var found netip.Addr
	for _, a := range all {
		pf, err := netip.ParsePrefix(a.String())
		if err != nil || !pf.Addr().IsGlobalUnicast() {
			continue
		}
		if !found.IsValid() || found.Is6() && pf.Addr().Is4() {
			found = pf.Addr()
		}
	}
	if !found.IsValid() {
		return found, errors.New("this machine has no address but loopback; say which with --address IP")
	}
	return found, nil
}

// administrator makes the account that may administer; an earlier try may have made it.
func (p *Program) administrator(ctx context.Context, s *config.Settings, c *admin.Call) (adr, pass string, err error) {
	b, err := p.openBase(ctx, s, quiet(c.Err), false)
	if err != nil {
		return "", "", err
	}
	adr, pass = "admin@"+s.Domain(), strings.ToLower(rand.Text()[:20])
	_, err = b.users.Add(ctx, ident.New{Address: adr, Name: "Administrator", Password: pass, Rights: []string{"admin"}})
	if errors.Is(err, ident.ErrTaken) {
		err = b.users.SetInitial(ctx, adr, pass)
	}
	return adr, pass, errors.Join(err, b.close())
}

// dns prints the records of all domains; each leads to the first host with front-end
// doors, or the first host at all.
func (p *Program) dns(_ context.Context, c *admin.Call) error {
	s, err := p.load()
	if err != nil {
		return err
	}
	h := &s.Hosts[0]
	if list := s.Playing("frontend"); len(list) > 0 {
		h = list[0]
	}
	addr := h.Internal[0]
	if text := c.Flag("address"); text != "" || addr.IsUnspecified() {
		if addr, err = chosenAddress(text); err != nil {
			return err
		}
	}
	for _, d := range s.Domains {
		records(c.Out, d, h.Name, addr)
	}
	return nil
}

// records prints what DNS must say, RFC 3263 §4. _sipinternaltls is what Office
// Communicator asks for inside.
func records(w io.Writer, domain, host string, addr netip.Addr) {
	kind := "A"
	if addr.Is6() {
		kind = "AAAA"
	}
	line := func(name, kind, value string) { fmt.Fprintf(w, "  %-38s IN  %-5s %s\n", name+".", kind, value) }
	line(host, kind, addr.String())
	line(domain, "NAPTR", `10 50 "s" "SIPS+D2T" "" _sips._tcp.`+domain+".")
	line(domain, "NAPTR", `20 50 "s" "SIP+D2T" "" _sip._tcp.`+domain+".")
	line(domain, "NAPTR", `30 50 "s" "SIP+D2U" "" _sip._udp.`+domain+".")
	for _, r := range []struct {
		name string
		port int
	}{{"_sip._udp", 5060}, {"_sip._tcp", 5060}, {"_sips._tcp", 5061}, {"_sipinternaltls._tcp", 5061}} {
		line(r.name+"."+domain, "SRV", fmt.Sprintf("0 0 %d %s.", r.port, host))
	}
}
