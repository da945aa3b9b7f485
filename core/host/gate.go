package host

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"fernamt/core/config"
	"fernamt/core/listen"
	"fernamt/core/route"
	"fernamt/wire/gss"
	"fernamt/wire/locate"
	"fernamt/wire/ports"
	"fernamt/wire/sip"
	"fernamt/wire/transport"
)

// newGate makes the gate that every SIP request of this host passes.
func (p *Program) newGate(h *Host, offset int) (*route.Gate, error) {
	l := h.Settings.Limits
	var offered []gss.Algorithm
	for _, a := range h.Settings.SIP.Digest {
		offered = append(offered, gss.Algorithm(a))
	}
	g, err := route.New(route.Config{
		Name: h.Name, Domains: h.Settings.Domains, Hosts: p.topology(h.Settings, offset), Users: h.Users, Doors: h.Doors,
		Finder: newFinder(h.Settings, h.Doors), Dir: h.Data,
		Algorithms: offered, Origins: h.Settings.SIP.Origins, Pace: time.Duration(h.Settings.SIP.Pace),
		Limits: route.Limits{PerAddress: l.RequestsPerAddress, UserFailures: l.UserFailures, AddrFailures: l.AddressFailures,
			Ban: time.Duration(l.BanTime), Transactions: l.Transactions, Memory: uint64(l.Memory) << 20},
		Transport: transport.Limits{Header: l.MessageHeader, Body: l.MessageBody, Connections: l.Connections,
			PerAddress: l.ConnectionsPerAddress, Message: time.Duration(l.HeaderTime), Idle: time.Duration(l.IdleTime)},
		Trace: h.Trace.SIP, Log: h.Log,
		Took: h.Metrics.Histogram("sip_handling_seconds", "From a message's arrival to the end of its handling"),
	})
	if err != nil {
		return nil, err
	}
	for _, d := range h.Doors.Declared() {
		if d.Use == ports.Dial && d.Family() == ports.SIP && d.Transport == ports.TCP {
			g.DialThrough(d)
		}
	}
	return g, nil
}

// topology is what the gate knows of all hosts: names, addresses, and the number of
// each role's door for SIP over mutual TLS.
func (p *Program) topology(s *config.Settings, offset int) []route.Host {
	var list []route.Host
	for i := range s.Hosts {
		h := &s.Hosts[i]
		x := route.Host{Name: h.Name, Pool: s.PoolOf(h), Roles: map[string]uint16{}}
		if len(h.Internal) > 0 && !h.Internal[0].IsUnspecified() {
			x.Addr = h.Internal[0]
		}
		for _, r := range p.slots(s, h.Roles, nil) {
			x.Roles[r.kind.Name] = 0
			for _, d := range r.filled.Ports() {
				if d.Use == ports.Listen && d.Transport == ports.TCP && d.TLS != ports.None && d.Family() == ports.SIP {
					x.Roles[r.kind.Name] = uint16(d.From + offset)
					break
				}
			}
		}
		list = append(list, x)
	}
	return list
}

// newFinder finds other domains' servers: through the settings' name servers or the
// machine's. Hosts of the settings are found without asking.
func newFinder(s *config.Settings, doors *listen.Doors) *locate.Resolver {
	var servers []netip.AddrPort
	for _, a := range s.DNS.Servers {
		if ap, err := config.AddrPort(a, 53); err == nil {
			servers = append(servers, ap)
		}
	}
	if len(servers) == 0 {
		if text, err := os.ReadFile("/etc/resolv.conf"); err == nil {
			servers = locate.ParseResolv(text)
		}
	}
	known := map[string][]netip.Addr{}
	if text, err := os.ReadFile("/etc/hosts"); err == nil {
		known = locate.ParseHosts(text)
	}
	for _, h := range s.Hosts {
		for _, a := range h.Internal {
			if !a.IsUnspecified() {
				known[strings.ToLower(h.Name)] = append(known[strings.ToLower(h.Name)], a)
			}
		}
	}
	return locate.New(locate.Config{Servers: servers, Hosts: known, Patience: time.Duration(s.DNS.Timeout),
		Exchange: func(ctx context.Context, msg []byte, server netip.AddrPort, tcp bool) ([]byte, error) {
			return exchange(ctx, doors, question{msg, server, tcp})
		}})
}

// question is a DNS message and whom to ask.
type question struct {
	msg    []byte
	server netip.AddrPort
	tcp    bool
}

// exchange asks one name server once (RFC 1035 §4.2).
func exchange(ctx context.Context, doors *listen.Doors, q question) ([]byte, error) {
	if q.tcp {
		return exchangeTCP(ctx, doors, q)
	}
	c, err := doors.DialPacket(ctx, doorDNS, q.server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := c.Write(q.msg); err != nil {
		return nil, err
	}
	b := make([]byte, 65535)
	for {
		n, err := c.Read(b)
		if err != nil {
			return nil, err
		}
		// Another ID is an answer to an older question, or somebody who guesses.
		if n >= 12 && len(q.msg) >= 2 && b[0] == q.msg[0] && b[1] == q.msg[1] {
			return b[:n], nil
		}
	}
}

func exchangeTCP(ctx context.Context, doors *listen.Doors, q question) ([]byte, error) {
	c, _, err := doors.Dial(ctx, doorDNSTCP, q.server, listen.DialTLS{})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if len(q.msg) > 65535 {
		return nil, errors.New("dns question is too long")
	}
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q.msg))), q.msg...)); err != nil {
		return nil, err
	}
	var head [2]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(head[:]))
	_, err = io.ReadFull(c, b)
	return b, err
}

// gateMetrics shows the gate's counters.
func gateMetrics(m metrics, g *route.Gate) {
	m.Table("sip_requests_total", "SIP requests that came in", "method", func() map[string]float64 {
		t := map[string]float64{}
		for k, v := range g.Stats().Requests {
			t[k] = float64(v)
		}
		return t
	})
	m.Table("sip_replies_total", "Answers that this server gave itself", "status", func() map[string]float64 {
		t := map[string]float64{}
		for k, v := range g.Stats().Replies {
			t[strconv.Itoa(k)] = float64(v)
		}
		return t
	})
	m.Table("sip_gate_total", "What the gate did with requests", "what", func() map[string]float64 {
		s := g.Stats()
		return map[string]float64{"challenged": float64(s.Challenges), "wrong_password": float64(s.Failures),
			"banned": float64(s.Banned), "scanner": float64(s.Scanners), "limited": float64(s.Limited),
			"shed": float64(s.Shed), "stray_response": float64(s.Stray), "panic": float64(s.Panics)}
	})
	m.Read("sip_bindings", "Registered contacts", func() float64 { return float64(g.Stats().Bindings) })
	m.Read("sip_shedding_percent", "Share of new requests that is turned away now", func() float64 { return float64(g.Stats().Shedding) })
	m.Table("sip_messages_total", "SIP messages by transport and direction", "way", func() map[string]float64 {
		t, x := map[string]float64{}, g.Transport().Stats()
		for i := range x.In {
			if name := sip.Transport(i).String(); x.In[i]+x.Out[i] > 0 {
				if sip.Transport(i) == sip.Local {
					name = "local"
				}
				t[strings.ToLower(name)+" in"], t[strings.ToLower(name)+" out"] = float64(x.In[i]), float64(x.Out[i])
			}
		}
		return t
	})
	m.Table("sip_transport_total", "What happened on sockets and connections", "what", func() map[string]float64 {
		x := g.Transport().Stats()
		return map[string]float64{"malformed": float64(x.Malformed), "too_large": float64(x.TooLarge), "refused": float64(x.Refused),
			"panic": float64(x.Panics), "keepalive": float64(x.Keepalives), "slow": float64(x.Slow), "overdue": float64(x.Overdue),
			"turned_away": float64(x.TurnedAway), "dialled": float64(x.Dialled), "dial_failed": float64(x.DialFailed)}
	})
	m.Read("sip_connections", "SIP connections open", func() float64 { return float64(g.Transport().Stats().Connections) })
	m.Read("sip_queued_bytes", "Octets that wait for peers", func() float64 { return float64(g.Transport().Stats().Queued) })
	m.Table("sip_transactions_total", "What happened in transactions", "what", func() map[string]float64 {
		x := g.Transactions().Stats()
		return map[string]float64{"request": float64(x.Requests), "response": float64(x.Responses),
			"retransmitted": float64(x.Retransmitted), "absorbed": float64(x.Absorbed), "timeout": float64(x.Timeouts),
			"stray": float64(x.Stray), "unsent": float64(x.Unsent)}
	})
	m.Read("sip_server_transactions", "Server transactions held", func() float64 { return float64(g.Transactions().Stats().Servers) })
	m.Read("sip_client_transactions", "Client transactions held", func() float64 { return float64(g.Transactions().Stats().Clients) })
}
