package host

import (
	"net/netip"
	"net/url"
	"strconv"

	"fernamt/core/config"
	"fernamt/wire/ports"
)

// The doors that no role owns.
const (
	doorHealth   = "host/health"
	doorDNS      = "host/dns"
	doorDNSTCP   = "host/dns-tcp"
	doorPostgres = "host/postgres"
	doorHEP      = "host/hep"
)

// ownPorts are the doors that no role owns. s may be nil: then all that could be.
func ownPorts(s *config.Settings) []ports.Port {
	ps := []ports.Port{
		{Name: doorHealth, From: 9061, Transport: ports.TCP, Protocol: "http", Side: ports.Loopback, Use: ports.Listen,
			Purpose: "Health (/healthz, /readyz) and metrics for Prometheus (/metrics)",
			Zweck:   "Zustand (/healthz, /readyz) und Messwerte für Prometheus (/metrics)"},
		{Name: doorDNS, From: 53, Transport: ports.UDP, Protocol: "dns", Use: ports.Dial,
			Purpose: "Questions to the name servers: where another domain's servers are",
			Zweck:   "Fragen an die Nameserver: wo die Server anderer Domänen stehen", Spec: "RFC 3263 §4"},
		{Name: doorDNSTCP, From: 53, Transport: ports.TCP, Protocol: "dns", Use: ports.Dial,
			Purpose: "The same for answers too long for a datagram",
			Zweck:   "Dasselbe für Antworten, die in kein Datagramm passen", Spec: "RFC 7766"},
	}
	if s == nil || s.Storage.DSN != "" {
		ps = append(ps, ports.Port{Name: doorPostgres, From: dsnPort(s), Transport: ports.TCP, Protocol: "postgres",
			Use: ports.Dial, Purpose: "The PostgreSQL server, when the settings name one",
			Zweck: "Der PostgreSQL-Server, falls die Einstellungen einen nennen"})
	}
	if s == nil || s.HEP.Target != "" {
		ps = append(ps, ports.Port{Name: doorHEP, From: hepPort(s), Transport: ports.UDP, Protocol: "hep", Use: ports.Dial,
			Purpose: "Copies of SIP messages to a HOMER server, when the settings name one",
			Zweck:   "Kopien von SIP-Nachrichten an einen HOMER-Server, falls die Einstellungen einen nennen"})
	}
	return ps
}

func dsnPort(s *config.Settings) int {
	if s != nil {
		if u, err := url.Parse(s.Storage.DSN); err == nil {
			if n, err := strconv.Atoi(u.Port()); err == nil && n > 0 && n < 65536 {
				return n
			}
		}
	}
	return 5432
}

func hepPort(s *config.Settings) int {
	if s != nil {
		if ap, err := netip.ParseAddrPort(s.HEP.Target); err == nil {
			return int(ap.Port())
		}
	}
	return 9060
}

// owned is an owner and its doors.
type owned struct {
	owner string
	ports []ports.Port
}

// allPorts are the doors of the roles given, the host's own first.
func allPorts(s *config.Settings, roles []*slot) []owned {
	all := []owned{{"host", ownPorts(s)}}
	for _, r := range roles {
		all = append(all, owned{r.kind.Name, r.filled.Ports()})
	}
	return all
}

// sides are the addresses that the settings give each side of a host.
func sides(h *config.Host) map[ports.Side][]netip.Addr {
	m := map[ports.Side][]netip.Addr{}
	for side, list := range map[ports.Side][]netip.Addr{ports.Internal: h.Internal, ports.External: h.External, ports.Loopback: h.Loopback} {
		if len(list) > 0 {
			m[side] = list
		}
	}
	return m
}
