// Package config reads fernamt.toml, which describes a whole installation: domains,
// pools, hosts with their roles and addresses, certificates, storage, and one table
// of settings per role. The file is the same on every host.
//
// A role's settings are the exported fields of its struct, each with a doc:"…" tag;
// config fills them from the table of the role's name. Keys are the fields' names in
// lower case with underscores. Nothing unknown is passed over: every error names
// file, line and key, and what would have been right.
//
// Settings are read at start and never change while the server runs. The package has
// no goroutines and no locks.
package config

import (
	"net/netip"
	"path/filepath"
	"strings"
	"time"
)

// Settings is what fernamt.toml says.
type Settings struct {
	Domains      []string      `toml:"domains" doc:"SIP domains served here; the first is the one that names without a domain belong to"`
	Log          Log           `toml:"log" doc:"What is logged, to standard error"`
	Storage      Storage       `toml:"storage" doc:"Where accounts, messages and events are kept"`
	DNS          DNS           `toml:"dns" doc:"How other domains are found (RFC 3263)"`
	SIP          SIP           `toml:"sip" doc:"How this server speaks SIP"`
	Limits       Limits        `toml:"limits" doc:"What one peer, and all together, may ask of this server"`
	HEP          HEP           `toml:"hep" doc:"Copies of all SIP messages, secrets starred, for a HOMER server"`
	Certificates []Certificate `toml:"certificate" doc:"Certificates for people outside; servers among themselves use the internal CA's"`
	Pools        []Pool        `toml:"pool" doc:"Front ends that stand for one another"`
	Hosts        []Host        `toml:"host" doc:"The machines, or processes, and what they do"`
	Edge         Edge          `toml:"edge" doc:"The media relay, which is not there yet: read, and of no effect"`

	File  string         `toml:"-"` // where it was read; "" when made in memory
	Roles map[string]any `toml:"-"` // pointers to the role structs, filled, by role name

	lines map[string]int // key → line
}

// Log is what is logged.
type Log struct {
	Level  string `toml:"level" doc:"debug, info, warn or error"`
	Format string `toml:"format" doc:"text or json"`
}

// Storage names the database.
type Storage struct {
	DSN      string `toml:"dsn" doc:"PostgreSQL, as postgres://user@host:5432/name; empty: SQLite in the data folder"`
	Password Secret `toml:"password" doc:"PostgreSQL password, as file:NAME; never in dsn"`
}

// DNS is the resolver.
type DNS struct {
	Servers []string `toml:"servers" doc:"Resolvers as ADDRESS or ADDRESS:PORT; empty: those of /etc/resolv.conf"`
	Timeout Duration `toml:"timeout" doc:"How long to wait for one answer"`
}

// SIP is about the protocol itself.
type SIP struct {
	Digest  []string `toml:"digest" doc:"Digest algorithms offered, best first: SHA-256, MD5 (RFC 8760). Clients known to fail on two are asked for MD5 alone"`
	Origins []string `toml:"origins" doc:"Hosts whose web pages may open a WebSocket here, beside this server's own; * stands for a part of a name"`
	Pace    Duration `toml:"pace" doc:"While datagrams come densely, how long to wait for several at once; saves processor time, costs that much latency; 0s: never"`
}

// Limits bounds what is asked of the server.
type Limits struct {
	MessageHeader         int      `toml:"message_header" doc:"Largest header of a SIP message on a stream, in octets"`
	MessageBody           int      `toml:"message_body" doc:"Largest body of a SIP message on a stream, in octets; more is answered 513"`
	Connections           int      `toml:"connections" doc:"SIP connections open at once, all together"`
	ConnectionsPerAddress int      `toml:"connections_per_address" doc:"SIP connections open at once from one address (IPv6: /64)"`
	HeaderTime            Duration `toml:"header_time" doc:"How long a peer may take to send the header of one message"`
	IdleTime              Duration `toml:"idle_time" doc:"After how long without a whole message a connection is closed on which nobody is registered"`
	RequestsPerAddress    int      `toml:"requests_per_address" doc:"Requests per second from one address outside before it is slowed down; 0: no limit"`
	AddressFailures       int      `toml:"address_failures" doc:"Failed logins a minute from one address that have it banned"`
	UserFailures          int      `toml:"user_failures" doc:"Failed logins a minute for one user that have further tries wait"`
	BanTime               Duration `toml:"ban_time" doc:"How long a ban lasts"`
	Transactions          int      `toml:"transactions" doc:"Transactions held at once; beyond, new requests get 503 with Retry-After"`
	Memory                int      `toml:"memory" doc:"MiB of heap beyond which new requests get 503 with Retry-After; 0: no limit"`
}

// HEP is the export to HOMER.
type HEP struct {
	Target   string `toml:"target" doc:"ADDRESS:PORT of the collector (UDP); empty: no export"`
	Agent    uint32 `toml:"agent" doc:"The capture agent's number"`
	Password Secret `toml:"password" doc:"What the collector wants to see, as file:NAME"`
}

// Certificate is one certificate by file. A changed file is taken up on SIGHUP and,
// at the latest, a minute later.
type Certificate struct {
	Names []string `toml:"names" doc:"Names it is for; empty: those that stand in it"`
	Cert  string   `toml:"cert" doc:"PEM file: the certificate and the chain below it"`
	Key   Secret   `toml:"key" doc:"PEM file with the key, as file:NAME"`
}

// Pool is a set of front ends.
type Pool struct {
	Name    string   `toml:"name" doc:"Its name in DNS, such as pool1.example.test"`
	Domains []string `toml:"domains" doc:"Domains whose people live here unless their account says otherwise; empty: all"`
}

// Host is one process of the suite.
type Host struct {
	Name      string                  `toml:"name" doc:"Its name in DNS; --host selects by it"`
	Roles     []string                `toml:"roles" doc:"What it does"`
	Pool      string                  `toml:"pool" doc:"The pool it belongs to; needed with several pools"`
	Internal  []netip.Addr            `toml:"internal" doc:"Addresses that look inside; 0.0.0.0 or :: for all"`
	External  []netip.Addr            `toml:"external" doc:"Addresses that look outside (edge); empty: none"`
	Loopback  []netip.Addr            `toml:"loopback" doc:"Addresses for health, metrics and other doors for this machine alone"`
	Addresses map[string][]netip.Addr `toml:"addresses" doc:"Addresses of single doors, by their name in fernamt ports, in place of the side's"`
}

// Edge stands in for the role of that name until it is there, so that settings for it
// are no error.
type Edge struct {
	AllowPeers []Net `toml:"allow_peers" doc:"TURN peers let through although they are on the deny list"`
}

// Defaults returns settings with every default set and nothing else.
func Defaults() *Settings {
	return &Settings{
		Log: Log{Level: "info", Format: "text"},
		DNS: DNS{Timeout: Duration(2 * time.Second)},
		SIP: SIP{Digest: []string{"SHA-256", "MD5"}},
		Limits: Limits{MessageHeader: 64 << 10, MessageBody: 1 << 20, Connections: 16384, ConnectionsPerAddress: 100,
			HeaderTime: Duration(10 * time.Second), IdleTime: Duration(30 * time.Second),
			AddressFailures: 30, UserFailures: 10, BanTime: Duration(10 * time.Minute), Transactions: 200000},
		HEP: HEP{Agent: 2001},
	}
}

// HostDefaults fills what a host leaves out.
func (h *Host) defaults() {
	if len(h.Loopback) == 0 {
		h.Loopback = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
}

// Has says whether the host plays the role.
func (h *Host) Has(role string) bool {
	for _, r := range h.Roles {
		if r == role {
			return true
		}
	}
	return false
}

// Domain is the first domain.
func (s *Settings) Domain() string {
	if len(s.Domains) == 0 {
		return ""
	}
	return s.Domains[0]
}

// Path makes a file name of the settings absolute: it counts from the settings' folder.
func (s *Settings) Path(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(s.File), name)
}

// Playing returns the hosts that play a role.
func (s *Settings) Playing(role string) []*Host {
	var hs []*Host
	for i := range s.Hosts {
		if s.Hosts[i].Has(role) {
			hs = append(hs, &s.Hosts[i])
		}
	}
	return hs
}

// PoolOf is the pool a host belongs to: the one it names, or the only one.
func (s *Settings) PoolOf(h *Host) string {
	if h.Pool == "" && len(s.Pools) == 1 {
		return s.Pools[0].Name
	}
	return h.Pool
}

// Pick returns the host of that name; without a name the only one, or the one named
// as this machine is.
func (s *Settings) Pick(name, machine string) (*Host, error) {
	var names []string
	for i := range s.Hosts {
		h := &s.Hosts[i]
		names = append(names, h.Name)
		if name != "" && strings.EqualFold(h.Name, name) {
			return h, nil
		}
	}
	if name == "" {
		if len(s.Hosts) == 1 {
			return &s.Hosts[0], nil
		}
		for i := range s.Hosts {
			h := &s.Hosts[i]
			short, _, _ := strings.Cut(h.Name, ".")
			if strings.EqualFold(h.Name, machine) || strings.EqualFold(short, machine) {
				return h, nil
			}
		}
		return nil, s.fail("host", "several hosts, and none is named as this machine ("+machine+
			"): say which with --host, one of "+strings.Join(names, ", "))
	}
	return nil, s.fail("host", "no host "+name+"; known: "+strings.Join(names, ", "))
}
