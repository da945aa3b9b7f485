package host

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"fernamt/core/admin"
	"fernamt/core/config"
	"fernamt/core/ident"
	"fernamt/wire/ports"
)

const (
	labDomain = "example.test"
	labFile   = "lab.json"
	labMark   = "# Written by fernamt lab, which uses this folder again."
)

// labPeople are the lab's accounts.
var labPeople = [...]struct{ user, name, number string }{
	{"alice", "Alice Adler", "+4930900101"}, {"bob", "Bob Berg", "+4930900102"},
	{"carol", "Carol Celan", "+4930900103"}, {"dave", "Dave Dorn", "+4930900104"},
}

// labNote is lab.json: the real numbers, offset included.
type labNote struct {
	Domain  string            `json:"domain"`
	Users   []labUser         `json:"users"`
	CA      string            `json:"ca"`
	Web     string            `json:"web"`
	Metrics string            `json:"metrics"`
	Ports   map[string]int    `json:"ports"`
	Doors   map[string]string `json:"doors"` // every open door: transport:address:port
}

type labUser struct {
	Address  string `json:"address"`
	Password string `json:"password"`
}

// lab fills a fresh folder, or uses a filled one, and serves every role on loopback.
func (p *Program) lab(ctx context.Context, c *admin.Call) error {
	if p.data == "" && os.Getenv("FERNAMT_DATA") == "" {
		p.data = "data-lab"
	}
	dir := p.dataDir()
	if err := makeDir(dir); err != nil {
		return err
	}
	if err := p.labSettings(dir); err != nil {
		return err
	}
	o, err := p.options(c)
	if err != nil {
		return err
	}
	o.lab = true
	o.ready = func(ctx context.Context, s *server) error { return p.labReady(ctx, s) }
	return p.serve(ctx, o)
}

// labSettings writes the lab's fernamt.toml when the folder is fresh. A filled one
// stays as it is, with what people have changed in it.
func (p *Program) labSettings(dir string) error {
	name := filepath.Join(dir, settingsFile)
	var b bytes.Buffer
	s := config.Defaults()
	s.Domains = []string{labDomain}
	s.Edge.AllowPeers = []config.Net{{Prefix: netip.MustParsePrefix("127.0.0.1/32")}}
	s.Pools = []config.Pool{{Name: "pool." + labDomain}}
	h := config.Host{Name: "lab." + labDomain, Roles: p.every(), Internal: loopbacks(), Addresses: p.apart(),
		Loopback: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	if h.Addresses == nil {
		h.Roles = p.oneHost()
	}
	s.Hosts = []config.Host{h}
	fmt.Fprintf(&b, "%s\n\n", labMark)
	if err := s.Write(&b); err != nil {
		return err
	}
	old, err := os.ReadFile(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return writeFile(name, b.Bytes(), 0o600)
	case err != nil:
		return err
	case !bytes.HasPrefix(old, []byte(labMark)):
		return fmt.Errorf("%s was not written by fernamt lab; name another folder with --data", name)
	}
	return nil
}

// apart gives the director's doors an address of their own: it speaks SIP on the front
// end's numbers, and phones have to be able to tell the two apart.
func (p *Program) apart() map[string][]netip.Addr {
	if runtime.GOOS != "linux" { // elsewhere 127.0.0.2 has to be set up first
		return nil
	}
	var at map[string][]netip.Addr
	for _, k := range p.Kinds {
		if k.Name != "director" {
			continue
		}
		for _, d := range k.New().Ports() {
			if d.Use == ports.Listen {
				if at == nil {
					at = map[string][]netip.Addr{}
				}
				at[d.Name] = []netip.Addr{netip.MustParseAddr("127.0.0.2")}
			}
		}
	}
	return at
}

// oneHost are the roles that one machine with one address plays: all but the director,
// which stands before front ends on other hosts.
func (p *Program) oneHost() []string {
	return slices.DeleteFunc(p.every(), func(r string) bool { return r == "director" })
}

// loopbacks are this machine's: IPv6 may be missing.
func loopbacks() []netip.Addr {
	list := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	all, _ := net.InterfaceAddrs()
	for _, a := range all {
		if strings.HasPrefix(a.String(), "::1/") {
			list = append(list, netip.IPv6Loopback())
		}
	}
	return list
}

// labReady makes the accounts that are missing and writes lab.json.
func (p *Program) labReady(ctx context.Context, s *server) error {
	h := s.host
	name := filepath.Join(h.Data, labFile)
	note := labNote{Domain: labDomain}
	if b, err := os.ReadFile(name); err == nil {
		if err := json.Unmarshal(b, &note); err != nil {
			return fmt.Errorf("%s cannot be read, remove it: %w", name, err)
		}
	}
	password := ""
	if len(note.Users) > 0 {
		password = note.Users[0].Password
	}
	if password == "" {
		password = strings.ToLower(rand.Text()[:16])
		note.Users = nil
	}
	if err := labAccounts(ctx, h.Users, &note, password); err != nil {
		return err
	}
	abs, err := filepath.Abs(authorityFile(h.Data))
	if err != nil {
		return err
	}
	note.CA = abs
	note.addPorts(s)
	b, err := json.MarshalIndent(note, "", "  ")
	if err != nil {
		return err
	}
	if err := replaceFile(name, append(b, '\n'), 0o600); err != nil {
		return err
	}
	p.labWelcome(name, &note)
	return nil
}

// labAccounts makes what is missing. Without the old lab.json nobody knows the old
// password: then everybody gets the new one.
func labAccounts(ctx context.Context, users *ident.Directory, note *labNote, password string) error {
	known := len(note.Users) > 0
	note.Users = nil
	for _, x := range labPeople {
		adr := x.user + "@" + labDomain
		note.Users = append(note.Users, labUser{adr, password})
		_, err := users.Show(adr)
		switch {
		case errors.Is(err, ident.ErrUnknown):
			_, err = users.Add(ctx, ident.New{Address: adr, Name: x.name, Password: password, Numbers: []string{x.number}})
		case err == nil && !known:
			err = users.SetInitial(ctx, adr, password)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// addPorts notes where the doors are: by protocol, the first one each, and by name.
func (n *labNote) addPorts(s *server) {
	n.Ports, n.Doors = map[string]int{}, map[string]string{}
	for _, l := range s.host.Doors.Live() {
		if l.Use != ports.Listen {
			continue
		}
		for i, d := range l.Doors {
			if d == doorHealth {
				n.Metrics = fmt.Sprintf("http://%s/metrics", l.Local)
			} else if kind := map[string]string{"sip": "sip", "sips": "sips", "http": "http", "ws": "http", "https": "https",
				"wss": "https", "turn": "turn", "turns": "turns"}[l.Protocols[i]]; kind != "" {
				if _, ok := n.Ports[kind]; !ok {
					n.Ports[kind] = int(l.Local.Port())
				}
			}
			if _, ok := n.Doors[d]; !ok {
				n.Doors[d] = fmt.Sprintf("%s:%s", l.Transport, l.Local)
			}
		}
	}
	n.Web = ""
	if port, ok := n.Ports["https"]; ok {
		n.Web = fmt.Sprintf("https://127.0.0.1:%d/", port)
	}
}

// labWelcome tells a newcomer what there is. The password is in lab.json, so that it
// does not get into logs of whoever started us.
func (p *Program) labWelcome(name string, n *labNote) {
	fmt.Fprintf(p.Out, "lab of %s: alice, bob, carol and dave; their password is in %s\n", n.Domain, name)
	if port, ok := n.Ports["sip"]; ok {
		fmt.Fprintf(p.Out, "point a softphone at 127.0.0.1:%d (UDP or TCP), user alice, domain %s\n", port, n.Domain)
	}
	fmt.Fprintf(p.Out, "look around: fernamt --data %s user list | trace sip alice | ports | check\n", p.dataDir())
}
