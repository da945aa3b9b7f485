// Package manage lets servers and operators of other hosts run commands here: the same
// table that the control socket answers from, over mutual TLS, one call per connection
// (core/admin says in which frames). It does what OCS did by DCOM and WMI at port 135,
// moving users among front ends included; DCOM itself is not spoken.
//
// Doors: 135, mutual TLS.
// Seed: R05 Front End Servers 135
// Seed: R21 Load balancer for Front End Servers 135
//
// Goroutines: one per connection. manage.mu guards the number of the door.
package manage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"fernamt/core/admin"
	"fernamt/core/host"
	"fernamt/core/listen"
	"fernamt/wire/ports"
)

const (
	door     = "manage/commands"
	doorOut  = "manage/commands-out"
	longest  = time.Hour // one command
	atOnce   = 64        // connections
	dialTime = 10 * time.Second
)

type role struct {
	Operators []string `doc:"Names of client certificates, of the internal authority, that may run every command; hosts of the settings that play this role may look and change"`

	mu   sync.Mutex
	h    *host.Host
	port uint16
}

// New returns the role with its defaults.
func New() host.Role { return &role{} }

// Ports are the role's doors.
func (m *role) Ports() []ports.Port {
	return []ports.Port{
		{Name: door, From: 135, Transport: ports.TCP, Protocol: "manage", TLS: ports.Mutual, Seed: []string{"R05", "R21"},
			Purpose: "Remote administration: commands over mutual TLS, in the place of DCOM and RPC",
			Zweck:   "Fernverwaltung: Befehle über beidseitiges TLS anstelle von DCOM und RPC"},
		{Name: doorOut, From: 135, Transport: ports.TCP, Protocol: "manage", TLS: ports.Mutual, Use: ports.Dial,
			Purpose: "Commands to other hosts of the settings", Zweck: "Befehle an andere Hosts der Einstellungen"},
	}
}

// Commands are what an operator can ask.
func (m *role) Commands() []admin.Command {
	return []admin.Command{{Name: "remote", Args: "HOST COMMAND...", Rights: admin.Own, Run: m.remote,
		Help: "Runs a command on another host of the settings\n\nFlags of the command go behind --: fernamt remote fe2.example.test -- dump registrations --format json"}}
}

// Run serves until ctx ends.
func (m *role) Run(ctx context.Context, h *host.Host) error {
	d, err := h.Listen(door)
	if err != nil {
		return fmt.Errorf("manage: %w", err)
	}
	m.mu.Lock()
	m.h = h
	if at := d.Addresses(); len(at) > 0 {
		m.port = at[0].Port()
	}
	m.mu.Unlock()
	var work sync.WaitGroup
	defer work.Wait()
	slots := make(chan struct{}, atOnce)
	for {
		c, err := d.Accept(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("manage: %w", err)
		}
		select {
		case slots <- struct{}{}:
		default:
			h.Log.Warn("too many calls at once", "from", c.Remote)
			c.Close()
			continue
		}
		work.Go(func() {
			defer func() { <-slots }()
			m.answer(ctx, h, c)
		})
	}
}

// answer serves one call.
func (m *role) answer(ctx context.Context, h *host.Host, c *listen.Conn) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	who, ok := m.caller(h, c.PeerNames)
	if !ok {
		h.Log.Warn("caller has no right to run commands", "from", c.Remote, "names", c.PeerNames)
		return
	}
	if err := c.SetDeadline(time.Now().Add(longest)); err != nil {
		return
	}
	if err := h.Table.Answer(ctx, c, h.Call(who)); err != nil && ctx.Err() == nil {
		h.Log.Info("remote command broke off", "from", c.Remote, "user", who.Name, "err", err)
	}
}

// caller says what the holder of a certificate may do. The names are proved by the
// internal authority.
func (m *role) caller(h *host.Host, names []string) (admin.Caller, bool) {
	for _, n := range names {
		if slices.ContainsFunc(m.Operators, func(o string) bool { return strings.EqualFold(o, n) }) {
			return admin.Caller{Name: n, Rights: admin.Own}, true
		}
	}
	for _, n := range names {
		for i := range h.Settings.Hosts {
			// An edge has no business here: who broke into it must not set passwords inside.
			if x := &h.Settings.Hosts[i]; strings.EqualFold(x.Name, n) && x.Has("manage") {
				return admin.Caller{Name: n, Rights: admin.Change}, true
			}
		}
	}
	return admin.Caller{}, false
}

// remote runs a command on another host. That host knows us by our certificate.
func (m *role) remote(ctx context.Context, c *admin.Call) error {
	m.mu.Lock()
	h, port := m.h, m.port
	m.mu.Unlock()
	if h == nil {
		return errors.New("the role manage does not run yet")
	}
	at, err := place(h, c.Arg(0), port)
	if err != nil {
		return err
	}
	dial, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, _, err := h.Doors.Dial(dial, doorOut, at, listen.DialTLS{ServerName: c.Arg(0)})
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	return admin.Ask(conn, admin.Request{Argv: c.Args[1:], In: c.In, Out: c.Out, Err: c.Err,
		Report: func(p admin.Progress) { c.Progress(p.Done, p.Total, p.What) }})
}

// place is where a host of the settings takes commands.
func place(h *host.Host, name string, port uint16) (netip.AddrPort, error) {
	var known []string
	for i := range h.Settings.Hosts {
		x := &h.Settings.Hosts[i]
		known = append(known, x.Name)
		if !strings.EqualFold(x.Name, name) {
			continue
		}
		if !x.Has(h.Role) {
			return netip.AddrPort{}, fmt.Errorf("%s does not play the role %s", name, h.Role)
		}
		if len(x.Internal) == 0 || x.Internal[0].IsUnspecified() {
			return netip.AddrPort{}, fmt.Errorf("the settings name no address of %s: set internal there", name)
		}
		return netip.AddrPortFrom(x.Internal[0], port), nil
	}
	return netip.AddrPort{}, fmt.Errorf("no host %s; known: %s", name, strings.Join(known, ", "))
}
