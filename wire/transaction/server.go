package transaction

import (
	"bytes"
	"errors"
	"sync"
	"time"

	"fernamt/wire/clock"
	"fernamt/wire/sip"
)

// Why a transaction ended other than by its own end.
var (
	ErrTimeout   = errors.New("no answer in time")       // timers B and F
	ErrNoACK     = errors.New("final response unacked")  // timer H
	ErrTransport = errors.New("transport gave up")       // RFC 3261 §17.1.4
	ErrEnded     = errors.New("transaction has ended")   //
	errSent      = errors.New("final response was sent") //
)

// ServerUser is told what happens to a server transaction.
type ServerUser interface {
	// Cancelled: a CANCEL came while no final response had been sent. It is answered.
	Cancelled(s *Server)
	// Ended comes once, when the transaction is over. err is nil, ErrNoACK or
	// ErrTransport.
	Ended(s *Server, err error)
}

type serverState uint8

const (
	trying serverState = iota
	proceeding
	accepted // RFC 6026 §7.1
	completed
	confirmed
	ended
)

// Server is one server transaction (RFC 3261 §17.2).
type Server struct {
	l     *Layer
	key   key
	user  ServerUser
	flow  sip.Flow
	timer clock.Timer

	mu     sync.Mutex
	last   []byte        // what a retransmission gets
	pause  time.Duration // timer G's next interval
	until  int64         // timer H, I, J or L on the monotonic clock
	state  serverState
	method sip.Method
	stream bool
}

type serverShard struct {
	mu sync.Mutex
	m  map[key]*Server
	_  [40]byte // a cache line each
}

func (l *Layer) server(k key) *Server {
	sh := &l.servers[k.a%shards]
	sh.mu.Lock()
	s := sh.m[k]
	sh.mu.Unlock()
	return s
}

// Accept makes the server transaction of request m. When one is there already (two
// sockets brought the same request at once) it is returned with fresh = false.
func (l *Layer) Accept(m *sip.Message, u ServerUser) (s *Server, fresh bool) {
	via, _ := m.Via()
	k := l.serverKey(m, &via)
	info := m.Flow.Link.Info()
	s = &Server{l: l, key: k, user: u, flow: m.ReplyFlow(), method: m.Method(), stream: info.Transport.Reliable()}
	s.timer.Owner = s
	if s.method == sip.INVITE {
		s.state = proceeding
	}
	sh := &l.servers[k.a%shards]
	sh.mu.Lock()
	if old := sh.m[k]; old != nil {
		sh.mu.Unlock()
		return old, false
	}
	sh.m[k] = s
	sh.mu.Unlock()
	l.stats.servers.Add(1)
	if s.method == sip.INVITE {
		l.stats.inviting.Add(1)
	}
	return s, true
}

// Method is the request's.
func (s *Server) Method() sip.Method { return s.method }

// Flow is the way back.
func (s *Server) Flow() sip.Flow { return s.flow }

// Tag gives a To tag for this transaction: always the same one, not to be guessed.
func (s *Server) Tag() []byte { return appendHex(nil, s.key.b, 16) }

// Respond answers m, the transaction's request, without a body. extra holds whole
// header lines.
func (s *Server) Respond(m *sip.Message, code int, extra []byte) error {
	var tag []byte
	if code > 100 {
		tag = s.Tag()
	}
	p := s.pool()
	b := sip.AppendResponse(p.get(len(m.Bytes())+len(extra)+256), m, code, tag, extra)
	err := s.Send(b, code)
	p.put(b)
	return err
}

func (s *Server) pool() *buffers { return &s.l.bufs[s.key.a%shards] }

// Send sends a whole response and keeps what a retransmission needs. b stays the
// caller's. The error says that nothing was sent.
func (s *Server) Send(b []byte, code int) error {
	s.mu.Lock()
	if err := s.step(b, code); err != nil {
		s.mu.Unlock()
		return err
	}
	s.mu.Unlock()
	err := s.l.transmit(s.flow, b)
	if err != nil && code >= 200 && s.stream && s.l.astray != nil && s.l.astray(s.flow, bytes.Clone(b), err) {
		return nil // it is on its way
	}
	return err
}

// step moves the state for a response of ours (RFC 3261 figures 7 and 8).
func (s *Server) step(b []byte, code int) error {
	switch s.state {
	case ended:
		return ErrEnded
	case accepted:
		if code/100 == 2 {
			return nil // RFC 6026 §7.1: further 2xx pass
		}
		return errSent
	case completed, confirmed:
		return errSent
	}
	switch {
	case code < 200:
		s.state = proceeding
		if code > 100 && !s.stream {
			s.last = s.pool().keep(s.last, b)
		}
	case s.method != sip.INVITE:
		s.complete(b)
	case code < 300:
		s.l.stats.inviting.Add(-1)
		s.state = accepted
		s.drop()
		s.wait(64 * s.l.t.T1) // timer L
	default:
		s.l.stats.inviting.Add(-1)
		s.state = completed
		s.last = s.pool().keep(s.last, b)
		s.until = clock.Mono() + int64(64*s.l.t.T1) // timer H
		s.pause = s.l.t.T1
		if s.stream {
			s.pause = 64 * s.l.t.T1
		}
		s.arm(s.pause) // timer G
	}
	return nil
}

// complete ends a transaction that is no INVITE: timer J. On a stream that is zero;
// the wheel ends the transaction, so that Ended never comes from within Send.
func (s *Server) complete(b []byte) {
	s.state = completed
	if s.stream {
		s.drop()
		s.wait(0)
		return
	}
	s.last = s.pool().keep(s.last, b)
	s.wait(64 * s.l.t.T1)
}

func (s *Server) wait(d time.Duration) {
	s.until = clock.Mono() + int64(d)
	s.arm(d)
}

func (s *Server) arm(d time.Duration) { s.l.wheel.Set(&s.timer, d, fireServer) }

func (s *Server) drop() {
	if s.last != nil {
		s.pool().put(s.last)
		s.last = nil
	}
}

// again answers a request that came again.
func (s *Server) again(m *sip.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.state == ended || s.state == accepted || s.state == confirmed:
	case s.last != nil:
		s.l.stats.retransmitted.Add(1)
		s.l.transmit(s.flow, s.last)
	case s.state == proceeding && s.method == sip.INVITE:
		s.l.Reply(m, 100, nil, nil) // made again rather than kept
	}
}

// acked takes an ACK. It is for the user when the INVITE got a 2xx.
func (s *Server) acked() bool {
	s.mu.Lock()
	if s.method != sip.INVITE || s.state == accepted || s.state == ended {
		s.mu.Unlock()
		return false
	}
	if s.state != completed {
		s.mu.Unlock()
		return true
	}
	s.state = confirmed
	s.drop()
	if s.stream {
		s.state = ended
		s.mu.Unlock()
		s.finish(nil)
		return true
	}
	s.wait(s.l.t.T4) // timer I
	s.mu.Unlock()
	return true
}

// cancel says whether a CANCEL still matters.
func (s *Server) cancel() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.method == sip.INVITE && s.state <= proceeding
}

func fireServer(t *clock.Timer) { t.Owner.(*Server).fire(clock.Mono()) }

// fire is timers G, H, I, J and L.
func (s *Server) fire(now int64) {
	s.mu.Lock()
	if s.state == ended {
		s.mu.Unlock()
		return
	}
	if left := s.until - now; left > 0 {
		if s.state == completed && s.method == sip.INVITE && !s.stream {
			s.l.stats.retransmitted.Add(1)
			s.l.transmit(s.flow, s.last)
			s.pause = min(2*s.pause, s.l.t.T2)
			s.arm(min(s.pause, time.Duration(left)))
		} else {
			s.arm(time.Duration(left))
		}
		s.mu.Unlock()
		return
	}
	var err error
	if s.state == completed && s.method == sip.INVITE {
		s.l.stats.timeouts.Add(1)
		err = ErrNoACK
	}
	s.state = ended
	s.drop()
	s.mu.Unlock()
	s.finish(err)
}

// Abandon ends a transaction that will get no final response (RFC 4320 §4.2).
func (s *Server) Abandon() {
	s.mu.Lock()
	if s.state == ended {
		s.mu.Unlock()
		return
	}
	if s.method == sip.INVITE && s.state <= proceeding {
		s.l.stats.inviting.Add(-1)
	}
	s.state = confirmed
	s.drop()
	s.wait(0)
	s.mu.Unlock()
}

func (s *Server) finish(err error) {
	sh := &s.l.servers[s.key.a%shards]
	sh.mu.Lock()
	delete(sh.m, s.key)
	sh.mu.Unlock()
	s.l.wheel.Stop(&s.timer)
	s.l.stats.servers.Add(-1)
	if s.user != nil {
		s.user.Ended(s, err)
	}
}
