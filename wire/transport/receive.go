package transport

import (
	"encoding/hex"
	"errors"
	"hash/maphash"
	"runtime/debug"

	"fernamt/wire/sip"
)

// deliver parses b and hands it up. What does not parse is answered or dropped as the parser says (RFC 3261 §16.3).
// m takes b over until deliver returns.
func (l *Layer) deliver(m *sip.Message, f sip.Flow, b []byte, now int64) {
	l.handUp(m, f, b, now, l.c.Receive)
}

func (l *Layer) handUp(m *sip.Message, f sip.Flow, b []byte, now int64, to func(*sip.Message)) {
	if t := l.trace.Load(); t != nil {
		(*t)(false, f, b)
	}
	defer l.survive(f)
	err := m.Parse(b)
	m.Flow, m.At = f, now
	if err != nil {
		l.count.malformed.Add(1)
		l.refuse(m, err)
		return
	}
	if m.IsRequest() && f.Link.Info().Transport != sip.Local {
		m.StampVia()
	}
	to(m)
}

// survive makes a panic cost one message only.
func (l *Layer) survive(f sip.Flow) {
	if v := recover(); v != nil {
		l.count.panics.Add(1)
		l.log.Error("handling a message panicked", "err", v, "from", f.Remote, "stack", string(debug.Stack()))
	}
}

// refuse answers a request that cannot be handed up, without a transaction (RFC 3261 §8.2.7). An ACK is never answered.
func (l *Layer) refuse(m *sip.Message, err error) {
	e := &sip.Error{Status: 400}
	errors.As(err, &e)
	if e.Drop || e.Status == 0 || !m.IsRequest() || m.Method() == sip.ACK {
		return
	}
	f := m.ReplyFlow()
	if f.Link.Info().Transport != sip.Local {
		m.StampVia()
	}
	var extra []byte
	for _, h := range e.Headers {
		extra = append(append(extra, h...), "\r\n"...)
	}
	answer := sip.AppendReply(nil, m, sip.Reply{Code: e.Status, Reason: e.Reason, ToTag: l.tag(m), Extra: extra})
	// A failed send is the peer's loss: it asked wrongly and will time out.
	_ = f.Send(answer)
}

// oversize answers a message that is over a limit with status, as far as b shows who asked.
func (l *Layer) oversize(m *sip.Message, f sip.Flow, b []byte, status int) {
	defer l.survive(f)
	if t := l.trace.Load(); t != nil {
		(*t)(false, f, b)
	}
	err := m.Parse(b) // expected to fail: the end is missing
	m.Flow = f
	if e := (*sip.Error)(nil); !errors.As(err, &e) || !e.Drop {
		l.refuse(m, sip.Status(status, ""))
	}
}

// tag makes a To tag that is the same for each retransmission of a request.
func (l *Layer) tag(m *sip.Message) []byte {
	var h maphash.Hash
	h.SetSeed(l.seed)
	h.Write(m.CallID())
	h.Write(m.Get(sip.HVia))
	return hex.AppendEncode(nil, h.Sum(nil))
}
