package dialog

import (
	"bytes"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/clock"
	"fernamt/wire/sdp"
	"fernamt/wire/sip"
	"fernamt/wire/transaction"
)

// sink is a link that keeps what is sent.
type sink struct {
	info sip.LinkInfo
	mu   sync.Mutex
	sent [][]byte
}

func (s *sink) Info() *sip.LinkInfo { return &s.info }

func (s *sink) Send(_ netip.AddrPort, b []byte) error {
	s.mu.Lock()
	s.sent = append(s.sent, append([]byte(nil), b...))
	s.mu.Unlock()
	return nil
}

// last gives the newest message sent that begins so.
func (s *sink) last(prefix string) *sip.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.sent) - 1; i >= 0; i-- {
		if bytes.HasPrefix(s.sent[i], []byte(prefix)) {
			m := new(sip.Message)
			if m.Parse(append([]byte(nil), s.sent[i]...)) == nil {
				return m
			}
		}
	}
	return nil
}

// lab is an agent whose peer is the fuzzer.
type lab struct {
	t     *testing.T
	link  *sink
	tx    *transaction.Layer
	agent *Agent
	mu    sync.Mutex
	calls []*Call
	reqs  []*Request
}

func (l *lab) Call(c *Call) {
	l.mu.Lock()
	l.calls = append(l.calls, c)
	l.mu.Unlock()
}

func (l *lab) Request(r *Request) {
	l.mu.Lock()
	l.reqs = append(l.reqs, r)
	l.mu.Unlock()
	switch r.Method() {
	case sip.REFER:
		if f := r.Referral(); f != nil {
			f.Accept()
			f.Report(200)
		}
	case sip.SUBSCRIBE:
		if n := r.Subscribe(200, r.Wanted(time.Minute)); n != nil {
			n.Notify("text/plain", []byte("x"))
		}
	default:
		r.Respond(200)
	}
}

func (l *lab) Event(e Event) {
	if e.Referral != nil {
		e.Referral.Accept()
		e.Referral.Report(180)
		e.Referral.Report(200)
	}
}

// settle waits until no turn has work.
func (l *lab) settle() {
	for range 4 { // work makes work
		l.agent.mu.Lock()
		var turns []*turn
		for _, p := range l.agent.parts {
			turns = append(turns, p.queue())
		}
		l.agent.mu.Unlock()
		for _, t := range turns {
			done := make(chan struct{})
			if t.do(func() { close(done) }) {
				<-done
			}
		}
	}
}

func (l *lab) feed(b []byte) {
	m := new(sip.Message)
	if m.Parse(b) != nil {
		return
	}
	m.Flow = sip.Flow{Link: l.link, Remote: netip.MustParseAddrPort("192.0.2.9:5060")}
	if m.IsRequest() {
		m.StampVia()
	}
	l.tx.Receive(m)
	l.settle()
}

const fuzzOffer = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4 RTP/AVP 0\r\n"

const fuzzInvite = "INVITE sip:bob@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKi\r\nFrom: <sip:a@x>;tag=RTAG\r\n" +
	"To: <sip:bob@x>\r\nCall-ID: CALL\r\nCSeq: 1 INVITE\r\nContact: <sip:a@192.0.2.9>\r\nSupported: 100rel, timer, replaces\r\n" +
	"Content-Type: application/sdp\r\n\r\n" + fuzzOffer

func newLab(t *testing.T) *lab {
	l := &lab{t: t, link: &sink{info: sip.LinkInfo{ID: 1, Transport: sip.TCP, Local: netip.MustParseAddrPort("192.0.2.1:5060")}}}
	u := &late{}
	l.tx = transaction.New(transaction.Config{User: u, Wheel: clock.NewWheel()}) // time stands still
	l.agent = New(Config{Layer: l.tx, User: l, Events: []string{"presence"}, T1: time.Hour,
		Flow: func(*sip.Message) (sip.Flow, error) {
			return sip.Flow{Link: l.link, Remote: netip.MustParseAddrPort("192.0.2.9:5060")}, nil
		},
		Contact: func(sip.Flow) string { return "<sip:bob@192.0.2.1>" }})
	u.a = l.agent
	return l
}

var fuzzMedia = Fixed(sdp.Session{Address: netip.MustParseAddr("192.0.2.1"), ID: 1, Media: []sdp.Stream{{Kind: "audio", Port: 6,
	Direction: sdp.SendRecv, Codecs: []sdp.Codec{{Payload: 0, Name: "PCMU", Rate: 8000, Channels: 1}}}}})

// state brings the agent into one of the states in which a message may find it, and gives
// the words that stand in messages for what is drawn at random.
func (l *lab) state(n byte) *strings.Replacer {
	var m *sip.Message
	words := func(local []byte) *strings.Replacer {
		return strings.NewReplacer("LTAG", string(local), "CALL", string(m.CallID()), "BRANCH", branch(m))
	}
	switch n % 7 {
	case 1, 2, 3: // a call to us: ringing, with a reliable response, answered
		l.feed([]byte(fuzzInvite))
		c := l.calls[0]
		switch n % 7 {
		case 1:
			c.Ring(180, nil)
		case 2:
			c.Ring(183, fuzzMedia)
		case 3:
			c.Accept(fuzzMedia)
		}
		l.settle()
		m = l.link.last("SIP/2.0 ")
		return words(m.ToTag())
	case 4, 5: // our call: just begun, answered
		l.agent.Invite(Invite{Target: "sip:a@192.0.2.9", From: "<sip:bob@x>", Media: fuzzMedia})
		l.settle()
		m = l.link.last("INVITE")
		w := words(m.FromTag())
		if n%7 == 5 {
			l.feed([]byte(w.Replace(fuzzAnswer)))
		}
		return w
	case 6: // our subscription
		l.agent.Subscribe(Subscribe{Target: "sip:a@192.0.2.9", From: "<sip:bob@x>", Event: "presence", Expires: time.Hour})
		l.settle()
		m = l.link.last("SUBSCRIBE")
		return words(m.FromTag())
	}
	return strings.NewReplacer("LTAG", "none")
}

const fuzzAnswer = "SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP 192.0.2.1:5060;branch=BRANCH\r\nFrom: <sip:bob@x>;tag=LTAG\r\n" +
	"To: <sip:a@192.0.2.9>;tag=RTAG\r\nCall-ID: CALL\r\nCSeq: 1 INVITE\r\nContact: <sip:a@192.0.2.9>\r\nContent-Type: application/sdp\r\n\r\n" + fuzzOffer

func branch(m *sip.Message) string {
	v, err := m.Via()
	if err != nil {
		return ""
	}
	return string(v.Branch)
}

// FuzzAgent sends two messages to an agent in every state. Nothing may panic, and an OPTIONS
// afterwards is answered.
func FuzzAgent(f *testing.F) {
	in := func(method, more string) string {
		return method + " sip:bob@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK" + method + "\r\nFrom: <sip:a@x>;tag=RTAG\r\n" +
			"To: <sip:bob@x>;tag=LTAG\r\nCall-ID: CALL\r\nCSeq: 2 " + method + "\r\nContact: <sip:a@192.0.2.9>\r\n" + more
	}
	sd := "Content-Type: application/sdp\r\n\r\n" + fuzzOffer
	for n := range byte(7) {
		f.Add(n, in("ACK", "\r\n"), in("BYE", "\r\n"))
		f.Add(n, in("INVITE", sd), in("UPDATE", sd))
		f.Add(n, in("PRACK", "RAck: 101 1 INVITE\r\n\r\n"), in("INFO", "\r\n"))
		f.Add(n, in("REFER", "Refer-To: <sip:c@x?Replaces=a%3Bto-tag%3Db>\r\n\r\n"), in("NOTIFY", "Event: refer\r\nSubscription-State: active\r\nContent-Type: message/sipfrag\r\n\r\nSIP/2.0 200 OK\r\n"))
		f.Add(n, in("NOTIFY", "Event: presence\r\nSubscription-State: terminated;reason=x\r\n\r\n"), in("SUBSCRIBE", "Event: refer;id=2\r\nExpires: 0\r\n\r\n"))
		f.Add(n, fuzzAnswer, strings.Replace(fuzzAnswer, "200 OK", "183 X", 1))
		f.Add(n, strings.Replace(fuzzAnswer, "200 OK", "422 X\r\nMin-SE: 1000", 1), strings.Replace(fuzzInvite, "RTAG", "x", 1))
		f.Add(n, strings.Replace(fuzzInvite, "Supported", "Replaces: CALL;to-tag=LTAG;from-tag=RTAG\r\nSupported", 1), "CANCEL")
	}
	f.Fuzz(func(t *testing.T, n byte, one, two string) {
		l := newLab(t)
		w := l.state(n)
		l.feed([]byte(w.Replace(one)))
		l.feed([]byte(w.Replace(two)))
		for _, c := range l.calls {
			c.Hold(true)
			c.Hangup()
		}
		l.settle()
		l.feed([]byte("OPTIONS sip:bob@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKalive\r\nFrom: <sip:z@x>;tag=alive\r\n" +
			"To: <sip:bob@x>\r\nCall-ID: alive\r\nCSeq: 1 OPTIONS\r\n\r\n"))
		m := l.link.last("SIP/2.0 200")
		is.True(t, m != nil && string(m.CallID()) == "alive", "the agent does not answer any more")
	})
}
