// Package transaction is the transaction layer of RFC 3261 §17 with the corrections
// of RFC 6026 and RFC 4320.
//
// A Layer serves a whole process. Transports call Receive, on the goroutine that
// read the message; the transaction user is called on that same goroutine, or on
// the wheel's when a timer fired. No lock is held during such a call.
//
// Server transactions lie in sharded maps, keyed by two seeded hashes. Client
// transactions lie in sharded arrays: the branch that we send names place and
// generation, so that a response is matched without a map. Each transaction's own
// mutex guards its state; a shard's mutex guards its map or array. A transaction's
// mutex may be held when a shard's is taken, never the other way round.
//
// Only what a retransmission needs is kept: a client transaction holds the request
// until the final response, a server transaction its last response; a 2xx to INVITE
// drops every octet.
package transaction

import (
	"crypto/rand"
	"encoding/hex"
	"hash/maphash"
	"sync/atomic"
	"time"

	"fernamt/wire/clock"
	"fernamt/wire/sip"
)

// User is the transaction user of RFC 3261 §5: what sits above the layer.
type User interface {
	// Request handles a request that matches no transaction, and an ACK for a 2xx.
	// m is valid until the call returns.
	Request(m *sip.Message)
	// Response handles a response that matches no client transaction.
	Response(m *sip.Message)
}

// Signer makes and checks the signatures of a security association ([MS-SIPAE]).
// It finds the association by the opaque value in the message, not by connection.
type Signer interface {
	// Verify sees each received message before it is matched; false drops it.
	Verify(m *sip.Message) bool
	// Signs says whether what goes out on this flow must pass Sign.
	Signs(f sip.Flow) bool
	// Sign may add headers to a message that is complete otherwise.
	Sign(f sip.Flow, m *sip.Message)
}

// Timers are the base values of RFC 3261 §17.1.1.1.
type Timers struct {
	T1 time.Duration // round trip
	T2 time.Duration // longest pause between retransmissions
	T4 time.Duration // how long a message stays in the network
}

// DefaultTimers are the RFC's values.
var defaultTimers = Timers{T1: 500 * time.Millisecond, T2: 4 * time.Second, T4: 5 * time.Second}

// Config is what a Layer needs.
type Config struct {
	User   User
	Wheel  *clock.Wheel
	Timers Timers // zero: the RFC's
	// SentBy appends host:port for our Via on this flow; nil: the link's local address.
	SentBy func(dst []byte, f sip.Flow) []byte
	Signer Signer // nil: nothing is signed
	// Astray is offered a final response of a server transaction that its connection did
	// not take, and why. It must not block; b is its own. true: it sees to it that the
	// response goes by another way (RFC 3261 §18.2.2), with Resend. nil: nothing is offered.
	Astray func(f sip.Flow, b []byte, why error) bool
}

const shards = 64

// Layer is the transaction layer of one process.
type Layer struct {
	user   User
	wheel  *clock.Wheel
	t      Timers
	sentBy func(dst []byte, f sip.Flow) []byte
	signer Signer
	astray func(f sip.Flow, b []byte, why error) bool
	seed   [2]maphash.Seed
	mark   [8]byte

	servers [shards]serverShard
	clients [shards]clientShard
	bufs    [shards]buffers
	links   [shards]linkShard

	stats counters
}

// Stats are numbers for metrics.
type Stats struct {
	Servers, Clients             int64  // transactions held
	Inviting                     int64  // INVITE server transactions without final response
	Retransmitted, Absorbed      uint64 // messages sent again, requests recognised as sent again
	Timeouts, Stray, Unsent      uint64 // timers B, F and H; responses without transaction; sends that failed
	Requests, Responses, Refused uint64 // seen by the layer; refused by the signer, or responses that are no SIP
}

type counters struct {
	servers, clients, inviting           atomic.Int64
	retransmitted, absorbed              atomic.Uint64
	timeouts, stray, unsent              atomic.Uint64
	requestsSeen, responsesSeen, refused atomic.Uint64
}

// New makes a layer. The wheel must be running.
func New(c Config) *Layer {
	l := &Layer{user: c.User, wheel: c.Wheel, t: c.Timers, sentBy: c.SentBy, signer: c.Signer, astray: c.Astray}
	if l.t == (Timers{}) {
		l.t = defaultTimers
	}
	if l.sentBy == nil {
		l.sentBy = func(dst []byte, f sip.Flow) []byte { return f.Link.Info().Local.AppendTo(dst) }
	}
	l.seed = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	var r [4]byte
	rand.Read(r[:])
	hex.Encode(l.mark[:], r[:])
	for i := range l.servers {
		l.servers[i].m = make(map[key]*Server)
	}
	return l
}

// Stats gives the numbers as they are now.
func (l *Layer) Stats() Stats {
	c := &l.stats
	return Stats{
		Servers: c.servers.Load(), Clients: c.clients.Load(), Inviting: c.inviting.Load(),
		Retransmitted: c.retransmitted.Load(), Absorbed: c.absorbed.Load(),
		Timeouts: c.timeouts.Load(), Stray: c.stray.Load(), Unsent: c.unsent.Load(),
		Requests: c.requestsSeen.Load(), Responses: c.responsesSeen.Load(), Refused: c.refused.Load(),
	}
}

// Receive takes a parsed message from a transport.
func (l *Layer) Receive(m *sip.Message) {
	if l.signer != nil && !l.signer.Verify(m) {
		l.stats.refused.Add(1)
		return
	}
	if m.IsRequest() {
		l.stats.requestsSeen.Add(1)
		l.request(m)
		return
	}
	l.stats.responsesSeen.Add(1)
	if m.Flow.Link.Info().Transport != sip.Local && m.Check() != nil {
		l.stats.refused.Add(1) // a response that is wrong is dropped (RFC 4475 §3.1.2.5)
		return
	}
	l.response(m)
}

func (l *Layer) request(m *sip.Message) {
	via, err := m.Via()
	if err != nil {
		k := l.serverKey(m, &via)
		l.Reply(m, 400, appendHex(nil, k.b, 16), nil) // to where it came from: the Via cannot be read
		return
	}
	k := l.serverKey(m, &via)
	s := l.server(k)
	switch m.Method() {
	case sip.CANCEL:
		l.cancelled(s, m)
	case sip.ACK:
		if s == nil || !s.acked() {
			l.user.Request(m)
		}
	default:
		if s == nil {
			l.user.Request(m)
			return
		}
		l.stats.absorbed.Add(1)
		s.again(m)
	}
}

// cancelled answers a CANCEL (RFC 3261 §9.2) and tells the INVITE's user.
func (l *Layer) cancelled(s *Server, m *sip.Message) {
	// RFC 3261 §22.1: only from where the INVITE came. The callee knows its Via as well.
	if s == nil || s.flow.Remote.Addr() != m.Flow.Remote.Addr() {
		l.Reply(m, 481, nil, nil)
		return
	}
	l.Reply(m, 200, s.Tag(), nil)
	if s.cancel() && s.user != nil {
		s.user.Cancelled(s)
	}
}

func (l *Layer) response(m *sip.Message) {
	via, err := m.Via()
	if err != nil {
		return
	}
	if place, gen, ok := l.parseBranch(via.Branch); ok {
		if c := l.client(place); c != nil && c.gen == gen {
			c.response(m)
			return
		}
	}
	l.stats.stray.Add(1)
	l.user.Response(m)
}

// Reply answers request m and keeps nothing. A tag is added to To when it has none;
// extra holds whole header lines.
func (l *Layer) Reply(m *sip.Message, code int, tag, extra []byte) {
	if m.Method() == sip.ACK {
		return // RFC 3261 §17.1.1.3: ACK is never answered
	}
	p := &l.bufs[0]
	b := p.get(len(m.Bytes()) + len(extra) + 256)
	b = sip.AppendResponse(b, m, code, tag, extra)
	l.transmit(m.ReplyFlow(), b)
	p.put(b)
}

// Resend sends a response that went astray by another way.
func (l *Layer) Resend(f sip.Flow, b []byte) error { return l.transmit(f, b) }

// transmit sends whole messages; a signature comes last.
func (l *Layer) transmit(f sip.Flow, b []byte) error {
	if l.signer != nil && l.signer.Signs(f) {
		b = l.signed(f, b)
	}
	err := f.Send(b)
	if err != nil {
		l.stats.unsent.Add(1)
	}
	return err
}

func (l *Layer) signed(f sip.Flow, b []byte) []byte {
	var m sip.Message
	if m.Parse(append([]byte(nil), b...)) != nil {
		return b
	}
	l.signer.Sign(f, &m)
	return m.AppendTo(nil)
}
