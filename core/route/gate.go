// Package route is the one gate that every SIP request passes: limit, identify,
// admit, resolve, in this order. Nothing else in the suite decides who a request is
// from or who it is for. It owns the transport layer, the transaction layer and the
// proxy core of the process, serves the doors that roles open, and brings a request
// from one role to another: in process when the other runs here, over mutual TLS when
// it runs elsewhere; the sender cannot tell.
//
// Specs: RFC 3261 §16 and §22, RFC 3263 (through wire/locate), RFC 3325 (identity),
// RFC 3327 (Path), RFC 5626 §5 (flow tokens), RFC 5627 (GRUU), RFC 5658 (double
// Record-Route), RFC 5922 (names of peers), RFC 8760 (Digest).
//
// Goroutines: Run has one for the wheel, one for the registrations' journal and one
// that watches the load. A request is handled on the goroutine that read it; what
// could block (name servers, opening a connection) goes to one of its own with a
// copy. Locks: Gate.mu guards what changes when roles come and go; readers take an
// unchanging snapshot (scene). Each part of guard has its own. They are leaves.
package route

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fernamt/core/ident"
	"fernamt/core/listen"
	"fernamt/core/location"
	"fernamt/core/trace"
	"fernamt/wire/clock"
	"fernamt/wire/gss"
	"fernamt/wire/proxy"
	"fernamt/wire/sip"
	"fernamt/wire/transaction"
	"fernamt/wire/transport"
)

// People is where accounts are looked up; *ident.Directory is one. It must neither
// block nor allocate.
type People interface {
	ByAddress(aor []byte) *ident.Account
	ByUsername(username, realm []byte) *ident.Account
	ByNumber(e164 []byte) *ident.Account
	Used(credential int64)
}

// Finder turns a URI into hops (RFC 3263).
type Finder interface {
	Locate(ctx context.Context, u sip.URI) ([]sip.Hop, error)
	LocateVia(ctx context.Context, via sip.Via) ([]sip.Hop, error) // for a response
	Cached(u sip.URI) ([]sip.Hop, bool)                            // never blocks
}

// Host is one host of the topology.
type Host struct {
	Name  string            // as its certificate says
	Pool  string            // "" when there is only one
	Addr  netip.Addr        // where it is reached; invalid or 0.0.0.0: by its name
	Roles map[string]uint16 // its roles, and the number of each one's mutual TLS door for SIP
}

// Config is what a Gate needs.
type Config struct {
	Name       string // of this host in Hosts
	Domains    []string
	Hosts      []Host
	Users      People
	Doors      *listen.Doors // nil: nothing is dialled
	Finder     Finder        // nil: only numeric addresses are found
	Dir        string        // data folder for the journal and the key; "" for none
	Algorithms []gss.Algorithm
	Limits     Limits
	Transport  transport.Limits
	Origins    []string      // web pages that may open a WebSocket, beside our own
	Pace       time.Duration // see transport.Config
	Timers     transaction.Timers
	Signer     transaction.Signer
	Trace      func(out bool, f sip.Flow, b []byte)
	Took       *trace.Histogram // from a message's arrival to the end of its handling; nil: not measured
	Log        *slog.Logger
}

// Gate is the gate of one process.
type Gate struct {
	c         Config
	log       *slog.Logger
	wheel     *clock.Wheel
	layer     *transport.Layer
	trans     *transaction.Layer
	proxy     *proxy.Proxy
	locations *location.Table
	guard     *guard
	tokens    *tokens
	nonces    *gss.Nonces
	again     [againSize]atomic.Uint64 // digests of the last requests that used a nonce's count
	seed      maphash.Seed
	requests  sync.Pool
	signed    signedIn
	held      atomic.Int64 // transactions, a quarter of a second old
	strays    atomic.Int64 // responses that look for another way now
	stats     counters
	here      netip.Addr // of this machine, for sockets that are bound to every address

	mu    sync.Mutex
	scene atomic.Pointer[scene]
}

// scene is what readers see; it is replaced as a whole.
type scene struct {
	handlers map[string]func(*Request)
	doors    map[string]*doorway       // by name
	trusted  map[string][]netip.Prefix // role → addresses that count as signed in
	own      map[netip.AddrPort]string // our addresses → role
	locals   map[string]sip.Link       // role → link to it in this process
	roleOf   map[uint64]string         // local link → role
	dials    map[sip.Transport]string  // transport → door to dial through
	packets  map[string]string         // role → its first door for UDP
	apps     map[string]string         // "conf:focusfactory", "user@domain" → role
	main     map[sip.Transport]netip.AddrPort
	nextUDP  uint64
}

// doorway is what must be known of a door for each request.
type doorway struct {
	role    string
	trusted []netip.Prefix
}

// New makes the gate and reads journal and key.
func New(c Config) (*Gate, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = []gss.Algorithm{gss.SHA256, gss.MD5}
	}
	for i := range c.Domains {
		c.Domains[i] = strings.ToLower(c.Domains[i])
	}
	key, err := loadKey(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("route: key for flow tokens: %w", err)
	}
	g := &Gate{c: c, log: c.Log, wheel: clock.NewWheel(), guard: newGuard(c.Limits), seed: maphash.MakeSeed()}
	if g.tokens, err = newTokens(key); err != nil {
		return nil, fmt.Errorf("route: key for flow tokens: %w", err)
	}
	nonceKey, tempKey := sha256.Sum256(append([]byte("nonce "), key...)), sha256.Sum256(append([]byte("gruu "), key...))
	g.nonces = gss.NewNonces(nonceKey, nonceLife, clock.Mono)
	g.locations, err = location.Open(location.Config{Dir: c.Dir, Key: tempKey[:16], Log: c.Log})
	if err != nil {
		return nil, fmt.Errorf("route: %w", err)
	}
	if all := machineAddresses(); len(all) > 0 {
		g.here = all[0]
	}
	g.requests.New = func() any { return &Request{gate: g} }
	g.scene.Store(&scene{})
	g.layer = transport.New(transport.Config{Receive: g.receive, Dial: g.dial, Trace: c.Trace, Closed: g.closed,
		Origins: c.Origins, Pace: c.Pace, Limits: c.Transport, Log: c.Log})
	g.trans = transaction.New(transaction.Config{User: user{g}, Wheel: g.wheel, Timers: c.Timers, SentBy: g.sentBy, Signer: c.Signer, Astray: g.astray})
	g.wheel.Panicked = func(v any) { g.panicked("timer", v) }
	g.proxy = proxy.New(proxy.Config{Layer: g.trans, Dialer: ways{g}, Wheel: g.wheel, Leaving: g.leaving,
		Panicked: func(v any) { g.panicked("forwarding", v) }})
	return g, nil
}

// Run keeps time, watches the load and keeps the registrations' journal until ctx
// ends. Start it before any door is served.
func (g *Gate) Run(ctx context.Context) error {
	go g.wheel.Run(ctx)
	go g.watch(ctx)
	err := g.locations.Run(ctx)
	g.layer.Close()
	if err != nil {
		return fmt.Errorf("route: %w", err)
	}
	return nil
}

func (g *Gate) watch(ctx context.Context) {
	const every = 250 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	due := clock.Mono() + int64(every)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			now := clock.Mono()
			g.observe(now, due)
			due = now + int64(every)
		}
	}
}

// Locations are the registrations of this process.
func (g *Gate) Locations() *location.Table { return g.locations }

// Transport is the transport layer, for statistics and the trace.
func (g *Gate) Transport() *transport.Layer { return g.layer }

// Transactions is the transaction layer, for statistics.
func (g *Gate) Transactions() *transaction.Layer { return g.trans }

// Proxy is the proxy core.
func (g *Gate) Proxy() *proxy.Proxy { return g.proxy }

// Domains are the SIP domains served here, in lower case; the first is the default.
func (g *Gate) Domains() []string { return g.c.Domains }

// receive takes each message from the transports.
func (g *Gate) receive(m *sip.Message) {
	at := m.At
	g.trans.Receive(m)
	if g.c.Took != nil && at != 0 {
		g.c.Took.Observe(time.Duration(clock.Mono() - at))
	}
}

// closed hears that a connection is gone.
func (g *Gate) closed(id uint64) {
	g.trans.Gone(id)
	g.locations.Closed(id)
	g.signed.forget(id)
}

// panicked books a panic that cost one request, on the goroutine and within the
// deferred call that caught it.
func (g *Gate) panicked(what string, v any) {
	g.stats.panics.Add(1)
	g.log.Error("a panic cost one request", "where", what, "err", v, "stack", string(debug.Stack()))
}

// survive is for defer on a goroutine that works for one request.
func (g *Gate) survive() {
	if v := recover(); v != nil {
		g.panicked("forwarding", v)
	}
}

// change replaces the scene by a changed copy.
func (g *Gate) change(f func(s *scene)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.scene.Load()
	s := &scene{handlers: clone(old.handlers), doors: clone(old.doors), trusted: clone(old.trusted), own: clone(old.own),
		locals: clone(old.locals), roleOf: clone(old.roleOf), dials: clone(old.dials), packets: clone(old.packets), apps: clone(old.apps),
		main: clone(old.main), nextUDP: old.nextUDP}
	f(s)
	for name, d := range s.doors {
		s.doors[name] = &doorway{d.role, s.trusted[d.role]}
	}
	g.scene.Store(s)
}

func clone[K comparable, V any](m map[K]V) map[K]V {
	n := make(map[K]V, len(m)+1)
	for k, v := range m {
		n[k] = v
	}
	return n
}

// Handle names who handles the requests that come to a role. f is called on the
// goroutine that read the message; the request is valid until f returns. It takes
// the place of an earlier one, for a role that was started again.
func (g *Gate) Handle(role string, f func(*Request)) {
	g.change(func(s *scene) {
		s.handlers[role] = f
		if s.locals[role] == nil {
			l := g.layer.Local(g.receive)
			s.locals[role], s.roleOf[l.Info().ID] = l, role
		}
	})
}

// Trust makes requests from these addresses count as signed in at the role's own
// doors, and there alone (OCS: host authorization).
func (g *Gate) Trust(role string, nets []netip.Prefix) {
	g.change(func(s *scene) { s.trusted[role] = nets })
}

// Claim gives a role an address of its own ("user@domain"), or what stands behind
// "opaque=app:" ("conf:focusfactory"; "conf:" claims all that begins so).
func (g *Gate) Claim(role, what string) {
	g.change(func(s *scene) { s.apps[strings.ToLower(what)] = role })
}

// user makes the gate a transaction.User without showing the methods.
type user struct{ g *Gate }

func (u user) Request(m *sip.Message) { u.g.request(m) }

// Response has nothing to match: a late 2xx after its transaction ended is passed on
// by its Via (RFC 3261 §16.7: stateless), if that leads to a flow of ours; else it is
// of no use.
func (u user) Response(*sip.Message) { u.g.stats.strayResponses.Add(1) }
