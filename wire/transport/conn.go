package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"

	"fernamt/wire/clock"
	"fernamt/wire/sip"
)

// conn is a connection that SIP travels on: TCP, TLS or WebSocket.
type conn struct {
	l      *Layer
	info   *sip.LinkInfo
	remote netip.AddrPort
	host   string          // the name that we dialled
	nc     net.Conn        // TCP and TLS
	ws     *websocket.Conn // WS and WSS
	raw    syscall.RawConn // plain TCP that can be written without blocking; or nil
	places []place         // guarded by Layer.mu

	due  atomic.Int64 // clock.Mono after which the sweeper ends it
	idle atomic.Int64 // ns of silence allowed; 0 for ever; unproven: nobody vouched for the peer yet

	// The reader's own.
	tiny    [4]byte
	half    bool  // a CRLF has come that may be the first half of a ping
	alias   bool  // the alias of RFC 5923 has been looked for
	inside  bool  // a message has begun
	scanned int   // octets known to hold no end of header
	need    int   // octets that the message in the buffer has, when known
	heard   int64 // when silence began

	mu      sync.Mutex // guards all below
	queue   []byte     // octets to be written
	lens    []int      // WebSocket: where messages end in queue
	writing bool       // somebody writes, or a writer goroutine runs
	empty   chan struct{}
	dead    error
	put     []byte // what try writes
	putN    int
	putErr  error
	try     func(fd uintptr) bool
}

const unproven = -1

// ServeConn receives SIP on c until the connection or ctx ends; it closes c. When c is a *tls.Conn whose handshake is not
// done, it is done first, on a goroutine of its own. The error says why the connection ended; nil: peer or ctx closed it.
func (l *Layer) ServeConn(ctx context.Context, c net.Conn, in sip.LinkInfo) error {
	k, err := l.adopt(ctx, c, in)
	if err != nil {
		return err
	}
	return k.serve(ctx)
}

// adopt makes c a link: shakes hands, checks the caps, enters it in the tables.
func (l *Layer) adopt(ctx context.Context, c net.Conn, in sip.LinkInfo) (*conn, error) {
	remote := addrPort(c.RemoteAddr())
	if err := l.admit(remote, in.Dialled); err != nil {
		c.Close()
		return nil, err
	}
	t, secure := c.(*tls.Conn)
	if secure && in.Transport == 0 {
		in.Transport = sip.TLS
	} else if in.Transport == 0 {
		in.Transport = sip.TCP
	}
	if secure {
		if err := l.shake(ctx, t); err != nil {
			c.Close()
			l.release(remote, in.Dialled)
			return nil, fmt.Errorf("tls handshake with %v: %w", remote, err)
		}
		if s := t.ConnectionState(); in.Peer == nil && len(s.VerifiedChains) > 0 {
			in.Peer = PeerNames(s.PeerCertificates[0])
		}
	}
	if !in.Local.IsValid() {
		in.Local = addrPort(c.LocalAddr())
	}
	k := &conn{l: l, info: l.describe(in), remote: remote, nc: c}
	// Only in clear are the octets that we write those that the descriptor takes.
	if s, ok := c.(syscall.Conn); ok && in.Transport == sip.TCP {
		k.raw, _ = s.SyscallConn() // nil when there is none: then the writer goroutine does it
	}
	l.enter(k)
	return k, nil
}

// shake does the TLS handshake on a goroutine of its own: the stack that it needs must not stay with a waiting reader.
func (l *Layer) shake(ctx context.Context, t *tls.Conn) error {
	if t.ConnectionState().HandshakeComplete {
		return nil
	}
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, l.c.Limits.Handshake)
		defer cancel()
		done <- t.HandshakeContext(ctx)
	}()
	return <-done
}

// PeerNames gives the names that a certificate proves for SIP: the domains of its sip URIs, else its DNS names
// (RFC 5922 §7.1).
func PeerNames(c *x509.Certificate) []string {
	var names []string
	for _, u := range c.URIs {
		// One with a user names a person, not a domain.
		if name := u.Opaque; u.Scheme == "sip" && name != "" && !strings.ContainsAny(name, "@:;?") {
			names = append(names, name)
		}
	}
	if names == nil {
		names = append(names, c.DNSNames...)
	}
	return names
}

func (c *conn) serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.end(nil) })
	read := c.read
	if c.ws != nil {
		read = func() error { return c.readWeb(ctx) }
	}
	err := read()
	stop()
	c.end(err)
	c.l.leave(c)
	c.mu.Lock()
	why := c.dead
	c.mu.Unlock()
	if ctx.Err() != nil || errors.Is(why, ErrClosed) {
		return nil
	}
	return why
}

func (c *conn) flow() sip.Flow { return sip.Flow{Link: c, Remote: c.remote} }

// Info implements sip.Link.
func (c *conn) Info() *sip.LinkInfo { return c.info }

func (c *conn) String() string { return fmt.Sprintf("%v %v", c.info.Transport, c.remote) }

// serves says whether c may carry what is meant for hop, whose address and transport fit already.
func (c *conn) serves(hop sip.Hop) bool {
	if !hop.Transport.Secure() || hop.Host == "" || hop.Host == c.host || hop.Addr == c.remote && !c.info.Dialled {
		return true
	}
	return slices.Contains(c.info.Peer, hop.Host)
}

func (c *conn) keep(idle time.Duration) {
	c.idle.Store(int64(idle))
	c.due.Store(silence(clock.Mono(), int64(idle)))
}

// rest sets the time until which silence is allowed. whole says that the peer sent a message: from a peer that nobody
// vouched for, only that counts.
func (c *conn) rest(whole bool) {
	now, idle := clock.Mono(), c.idle.Load()
	if whole || idle != unproven {
		c.heard = now
	}
	if idle == unproven {
		idle = int64(c.l.c.Limits.Idle)
	}
	c.due.Store(silence(c.heard, idle))
}

// silence gives when a silence since then of at most idle ends.
func silence(then, idle int64) int64 {
	if idle == 0 {
		return math.MaxInt64
	}
	return then + idle
}

// end closes c, once. err is nil when that is in good order.
func (c *conn) end(err error) {
	c.mu.Lock()
	first := c.dead == nil
	if first {
		if c.dead = err; err == nil {
			c.dead = ErrClosed
		}
	}
	c.mu.Unlock()
	if !first {
		return
	}
	switch t, ok := c.nc.(*tls.Conn); {
	case c.ws != nil:
		// The closing handshake would wait for the peer.
		go c.ws.CloseNow()
	case ok && err != nil:
		// A peer that does not read must not hold us with the closing alert.
		t.NetConn().Close()
	case c.raw == nil:
		// What wraps TLS would wait for the peer, too.
		go c.nc.Close()
	default:
		c.nc.Close()
	}
}
