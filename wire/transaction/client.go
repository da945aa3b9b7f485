package transaction

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"fernamt/wire/clock"
	"fernamt/wire/sip"
)

// ClientUser is told what happens to a client transaction.
type ClientUser interface {
	// Response brings each response but 100 once; a 2xx to INVITE each time it comes
	// (RFC 6026 §7.2). m is valid until the call returns.
	Response(c *Client, m *sip.Message)
	// Failed says that no final response will come: ErrTimeout or ErrTransport.
	Failed(c *Client, err error)
}

// Client is one client transaction (RFC 3261 §17.1).
type Client struct {
	l     *Layer
	user  ClientUser
	flow  sip.Flow
	timer clock.Timer
	gen   uint64
	place uint32

	mu     sync.Mutex
	sent   []byte        // the request; after a non-2xx final response to INVITE, our ACK
	cancel *cancelling   // a CANCEL under way
	pause  time.Duration // timer A's or E's next interval
	until  int64         // timer B, D, F, K or M on the monotonic clock
	again  int64         // when to retransmit; 0: not
	state  clientState
	method sip.Method
	stream bool
	wanted bool // CANCEL waits for a provisional response (RFC 3261 §9.1)
	brief  bool // until is sooner than timer F while there is no sign of the other side
}

type clientState uint8

const (
	calling    clientState = iota // Trying, when not INVITE
	ringing                       // Proceeding
	answered                      // Accepted, RFC 6026 §7.2
	finished                      // Completed
	terminated                    //
)

// cancelling is the transaction of our own CANCEL: it shares the INVITE's branch.
type cancelling struct {
	sent  []byte
	pause time.Duration
	again int64 // 0: answered
}

type clientShard struct {
	mu    sync.Mutex
	items []*Client
	free  []uint32
	_     [8]byte
}

func (l *Layer) client(place uint32) *Client {
	sh := &l.clients[place%shards]
	i := int(place / shards)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if i >= len(sh.items) {
		return nil
	}
	return sh.items[i]
}

func (l *Layer) enter(c *Client) {
	c.gen = rand.Uint64() // who has seen one branch must not know others: it is all that a response proves
	n := uint32(c.gen % shards)
	sh := &l.clients[n]
	sh.mu.Lock()
	if k := len(sh.free); k > 0 {
		c.place = sh.free[k-1]
		sh.free = sh.free[:k-1]
		sh.items[c.place/shards] = c
	} else {
		c.place = uint32(len(sh.items))*shards + n
		sh.items = append(sh.items, c)
	}
	sh.mu.Unlock()
	l.stats.clients.Add(1)
}

// leave frees the place. The generation in the branch keeps late responses away.
func (c *Client) leave() {
	sh := &c.l.clients[c.place%shards]
	sh.mu.Lock()
	sh.items[c.place/shards] = nil
	sh.free = append(sh.free, c.place)
	sh.mu.Unlock()
	c.l.wheel.Stop(&c.timer)
	if c.stream {
		c.l.unwatch(c)
	}
	c.l.stats.clients.Add(-1)
}

func (c *Client) pool() *buffers { return &c.l.bufs[c.place%shards] }

// Request sends m over f with a Via of ours on top and waits for responses. m is
// changed by that and not kept. loop goes into the branch (see Looped); 0 when no
// proxy asks. An error says that nothing was sent; u is not called then.
func (l *Layer) Request(m *sip.Message, f sip.Flow, loop uint64, u ClientUser) (*Client, error) {
	return l.RequestWithin(0, m, f, loop, u)
}

// RequestWithin is Request that waits no longer than limit for the first response, be
// it a 100; 0: as long as RFC 3261 says. For INVITE limit means nothing.
func (l *Layer) RequestWithin(limit time.Duration, m *sip.Message, f sip.Flow, loop uint64, u ClientUser) (*Client, error) {
	c := &Client{l: l, user: u, flow: f, method: m.Method(), stream: f.Link.Info().Transport.Reliable()}
	c.timer.Owner = c
	l.enter(c)
	if c.stream {
		l.watch(c)
	}
	var via [192]byte
	m.Prepend(sip.HVia, l.appendVia(via[:0], c, loop))
	b := m.AppendTo(c.pool().get(len(m.Bytes()) + 640))
	c.mu.Lock()
	c.sent = b
	if c.state == terminated {
		c.mu.Unlock()
		return c, nil
	}
	now := clock.Mono()
	c.until = now + int64(64*l.t.T1) // timer B or F
	if limit > 0 && limit < 64*l.t.T1 && c.method != sip.INVITE {
		c.until, c.brief = now+int64(limit), true
	}
	c.pause = l.t.T1
	if !c.stream {
		c.again = now + int64(c.pause)
	}
	c.arm()
	err := l.transmit(f, b)
	over := c.state != terminated // else the link has gone meanwhile and Failed tells
	if err != nil && over {
		c.state = terminated
		c.drop()
	}
	c.mu.Unlock()
	if err != nil && over {
		c.leave()
		return nil, err
	}
	return c, nil
}

func (l *Layer) appendVia(dst []byte, c *Client, loop uint64) []byte {
	dst = append(dst, "SIP/2.0/"...)
	t := c.flow.Link.Info().Transport
	dst = append(dst, t.String()...)
	dst = append(dst, ' ')
	dst = l.sentBy(dst, c.flow)
	dst = append(dst, ";branch="...)
	dst = l.appendBranch(dst, c.place, c.gen, loop)
	return appendWay(dst, c.flow)
}

// appendWay adds how answers, and requests from the other side, come back to us: on UDP
// to the port that we sent from, between servers over the connection that we opened
// (RFC 3581 §3, RFC 5923 §5).
func appendWay(dst []byte, f sip.Flow) []byte {
	switch info := f.Link.Info(); {
	case info.Transport == sip.UDP:
		return append(dst, ";rport"...)
	case info.Transport == sip.TLS && info.Dialled && len(info.Peer) > 0:
		return append(dst, ";alias"...)
	}
	return dst
}

// Flow is where the request went.
func (c *Client) Flow() sip.Flow { return c.flow }

// Method is the request's.
func (c *Client) Method() sip.Method { return c.method }

// arm sets the wheel to what comes first: a retransmission or the end.
func (c *Client) arm() {
	next := c.until
	if c.again != 0 {
		next = min(next, c.again)
	}
	if c.cancel != nil && c.cancel.again != 0 {
		next = min(next, c.cancel.again)
	}
	c.l.wheel.SetAt(&c.timer, next, fireClient)
}

func (c *Client) drop() {
	if c.sent != nil {
		c.pool().put(c.sent)
		c.sent = nil
	}
	c.again = 0
}

// response runs RFC 3261 figures 5 and 6.
func (c *Client) response(m *sip.Message) {
	_, method, err := m.CSeq()
	if err != nil {
		return
	}
	code := m.StatusCode()
	c.mu.Lock()
	if method == sip.CANCEL && c.method != sip.CANCEL {
		if c.cancel != nil && code >= 200 {
			c.cancel.again = 0
		}
		c.mu.Unlock()
		return
	}
	if method != c.method {
		c.mu.Unlock()
		c.l.stats.stray.Add(1)
		return
	}
	tell, over := c.step(m, code)
	c.mu.Unlock()
	if over {
		c.leave()
	}
	if tell {
		c.user.Response(c, m)
	}
	if code >= 300 && c.method != sip.INVITE { // kept until the user was told
		c.mu.Lock()
		c.drop()
		c.mu.Unlock()
	}
}

// step moves the state. tell: the user wants to see it; over: leave now.
func (c *Client) step(m *sip.Message, code int) (tell, over bool) {
	now := clock.Mono()
	switch {
	case c.state == terminated:
		return false, false
	case c.state == answered:
		return code/100 == 2, false
	case c.state == finished:
		if c.method == sip.INVITE && code >= 300 && c.sent != nil {
			c.l.transmit(c.flow, c.sent) // our ACK again
		}
		return false, false
	case code < 200:
		c.provisional(now)
		return code > 100, false
	case c.method != sip.INVITE:
		if code < 300 {
			c.drop()
		}
		if c.stream {
			c.state = terminated
			return true, true
		}
		c.rest(finished, now, c.l.t.T4) // timer K
	case code < 300:
		c.drop()
		c.cancel = nil
		c.rest(answered, now, 64*c.l.t.T1) // timer M
	default:
		c.acknowledge(m)
		if c.stream {
			c.drop()
			c.state = terminated
			return true, true
		}
		c.rest(finished, now, 64*c.l.t.T1) // timer D, at least 32 s
	}
	return true, false
}

func (c *Client) rest(s clientState, now int64, d time.Duration) {
	c.state = s
	c.again = 0
	c.until = now + int64(d)
	c.arm()
}

func (c *Client) provisional(now int64) {
	c.state = ringing
	if c.brief {
		c.brief, c.until = false, now+int64(64*c.l.t.T1)
	}
	if c.method == sip.INVITE {
		c.again = 0 // timer A stops; how long to ring is the user's to say (timer C)
		if c.cancel == nil {
			c.until = now + int64(365*24*time.Hour)
		}
	} else if !c.stream {
		c.pause = c.l.t.T2
		c.again = now + int64(c.pause)
	}
	if c.wanted {
		c.wanted = false
		c.sendCancel(now)
	}
	c.arm()
}

// acknowledge sends the ACK for a non-2xx final response (RFC 3261 §17.1.1.3) and
// keeps it in the request's place.
func (c *Client) acknowledge(m *sip.Message) {
	b := c.derive("ACK", m.Get(sip.HTo))
	if b == nil {
		return
	}
	c.drop()
	c.sent = b
	c.l.transmit(c.flow, b)
}

// derive builds the ACK or CANCEL that belongs to the request sent: same Request-URI,
// topmost Via, From, Call-ID, CSeq number and Routes (RFC 3261 §9.1, §17.1.1.3).
func (c *Client) derive(method string, to []byte) []byte {
	var r sip.Message
	if len(c.sent) == 0 || r.Parse(append([]byte(nil), c.sent...)) != nil {
		return nil
	}
	if to == nil {
		to = r.Get(sip.HTo)
	}
	b := c.pool().get(len(c.sent))
	b = append(append(b, method...), ' ')
	b = append(append(b, r.RequestURI()...), " SIP/2.0\r\n"...)
	for v := range r.Values(sip.HVia) {
		b = line(b, "Via", v)
		break
	}
	for v := range r.Values(sip.HRoute) {
		b = line(b, "Route", v)
	}
	b = line(b, "From", r.Get(sip.HFrom))
	b = line(b, "To", to)
	b = line(b, "Call-ID", r.CallID())
	n, _, _ := r.CSeq()
	b = strconv.AppendUint(append(b, "CSeq: "...), uint64(n), 10)
	b = append(append(append(b, ' '), method...), "\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"...)
	return b
}

func line(b []byte, name string, v []byte) []byte {
	b = append(append(b, name...), ": "...)
	return append(append(b, v...), '\r', '\n')
}

// Cancel asks the other side to give up. It goes out when a provisional response has
// come (RFC 3261 §9.1). The INVITE then ends by its own final response, or after
// 64*T1 by ErrTimeout.
func (c *Client) Cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.method != sip.INVITE || c.cancel != nil || c.state > ringing {
		return
	}
	if c.state == calling {
		c.wanted = true
		return
	}
	now := clock.Mono()
	c.sendCancel(now)
	c.arm()
}

func (c *Client) sendCancel(now int64) {
	b := c.derive("CANCEL", nil)
	if b == nil {
		return
	}
	c.cancel = &cancelling{sent: append([]byte(nil), b...), pause: c.l.t.T1}
	c.pool().put(b)
	if !c.stream {
		c.cancel.again = now + int64(c.l.t.T1)
	}
	c.until = now + int64(64*c.l.t.T1)
	c.l.transmit(c.flow, c.cancel.sent)
}

// broken ends the transaction because its connection is gone.
func (c *Client) broken() {
	c.mu.Lock()
	waiting := c.state <= ringing
	over := c.state != terminated
	c.state = terminated
	c.mu.Unlock()
	c.end(over, waiting, ErrTransport)
}

// end leaves the layer and tells the user, who may still look at Sent.
func (c *Client) end(over, waiting bool, err error) {
	if over {
		c.leave()
	}
	if waiting {
		c.user.Failed(c, err)
	}
	c.mu.Lock()
	c.drop()
	c.mu.Unlock()
}

// Sent is a copy of the request as it went out. It is there while no final response has
// come, and within Failed; for what is no INVITE also within Response to a failure.
func (c *Client) Sent() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]byte(nil), c.sent...)
}

func fireClient(t *clock.Timer) { t.Owner.(*Client).fire(clock.Mono()) }

// fire is timers A, B, D, E, F, K and M.
func (c *Client) fire(now int64) {
	c.mu.Lock()
	if c.state == terminated {
		c.mu.Unlock()
		return
	}
	if now >= c.until {
		waiting := c.state <= ringing
		c.state = terminated
		c.mu.Unlock()
		if waiting {
			c.l.stats.timeouts.Add(1)
		}
		c.end(true, waiting, ErrTimeout)
		return
	}
	c.resend(now)
	c.arm()
	c.mu.Unlock()
}

// resend is timers A and E, and E of our CANCEL.
func (c *Client) resend(now int64) {
	if c.again != 0 && now >= c.again {
		c.l.stats.retransmitted.Add(1)
		c.l.transmit(c.flow, c.sent)
		c.pause *= 2
		if c.method != sip.INVITE {
			c.pause = min(c.pause, c.l.t.T2)
		}
		c.again = now + int64(c.pause)
	}
	if x := c.cancel; x != nil && x.again != 0 && now >= x.again {
		c.l.stats.retransmitted.Add(1)
		c.l.transmit(c.flow, x.sent)
		x.pause = min(2*x.pause, c.l.t.T2)
		x.again = now + int64(x.pause)
	}
}
