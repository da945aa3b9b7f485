// Package locate finds where a SIP URI leads: transport, addresses and ports, in the order in which to try them.
//
// Specs: RFC 3263 (NAPTR, SRV, addresses), RFC 2782 (weights), RFC 2308 (negative answers), RFC 7118 §8 (WebSocket
// services), RFC 8767 (old answers while the servers are silent). How a DNS message travels is the caller's: this package
// opens no socket.
//
// Goroutines: one per question that is under way, shared by all who wait for it; it ends within Config.Patience times the
// number of servers and tries. Locks: Resolver.mu guards the cache and the questions under way; never held while waiting.
package locate

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"fernamt/wire/clock"
	"fernamt/wire/sip"
)

// Config says whom to ask and what we speak.
type Config struct {
	// Servers are asked in this order.
	Servers []netip.AddrPort
	// Exchange sends one DNS message to server and gives the answer; over UDP it may be cut (TC), then Exchange is called
	// again with tcp. It must heed ctx.
	Exchange func(ctx context.Context, msg []byte, server netip.AddrPort, tcp bool) ([]byte, error)
	// Hosts is asked before any server; names are compared without case. "localhost" is known without it.
	Hosts map[string][]netip.Addr
	// Transports that we speak, the dearest first; nil: TLS, TCP, UDP.
	Transports []sip.Transport
	// Without4, Without6 leave out a family that we have no socket for.
	Without4, Without6 bool
	// Refuse, when set, drops addresses that a foreign name must not lead to (RFC 1918, our own ...). It is not asked
	// about Hosts and numeric addresses.
	Refuse func(netip.Addr) bool
	// Patience is how long one server has for one try; 2 s. Tries per server: 2.
	Patience time.Duration
	// Entries bounds the cache; 10,000.
	Entries int
	// Stale is how long an answer may serve after its time when nobody answers; 1 h.
	Stale time.Duration
}

const (
	tries     = 2
	maxHops   = 32
	maxChain  = 8 // CNAMEs in a row
	maxAsking = 1000
	staleWait = 1800 * time.Millisecond
)

// What Locate can say instead of hops.
var (
	ErrNotFound    = errors.New("name has no address")
	ErrUnavailable = errors.New("domain says that it has no such service")
	ErrUnsupported = errors.New("transport is not spoken here")
	errBusy        = errors.New("too many questions under way")
	errMissing     = errors.New("not in the cache")
)

// Resolver finds hops and remembers what it learned. It is safe for concurrent use.
type Resolver struct {
	c Config

	mu      sync.Mutex
	cache   map[key]*answer
	asking  map[key]*question
	servers []netip.AddrPort
}

// New makes a Resolver.
func New(c Config) *Resolver {
	if c.Transports == nil {
		c.Transports = []sip.Transport{sip.TLS, sip.TCP, sip.UDP}
	}
	c.Patience = cmp.Or(c.Patience, 2*time.Second)
	c.Entries = cmp.Or(c.Entries, 10000)
	c.Stale = cmp.Or(c.Stale, time.Hour)
	hosts := map[string][]netip.Addr{"localhost": {netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}}
	for name, addrs := range c.Hosts {
		hosts[fold(name)] = addrs
	}
	c.Hosts = hosts
	return &Resolver{c: c, cache: map[key]*answer{}, asking: map[key]*question{}, servers: c.Servers}
}

// SetServers changes whom to ask from now on.
func (r *Resolver) SetServers(s []netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.servers = slices.Clone(s)
}

// Forget empties the cache.
func (r *Resolver) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.cache)
}

// Locate gives the hops for uri in the order in which to try them, at most 32: by priority, within one by weight, each
// name's addresses together (RFC 3263 §4). It waits for servers as long as ctx lets it.
func (r *Resolver) Locate(ctx context.Context, uri sip.URI) ([]sip.Hop, error) {
	w := &walk{r: r, ctx: ctx}
	hops, err := w.uri(uri)
	if err != nil {
		return nil, fmt.Errorf("locate %s: %w", uri.Host, err)
	}
	return hops, nil
}

// Cached is Locate from what is known already. It never blocks; false means that Locate may know more. An answer whose
// time is over is still given while it may be stale, and asked for again in the background.
func (r *Resolver) Cached(uri sip.URI) ([]sip.Hop, bool) {
	w := &walk{r: r}
	hops, err := w.uri(uri)
	return hops, err == nil && !w.missing
}

// LocateVia gives the hops for a response whose top Via is via, when the connection or address that the request came by
// fails (RFC 3263 §5).
func (r *Resolver) LocateVia(ctx context.Context, via sip.Via) ([]sip.Hop, error) {
	w := &walk{r: r, ctx: ctx}
	hops, err := w.service(target{host: string(via.Host), port: via.Port}, via.Transport, "")
	if err != nil {
		return nil, fmt.Errorf("locate %s: %w", via.Host, err)
	}
	return hops, nil
}

// walk is one search. Without ctx it uses only the cache.
type walk struct {
	r       *Resolver
	ctx     context.Context
	missing bool
}

// target is a host and a port, 0 when none is given.
type target struct {
	host string
	port uint16
}

func (w *walk) uri(u sip.URI) ([]sip.Hop, error) {
	secure := u.Is("sips")
	t := target{host: string(u.Host), port: u.Port}
	if maddr, ok := u.Param("maddr"); ok && len(maddr) > 0 {
		t.host = string(maddr)
	}
	if t.host == "" {
		return nil, ErrNotFound
	}
	named, _ := u.Param("transport")
	if len(named) > 0 {
		tr, ok := transportOf(named, secure)
		if !ok || !w.speaks(tr) {
			return nil, ErrUnsupported
		}
		return w.service(t, tr, "")
	}
	plain := sip.UDP
	if secure {
		plain = sip.TLS
	}
	// RFC 3263 §4.1: a number or a port leaves nothing to look up.
	if _, ok := numeric(t.host); ok || t.port != 0 {
		if !w.speaks(plain) {
			return nil, ErrUnsupported
		}
		return w.service(t, plain, "")
	}
	return w.choose(t, secure, plain)
}

// choose finds the transport too: by NAPTR, else by the SRV records that there are, else the scheme's own.
func (w *walk) choose(t target, secure bool, plain sip.Transport) ([]sip.Hop, error) {
	if w.known(t.host) {
		return w.service(t, plain, "")
	}
	offers, err := w.naptr(t.host, secure)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	var hops []sip.Hop
	var last error
	for _, o := range offers {
		more, err := w.service(t, o.transport, o.replacement)
		if hops = append(hops, more...); err != nil {
			last = err
		}
	}
	if len(offers) > 0 {
		if len(hops) > 0 {
			return hops[:min(len(hops), maxHops)], nil
		}
		return nil, last
	}
	for _, tr := range w.r.c.Transports {
		// RFC 3263 §4.1: _sips for sips, _sip for sip.
		if tr.Secure() != secure || tr == sip.WS || tr == sip.WSS {
			continue
		}
		found, err := w.srv(serviceName(tr, t.host))
		if err != nil {
			last = err
			continue
		}
		more, err := w.spread(found, tr, t.host)
		if hops = append(hops, more...); err != nil {
			last = err
		}
	}
	if len(hops) > 0 {
		return hops[:min(len(hops), maxHops)], nil
	}
	if last != nil && !errors.Is(last, ErrNotFound) {
		return nil, last
	}
	if !w.speaks(plain) {
		return nil, ErrUnsupported
	}
	return w.plain(t, plain)
}

// service finds ports and addresses for a known transport (RFC 3263 §4.2). replacement is the name that a NAPTR gave.
func (w *walk) service(t target, tr sip.Transport, replacement string) ([]sip.Hop, error) {
	if _, ok := numeric(t.host); ok || t.port != 0 || w.known(t.host) {
		return w.plain(t, tr)
	}
	name := replacement
	if name == "" {
		name = serviceName(tr, t.host)
	}
	found, err := w.srv(name)
	if errors.Is(err, ErrNotFound) {
		return w.plain(t, tr)
	}
	if err != nil {
		return nil, err
	}
	return w.spread(found, tr, t.host)
}

// plain takes the host's own addresses.
func (w *walk) plain(t target, tr sip.Transport) ([]sip.Hop, error) {
	port := t.port
	if port == 0 {
		port = defaultPort(tr)
	}
	addrs, err := w.addresses(t.host)
	if err != nil {
		return nil, err
	}
	hops := make([]sip.Hop, 0, len(addrs))
	for _, a := range addrs {
		hops = append(hops, sip.Hop{Transport: tr, Addr: netip.AddrPortFrom(a, port), Host: fold(t.host)})
	}
	return hops[:min(len(hops), maxHops)], nil
}

// spread takes the addresses of each server of an SRV answer, which is in its order already. The certificate must carry
// the domain that was asked for, not the server's name (RFC 5922 §4).
func (w *walk) spread(found []service, tr sip.Transport, domain string) ([]sip.Hop, error) {
	found = found[:min(len(found), maxHops)]
	type result struct {
		addrs []netip.Addr
		err   error
	}
	results := make([]result, len(found))
	ask := func(i int, w *walk) { results[i].addrs, results[i].err = w.addresses(found[i].host) }
	if w.ctx == nil {
		for i := range found {
			ask(i, w)
		}
	} else {
		var wg sync.WaitGroup
		for i := range found {
			wg.Go(func() { ask(i, &walk{r: w.r, ctx: w.ctx}) })
		}
		wg.Wait()
	}
	var hops []sip.Hop
	last := error(ErrNotFound)
	for i, f := range found {
		if results[i].err != nil {
			last = results[i].err
		}
		for _, a := range results[i].addrs {
			hops = append(hops, sip.Hop{Transport: tr, Addr: netip.AddrPortFrom(a, f.port), Host: fold(domain)})
		}
	}
	if len(hops) == 0 {
		return nil, last
	}
	return hops[:min(len(hops), maxHops)], nil
}

// known says that the table of hosts has the name, so that no server is asked about it.
func (w *walk) known(host string) bool {
	_, ok := w.r.c.Hosts[fold(host)]
	return ok
}

func (w *walk) speaks(t sip.Transport) bool { return slices.Contains(w.r.c.Transports, t) }

// wanted leaves out families without a socket and what Refuse forbids.
func (w *walk) wanted(addrs []netip.Addr, foreign bool) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		a = a.Unmap()
		if a.Is4() && w.r.c.Without4 || !a.Is4() && w.r.c.Without6 ||
			foreign && w.r.c.Refuse != nil && w.r.c.Refuse(a) {
			continue
		}
		out = append(out, a)
	}
	return out
}

func transportOf(name []byte, secure bool) (sip.Transport, bool) {
	switch string(bytes.ToLower(name)) {
	case "udp":
		return sip.UDP, !secure
	case "tcp":
		if secure {
			return sip.TLS, true
		}
		return sip.TCP, true
	case "tls": // RFC 3261 §26.2.2 deprecates it, many send it
		return sip.TLS, true
	case "ws":
		if secure {
			return sip.WSS, true
		}
		return sip.WS, true
	case "wss":
		return sip.WSS, true
	}
	return 0, false
}

// serviceName is the SRV name of a transport at a domain (RFC 3263 §4.1, RFC 7118 §8).
func serviceName(t sip.Transport, domain string) string {
	switch t {
	case sip.UDP:
		return "_sip._udp." + domain
	case sip.TCP:
		return "_sip._tcp." + domain
	case sip.WS:
		return "_sip._ws." + domain
	case sip.WSS:
		return "_sips._ws." + domain
	}
	return "_sips._tcp." + domain
}

func defaultPort(t sip.Transport) uint16 {
	switch t {
	case sip.TLS:
		return 5061
	case sip.WS:
		return 80
	case sip.WSS:
		return 443
	}
	return 5060
}

// numeric reads an address, with or without the brackets of IPv6.
func numeric(host string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return a, err == nil
}

// fold makes names comparable.
func fold(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// age counts in nanoseconds of clock.Mono.
func age(d time.Duration) int64 { return clock.Mono() + int64(d) }
