// Package client is a headless user agent: it registers, calls, transfers, sends messages and
// subscribes. Tests, plays and `fernamt call` use it. It imports wire only and opens no
// sockets: they are handed in with Network.
//
// Specs: RFC 3261 §8 and §10 (user agent, registering), RFC 5626 (outbound, keep-alive),
// RFC 8760 (Digest with SHA-256), RFC 3428 (MESSAGE), RFC 3903 (PUBLISH), RFC 7118 (WebSocket).
// Calls and subscriptions are those of wire/dialog.
//
// Goroutines: the wheel's (unless it is shared), one reader per socket or connection, one for
// keeping the registration, and the turns of wire/dialog. What happens is written to a log of
// Seen, which tests wait on. Client.mu guards that log, the table of calls and the nonces;
// nothing is called while it is held.
package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"fernamt/wire/clock"
	"fernamt/wire/dialog"
	"fernamt/wire/sdp"
	"fernamt/wire/sip"
	"fernamt/wire/transaction"
	"fernamt/wire/transport"
)

// Network is how a client reaches others. A function that is not needed may be nil.
type Network struct {
	// ListenPacket opens the UDP socket.
	ListenPacket func(ctx context.Context) (net.PacketConn, error)
	// Dial opens a connection; for TLS and WSS the handshake is done. For WS and WSS the
	// client itself asks for the upgrade.
	Dial func(ctx context.Context, hop sip.Hop) (net.Conn, error)
}

// Config describes a client. Address, Transport and Network are needed.
type Config struct {
	Address   string        // "alice@example.test"
	Name      string        // display name
	Login     string        // for Digest; "": the address' user part
	Password  string        //
	Transport sip.Transport // for everything that is sent to Server
	Server    sip.Hop       // where requests without Route go; zero: to their own URI, which must be numeric
	Network   Network

	Expires   time.Duration // asked for when registering; zero: 10 minutes
	Outbound  bool          // RFC 5626: instance, reg-id, ob
	Instance  string        // "urn:uuid:..."; "": drawn
	Q         string        // q of our Contact, "" for none
	KeepAlive time.Duration // CRLF or STUN that often while registered; zero: never
	Media     dialog.Media  // for calls; nil: audio with PCMU and PCMA on port 9
	Session   time.Duration // session timer to ask for; zero: none
	Events    []string      // event packages that others may subscribe to here
	Accept    []string      // bodies that MESSAGE may have; none: text, HTML, CPIM and multipart
	MD5Only   bool          // answer Digest challenges with MD5 only, as old phones do
	Timers    transaction.Timers
	Wheel     *clock.Wheel // a running wheel to share; nil: an own one
	Trace     func(out bool, f sip.Flow, b []byte)
	Log       *slog.Logger
	// Incoming is told of each new call, on the call's turn; nil: calls wait in the log.
	Incoming func(c *dialog.Call)
}

// Client is one device of one person.
type Client struct {
	c     Config
	log   *slog.Logger
	agent *dialog.Agent
	tx    *transaction.Layer
	tr    *transport.Layer
	ctx   context.Context
	stop  context.CancelFunc
	wg    sync.WaitGroup
	host  string // stands for us in Via and Contact where nobody can reach us: WebSocket
	reg   registration
	creds credentials

	mu    sync.Mutex
	seen  []Seen
	first int // number of seen[0]
	wake  chan struct{}
	calls []*dialog.Call
	links map[uint64]bool
}

// up hands the transaction layer's calls to the agent, which is made after it.
type up struct{ a *dialog.Agent }

func (u *up) Request(m *sip.Message)  { u.a.Request(m) }
func (u *up) Response(m *sip.Message) { u.a.Response(m) }

// New makes a client and opens its UDP socket if that is its transport. Close ends it.
func New(c Config) (*Client, error) {
	if c.Expires == 0 {
		c.Expires = 10 * time.Minute
	}
	if c.Login == "" {
		c.Login, _, _ = strings.Cut(c.Address, "@")
	}
	if c.Instance == "" {
		c.Instance = "urn:uuid:" + uuid()
	}
	if c.Media == nil {
		c.Media = Audio(netip.MustParseAddr("127.0.0.1"), 9)
	}
	if c.Accept == nil {
		c.Accept = []string{"text/plain", "text/html", "message/cpim", "multipart/mixed", "multipart/alternative"}
	}
	k := &Client{c: c, log: c.Log, host: token() + ".invalid", wake: make(chan struct{}), links: map[uint64]bool{}}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	k.creds.address, k.creds.password = c.Address, c.Password
	k.ctx, k.stop = context.WithCancel(context.Background())
	wheel := c.Wheel
	if wheel == nil {
		wheel = clock.NewWheel()
		k.spawn(func() { wheel.Run(k.ctx) })
	}
	user := &up{}
	k.tx = transaction.New(transaction.Config{User: user, Wheel: wheel, Timers: c.Timers, SentBy: k.sentBy})
	k.tr = transport.New(transport.Config{Receive: k.tx.Receive, Dial: k.dial, Trace: c.Trace, Closed: k.closed, Log: c.Log,
		Limits: transport.Limits{Idle: time.Hour}})
	k.agent = dialog.New(dialog.Config{Layer: k.tx, User: k, Flow: k.flow, Contact: k.contact, Authorize: k.authorize,
		Prepare: k.prepare, SentBy: k.sentBy, Panic: k.panicked, Name: "fernamt client", Events: c.Events, Accept: c.Accept,
		T1: c.Timers.T1, T2: c.Timers.T2, Session: c.Session})
	user.a = k.agent
	k.reg.init(k)
	if err := k.listen(); err != nil {
		k.Close()
		return nil, fmt.Errorf("client %s: %w", c.Address, err)
	}
	return k, nil
}

// Audio is the media of a phone that knows PCMU and PCMA and says that it hears at addr.
func Audio(addr netip.Addr, port uint16) dialog.Media {
	return dialog.Fixed(sdp.Session{Address: addr, ID: uint64(time.Now().Unix()), Media: []sdp.Stream{{
		Kind: "audio", Port: port, Direction: sdp.SendRecv,
		Codecs: []sdp.Codec{{Payload: 0, Name: "PCMU", Rate: 8000, Channels: 1}, {Payload: 8, Name: "PCMA", Rate: 8000, Channels: 1},
			{Payload: 101, Name: "telephone-event", Rate: 8000, Channels: 1, Params: "0-15"}},
	}}})
}

func (k *Client) spawn(f func()) {
	k.wg.Add(1)
	go func() {
		defer k.wg.Done()
		f()
	}()
}

func (k *Client) panicked(v any) { k.log.Error("panic in a call", "user", k.Address(), "err", v) }

// Close ends everything at once, without a word to anybody.
func (k *Client) Close() {
	k.stop()
	k.tr.Close()
	k.wg.Wait()
	for range 1000 { // the transport's own goroutines end by themselves
		k.mu.Lock()
		n := len(k.links)
		k.mu.Unlock()
		if n == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func (k *Client) listen() error {
	if k.c.Network.ListenPacket == nil {
		return nil
	}
	pc, err := k.c.Network.ListenPacket(k.ctx)
	if err != nil {
		return err
	}
	any := sip.Hop{Transport: sip.UDP, Addr: pc.LocalAddr().(*net.UDPAddr).AddrPort()}
	k.spawn(func() {
		if err := k.tr.ServePacket(k.ctx, pc, sip.LinkInfo{Door: "client"}); err != nil {
			k.log.Error("client socket ended", "user", k.Address(), "err", err)
		}
	})
	return k.await(any)
}

// await waits until a link that was just handed to the transport can be found.
func (k *Client) await(hop sip.Hop) error {
	for range 5000 {
		if _, ok := k.tr.Find(hop); ok {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("link did not come up")
}

// ServeConn serves a connection that somebody opened to us, until it ends.
func (k *Client) ServeConn(c net.Conn, in sip.LinkInfo) error { return k.tr.ServeConn(k.ctx, c, in) }

func (k *Client) dial(ctx context.Context, hop sip.Hop) (net.Conn, []string, error) {
	if k.c.Network.Dial == nil {
		return nil, nil, fmt.Errorf("no way to dial %v", hop.Transport)
	}
	c, err := k.c.Network.Dial(ctx, hop)
	return c, nil, err
}

// connect gives the flow to a hop, opening it when need be.
func (k *Client) connect(hop sip.Hop) (sip.Flow, error) {
	if hop.Transport == sip.UDP {
		f, ok := k.tr.Find(hop)
		if !ok {
			return f, fmt.Errorf("no UDP socket for %v", hop.Addr)
		}
		return f, nil
	}
	ctx, cancel := context.WithTimeout(k.ctx, 10*time.Second)
	defer cancel()
	var f sip.Flow
	var err error
	if hop.Transport == sip.WS || hop.Transport == sip.WSS {
		f, err = k.connectWeb(ctx, hop)
	} else {
		f, err = k.tr.Dial(ctx, hop)
	}
	if err != nil {
		return f, err
	}
	id := f.Link.Info().ID
	k.mu.Lock()
	k.links[id] = true
	k.mu.Unlock()
	if _, ok := k.tr.ByID(id); !ok { // it went before we noted it
		k.closed(id)
	}
	return f, nil
}

// closed is told that a connection ended.
func (k *Client) closed(id uint64) {
	k.mu.Lock()
	ours := k.links[id]
	delete(k.links, id)
	k.mu.Unlock()
	if ours {
		k.tx.Gone(id)
		k.note(Seen{What: "disconnected"})
		k.reg.lost(id)
	}
}

// Disconnect closes every connection, as a cut cable does.
func (k *Client) Disconnect() {
	k.mu.Lock()
	var ids []uint64
	for id := range k.links {
		ids = append(ids, id)
	}
	k.mu.Unlock()
	for _, id := range ids {
		k.tr.End(id)
	}
}

// flow finds the way for a request: to its first Route if that is an address, else to the
// server, else to its Request-URI.
func (k *Client) flow(m *sip.Message) (sip.Flow, error) {
	if r := m.First(sip.HRoute); r != nil && !k.web() {
		if a, err := sip.ParseAddress(r); err == nil {
			if hop, ok := numeric(a.URI); ok {
				return k.connect(k.same(hop))
			}
		}
	} else if !k.c.Server.Addr.IsValid() {
		u, err := sip.ParseURI(m.RequestURI())
		if err != nil {
			return sip.Flow{}, err
		}
		hop, ok := numeric(u)
		if !ok {
			return sip.Flow{}, fmt.Errorf("%s is no address and there is no server", u.Host)
		}
		return k.connect(hop)
	}
	if !k.c.Server.Addr.IsValid() {
		return sip.Flow{}, errors.New("no server")
	}
	return k.connect(k.c.Server)
}

func (k *Client) web() bool { return k.c.Transport == sip.WS || k.c.Transport == sip.WSS }

// same makes a hop to the server's own address the server's, so that its connection is used.
func (k *Client) same(hop sip.Hop) sip.Hop {
	if s := k.c.Server; s.Addr == hop.Addr && s.Transport == hop.Transport {
		return s
	}
	return hop
}

// numeric reads the hop that a URI with an address names. RFC 3263 §4
func numeric(u sip.URI) (sip.Hop, bool) {
	a, ok := u.Addr()
	if !ok {
		return sip.Hop{}, false
	}
	hop := sip.Hop{Transport: sip.UDP, Host: a.String()}
	if t, ok := u.Param("transport"); ok {
		hop.Transport = sip.TransportOf(t)
	}
	port := u.Port
	if u.Is("sips") && hop.Transport != sip.WSS {
		hop.Transport = sip.TLS
	}
	if port == 0 && hop.Transport == sip.TLS {
		port = 5061
	} else if port == 0 {
		port = 5060
	}
	hop.Addr = netip.AddrPortFrom(a, port)
	return hop, hop.Transport != 0
}

func (k *Client) sentBy(dst []byte, f sip.Flow) []byte {
	if t := f.Link.Info().Transport; t == sip.WS || t == sip.WSS {
		return append(dst, k.host...) // RFC 7118 §5: nobody could reach our address
	}
	return f.Link.Info().Local.AppendTo(dst)
}

// contact gives our Contact on a flow, brackets included.
func (k *Client) contact(f sip.Flow) string {
	user, _, _ := strings.Cut(k.Address(), "@")
	s := "<sip:" + user + "@" + string(k.sentBy(nil, f))
	switch t := f.Link.Info().Transport; t {
	case sip.UDP:
	case sip.WSS:
		s += ";transport=ws" // RFC 7118 §4.2: the token for both
	default:
		s += ";transport=" + strings.ToLower(t.String())
	}
	if k.c.Outbound {
		s += ";ob"
	}
	return s + ">"
}

// From is our address as it stands in From.
func (k *Client) From() string {
	if k.c.Name == "" {
		return "<sip:" + k.Address() + ">"
	}
	return string(sip.AppendQuoted(nil, k.c.Name)) + " <sip:" + k.Address() + ">"
}

// Agent gives the user agent core below, for what Client has no method for.
func (k *Client) Agent() *dialog.Agent { return k.agent }

func token() string {
	b := make([]byte, 12)
	rand.Read(b)
	return fmt.Sprintf("%x", b)
}

// uuid draws a version 4 UUID. RFC 9562 §5.4
func uuid() string {
	b := make([]byte, 16)
	rand.Read(b)
	b[6], b[8] = b[6]&15|0x40, b[8]&63|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
