package dialog

import (
	"crypto/rand"
	"errors"

	"fernamt/wire/sip"
	"fernamt/wire/transaction"
)

// exchange is one request of ours until its final response, with what it takes to get
// there: finding the way, and trying again with credentials. It belongs to a turn.
type exchange struct {
	a         *Agent
	on        *turn
	req       *sip.Message
	seq       func() uint32                    // gives the CSeq number of another try
	heard     func(m *sip.Message, err error)  // on the turn; m nil: no final response comes
	sent      func(m *sip.Message, f sip.Flow) // on the turn, before each try goes out
	client    *transaction.Client
	tries     int
	cancelled bool
	over      bool
}

// errCancelled is what an INVITE gets that was cancelled before it left.
var errCancelled = errors.New("cancelled before it was sent")

const maxTries = 4

// start sends the request. It runs on the turn and may wait for a connection.
func (x *exchange) start() {
	if x.cancelled {
		x.fail(errCancelled)
		return
	}
	x.tries++
	f, err := x.a.c.Flow(x.req)
	if err != nil {
		x.fail(err)
		return
	}
	if x.sent != nil {
		x.sent(x.req, f)
	}
	if x.tries == 1 && x.a.c.Prepare != nil {
		x.a.c.Prepare(x.req, f)
	}
	c, err := x.a.c.Layer.Request(x.req.Clone(), f, 0, x)
	if err != nil {
		x.fail(err)
		return
	}
	x.client = c
}

// cancel asks for the end of an INVITE.
func (x *exchange) cancel() {
	x.cancelled = true
	if x.client != nil && !x.over {
		x.client.Cancel()
	}
}

// Response is the transaction's call.
func (x *exchange) Response(c *transaction.Client, m *sip.Message) {
	m = m.Clone()
	x.on.do(func() {
		if x.client == nil || x.client == c {
			x.response(m)
		}
	})
}

// Failed is the transaction's call.
func (x *exchange) Failed(c *transaction.Client, err error) {
	x.on.do(func() {
		if x.client == nil || x.client == c {
			x.fail(err)
		}
	})
}

func (x *exchange) fail(err error) {
	if !x.over {
		x.over = true
		x.heard(nil, err)
	}
}

func (x *exchange) response(m *sip.Message) {
	code := m.StatusCode()
	if (code == 401 || code == 407) && x.a.c.Authorize != nil && x.tries < maxTries && !x.cancelled &&
		x.a.c.Authorize(x.req, m, x.tries) {
		x.again()
		return
	}
	if code >= 200 {
		x.over = true
	}
	x.heard(m, nil)
}

// again sends the request once more, changed, with the next number. RFC 3261 §8.1.3.5
func (x *exchange) again() {
	x.req.Set(sip.HCSeq, cseq(x.seq(), string(x.req.MethodName())))
	x.client = nil
	x.start()
}

// token gives n octets' worth of letters that nobody can guess.
func token(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	b := make([]byte, n)
	rand.Read(b)
	for i := range b {
		b[i] = letters[b[i]&31]
	}
	return string(b)
}

// codeOf gives the status that stands for a failure without response. RFC 3261 §8.1.3.1
func codeOf(err error) int {
	if errors.Is(err, transaction.ErrTimeout) {
		return 408
	}
	if errors.Is(err, errCancelled) {
		return 487
	}
	return 503
}

// Send sends a request outside any dialog; what is missing is filled in: To, From tag, Call-ID,
// CSeq, Max-Forwards. done hears the final response, or why there is none.
func (a *Agent) Send(m *sip.Message, done func(m *sip.Message, err error)) {
	on := &turn{panic: a.c.Panic}
	fill := func(h sip.Header, v string) {
		if m.Get(h) == nil {
			m.Set(h, []byte(v))
		}
	}
	fill(sip.HMaxForwards, "70")
	fill(sip.HTo, "<"+string(m.RequestURI())+">")
	fill(sip.HCallID, token(20))
	fill(sip.HCSeq, "1 "+string(m.MethodName()))
	if len(m.FromTag()) == 0 {
		m.Set(sip.HFrom, []byte(tagged(untagged(m.Get(sip.HFrom)), token(10))))
	}
	a.name(m)
	seq, _, _ := m.CSeq()
	x := &exchange{a: a, on: on, req: m, seq: func() uint32 { seq++; return seq }}
	x.heard = func(m *sip.Message, err error) {
		if m == nil || m.StatusCode() >= 200 {
			done(m, err)
		}
	}
	on.do(x.start)
}
