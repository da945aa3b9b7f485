package dialog

import (
	"hash/maphash"
	"strconv"
	"strings"
	"sync"
	"time"

	"fernamt/wire/sip"
	"fernamt/wire/transaction"
)

// Layer is what an Agent needs of the transaction layer below it.
type Layer interface {
	Reply(m *sip.Message, code int, tag, extra []byte)
	Accept(m *sip.Message, u transaction.ServerUser) (*transaction.Server, bool)
	Request(m *sip.Message, f sip.Flow, loop uint64, u transaction.ClientUser) (*transaction.Client, error)
}

// User is the one for whom an Agent works.
type User interface {
	// Call brings a new call from outside. It is to be answered, now or later, by
	// Ring, Accept or Reject.
	Call(c *Call)
	// Request brings a request that belongs to nothing: it is to be answered by Respond, or
	// by a method that begins something, such as Subscribe.
	Request(r *Request)
	// Event tells what happened to a call or a subscription.
	Event(e Event)
}

// Config is what an Agent needs. All but Layer, User, Flow and Contact may be left out.
type Config struct {
	Layer Layer
	User  User
	// Flow finds the way for a request of ours: to its first Route, else to its
	// Request-URI. It may wait for a connection.
	Flow func(m *sip.Message) (sip.Flow, error)
	// Contact gives the value "<sip:...>" under which we are reached over a flow.
	Contact func(f sip.Flow) string
	// Authorize adds credentials for the challenge to a request, or says that it has none.
	// try counts from 1: the request was sent that often.
	Authorize func(req, challenge *sip.Message, try int) bool
	// Prepare sees each request before it goes out the first time.
	Prepare func(req *sip.Message, f sip.Flow)
	// SentBy appends host and port of our Via, as for the transaction layer.
	SentBy func(dst []byte, f sip.Flow) []byte
	// Panic is told of a panic in somebody's turn, which otherwise goes on.
	Panic func(v any)

	Name    string        // for User-Agent and Server
	Events  []string      // event packages for which SUBSCRIBE reaches the User
	Accept  []string      // types of bodies in MESSAGE and the like; none: all
	Publish bool          // PUBLISH reaches the User
	T1, T2  time.Duration // zero: RFC 3261's
	Session time.Duration // session interval that we ask for; zero: none. RFC 4028
	MinSE   time.Duration // shortest session interval that we take; zero: 90 s
}

// Agent is a user agent core: RFC 3261 §8, both sides.
type Agent struct {
	c    Config
	seed maphash.Seed

	mu     sync.Mutex
	parts  map[partKey]part
	merged map[mergeKey]struct{} // requests without To tag that are under way
}

// partKey names what a request inside a dialog is for. The remote tag stays out: calls that
// fork have several.
type partKey struct{ callID, localTag string }

// RFC 3261 §8.2.2.2
type mergeKey struct {
	callID, fromTag, method string
	seq                     uint32
}

// part is a thing that owns dialogs.
type part interface {
	queue() *turn
	request(r *Request) // on the turn
}

// New makes an agent. It must be the transaction layer's user.
func New(c Config) *Agent {
	if c.T1 == 0 {
		c.T1 = 500 * time.Millisecond
	}
	if c.T2 == 0 {
		c.T2 = 4 * time.Second
	}
	if c.MinSE == 0 {
		c.MinSE = 90 * time.Second
	}
	if c.SentBy == nil {
		c.SentBy = func(dst []byte, f sip.Flow) []byte { return f.Link.Info().Local.AppendTo(dst) }
	}
	return &Agent{c: c, seed: maphash.MakeSeed(), parts: map[partKey]part{}, merged: map[mergeKey]struct{}{}}
}

// Request is the transaction layer's call: a request that no transaction knows.
func (a *Agent) Request(m *sip.Message) {
	tag := string(m.ToTag())
	if m.Method() == sip.ACK {
		if p := a.find(string(m.CallID()), tag); p != nil {
			r := &Request{Message: m.Clone(), a: a, tag: tag}
			p.queue().do(func() { p.request(r) })
		}
		return
	}
	if code, extra := a.refuse(m); code != 0 {
		a.reply(m, code, extra)
		return
	}
	var p part
	if tag != "" {
		if p = a.find(string(m.CallID()), tag); p == nil {
			a.reply(m, 481, "")
			return
		}
	}
	r := a.take(m, tag)
	if r == nil {
		return
	}
	switch {
	case p != nil:
		if !p.queue().do(func() { p.request(r) }) {
			r.Respond(503, "Retry-After: 5")
		}
	case m.Method() == sip.INVITE:
		a.incoming(r)
	default:
		a.c.User.Request(r)
	}
}

// reply answers without keeping anything. The tag is the same each time the same request
// comes. RFC 3261 §8.2.7
func (a *Agent) reply(m *sip.Message, code int, lines string) {
	var h maphash.Hash
	h.SetSeed(a.seed)
	for _, b := range [][]byte{m.CallID(), m.FromTag(), m.Get(sip.HCSeq), m.First(sip.HVia)} {
		h.Write(b)
		h.WriteByte(0)
	}
	a.c.Layer.Reply(m, code, strconv.AppendUint(nil, h.Sum64(), 36), []byte(lines))
}

// take makes the server transaction. nil: the request is under way already.
func (a *Agent) take(m *sip.Message, tag string) *Request {
	r := &Request{a: a}
	if tag == "" {
		n, _, _ := m.CSeq()
		k := mergeKey{string(m.CallID()), string(m.FromTag()), string(m.MethodName()), n}
		a.mu.Lock()
		_, twice := a.merged[k]
		a.merged[k] = struct{}{}
		a.mu.Unlock()
		if twice { // RFC 3261 §8.2.2.2: it reached us by two ways
			a.reply(m, 482, "")
			return nil
		}
		r.merge = &k
		tag = token(10)
	}
	r.tag = tag
	r.Message = m.Clone()
	tx, fresh := a.c.Layer.Accept(m, r)
	if !fresh {
		r.Ended(nil, nil)
		return nil
	}
	r.tx = tx
	return r
}

// Response is the transaction layer's call: a response that nobody waits for. A 2xx to an
// INVITE whose transaction is long over may still come from a slow branch; without a
// dialog there is nothing to end, so it is dropped. RFC 3261 §18.1.2
func (a *Agent) Response(*sip.Message) {}

func (a *Agent) find(callID, localTag string) part {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.parts[partKey{callID, localTag}]
}

func (a *Agent) enter(callID, localTag string, p part) {
	a.mu.Lock()
	a.parts[partKey{callID, localTag}] = p
	a.mu.Unlock()
}

func (a *Agent) leave(callID, localTag string, p part) {
	a.mu.Lock()
	if k := (partKey{callID, localTag}); a.parts[k] == p {
		delete(a.parts, k)
	}
	a.mu.Unlock()
}

// Parts counts the calls and subscriptions that are alive.
func (a *Agent) Parts() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.parts)
}

// after queues f on t when d has passed. Stopping the timer is not enough to be sure that f
// does not run any more: f has to look whether it is still wanted.
func (t *turn) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() { t.do(f) })
}

// Request is a request that came, with its server transaction. It is answered once; every
// method may be called from any goroutine.
type Request struct {
	*sip.Message // in its own memory
	a            *Agent
	tx           *transaction.Server // nil: an ACK
	tag          string
	merge        *mergeKey
	cancelled    func()
	ended        func(err error)

	mu    sync.Mutex
	final bool
	gone  bool // cancelled before anybody listened
}

// Cancelled is the transaction's call.
func (r *Request) Cancelled(*transaction.Server) {
	r.mu.Lock()
	f := r.cancelled
	r.gone = true
	r.mu.Unlock()
	if f != nil {
		f()
	}
}

// Ended is the transaction's call.
func (r *Request) Ended(_ *transaction.Server, err error) {
	if r.merge != nil {
		r.a.mu.Lock()
		delete(r.a.merged, *r.merge)
		r.a.mu.Unlock()
	}
	r.mu.Lock()
	f := r.ended
	r.mu.Unlock()
	if f != nil {
		f(err)
	}
}

// watch sets who is told of the transaction's fate, and says whether a CANCEL came before.
func (r *Request) watch(cancelled func(), ended func(error)) (gone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cancelled, r.ended = cancelled, ended
	return r.gone
}

// Respond answers without a body. Each of lines is a whole header line without its end.
func (r *Request) Respond(code int, lines ...string) error {
	return r.RespondBody(code, "", nil, lines...)
}

// RespondBody answers with a body.
func (r *Request) RespondBody(code int, contentType string, body []byte, lines ...string) error {
	_, err := r.send(code, contentType, body, lines)
	return err
}

func (r *Request) send(code int, contentType string, body []byte, lines []string) ([]byte, error) {
	if r.tx == nil {
		return nil, nil
	}
	if code >= 200 {
		r.mu.Lock()
		done := r.final
		r.final = true
		r.mu.Unlock()
		if done {
			return nil, transaction.ErrEnded
		}
	}
	b := r.response(code, contentType, body, lines).AppendTo(nil)
	return b, r.tx.Send(b, code)
}

func (r *Request) response(code int, contentType string, body []byte, lines []string) *sip.Message {
	reason := sip.ReasonOf(code)
	m := r.NewResponse(code, reason)
	if code > 100 && len(r.ToTag()) == 0 {
		m.Set(sip.HTo, []byte(tagged(strings.TrimSpace(string(r.Get(sip.HTo))), r.tag)))
	}
	if r.a.c.Name != "" {
		m.Set(sip.HServer, []byte(r.a.c.Name))
	}
	for _, l := range lines {
		if name, v, ok := strings.Cut(l, ":"); ok {
			m.AddName(name, []byte(strings.TrimSpace(v)))
		}
	}
	if len(body) > 0 {
		m.SetBody(contentType, body)
	}
	return m
}
