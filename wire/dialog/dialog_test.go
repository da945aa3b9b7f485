package dialog

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fernamt/test/is"
	"fernamt/wire/sdp"
	"fernamt/wire/sip"
)

func parse(t *testing.T, lines ...string) *sip.Message {
	t.Helper()
	m := new(sip.Message)
	is.NoErr(t, m.Parse([]byte(strings.Join(lines, "\r\n")+"\r\n\r\n")))
	return m
}

// RFC 3261 §12.1, §12.2: state from a request and from a response, and what is built of it.
func TestState(t *testing.T) {
	req := parse(t, "INVITE sip:bob@b.test SIP/2.0", "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1",
		`From: "A;tag=x" <sip:alice@a.test>;tag=a1;x=y`, "To: sip:bob@b.test", "Call-ID: c1", "CSeq: 7 INVITE",
		"Record-Route: <sip:p1.test;lr>, <sip:p2.test;lr>", "Contact: <sip:alice@192.0.2.1>", "Content-Length: 0")
	d, err := FromRequest(req, "b1", "<sip:bob@192.0.2.2>")
	is.NoErr(t, err)
	is.Equal(t, *d, Dialog{CallID: "c1", LocalTag: "b1", RemoteTag: "a1", Local: "<sip:bob@b.test>",
		Remote: `"A;tag=x" <sip:alice@a.test>;x=y`, Contact: "<sip:bob@192.0.2.2>", Target: "sip:alice@192.0.2.1",
		Routes: []string{"<sip:p1.test;lr>", "<sip:p2.test;lr>"}, RemoteSeq: 7, Heard: true, Early: true})
	is.True(t, !d.Accept(req), "the same number again")
	is.True(t, d.Is("c1", "b1", "a1"), "it is itself")
	m := d.Request("BYE")
	is.Equal(t, string(m.RequestURI()), "sip:alice@192.0.2.1")
	is.Equal(t, string(m.Get(sip.HFrom)), "<sip:bob@b.test>;tag=b1")
	is.Equal(t, string(m.Get(sip.HTo)), `"A;tag=x" <sip:alice@a.test>;x=y;tag=a1`)
	is.Equal(t, string(m.Get(sip.HCSeq)), "1 BYE")
	is.Equal(t, string(m.First(sip.HRoute)), "<sip:p1.test;lr>")

	resp := parse(t, "SIP/2.0 200 OK", "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", "From: <sip:alice@a.test>;tag=a1",
		"To: <sip:bob@b.test>;tag=b1", "Call-ID: c1", "CSeq: 7 INVITE", "Record-Route: <sip:p2.test;lr>, <sip:p1.test;lr>",
		"Contact: <sip:bob@192.0.2.2>", "Content-Length: 0")
	d, err = FromResponse(resp, "<sip:alice@192.0.2.1>", 7)
	is.NoErr(t, err)
	is.Equal(t, d.Routes, []string{"<sip:p1.test;lr>", "<sip:p2.test;lr>"})
	is.Equal(t, string(d.Request("BYE").Get(sip.HCSeq)), "8 BYE")
	is.Equal(t, d.Replaces(), "c1;to-tag=b1;from-tag=a1")
}

// RFC 3261 §12.2.1.1: a first route without lr moves into the Request-URI.
func TestStrictRouter(t *testing.T) {
	d := &Dialog{CallID: "c", Local: "<sip:a@a>", Remote: "<sip:b@b>", Contact: "<sip:a@1.2.3.4>", Target: "sip:b@5.6.7.8",
		Routes: []string{"<sip:old.test>", "<sip:new.test;lr>"}}
	m := d.Request("INFO")
	is.Equal(t, string(m.RequestURI()), "sip:old.test")
	var routes []string
	for r := range m.Values(sip.HRoute) {
		routes = append(routes, string(r))
	}
	is.Equal(t, routes, []string{"<sip:new.test;lr>", "<sip:b@5.6.7.8>"})
}

func TestContactMissing(t *testing.T) {
	resp := parse(t, "SIP/2.0 200 OK", "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", "From: <sip:alice@a.test>;tag=a1",
		"To: <sip:bob@b.test>;tag=b1", "Call-ID: c1", "CSeq: 7 INVITE", "Content-Length: 0")
	_, err := FromResponse(resp, "", 7)
	is.Equal(t, err, errNoContact)
}

// RFC 3261 §13.3.1.4: our 2xx is sent again until the ACK comes, T1 doubling up to T2; after
// 64*T1 the call is ended with BYE.
func TestNoACK(t *testing.T) {
	pair(t, nil, func(t *testing.T, a, b *end) {
		a.line.losing(func(m *sip.Message) bool { return m.Method() == sip.ACK })
		a.agent.Invite(Invite{Target: "sip:bob@192.0.2.2", From: "<sip:alice@example.test>", Media: a.media})
		b.call(t).Accept(b.media)
		synctest.Wait()
		time.Sleep(10 * time.Second)
		is.Equal(t, b.line.sent("200 INVITE"), 5, "at 0, 0.5, 1.5, 3.5, 7.5 s")
		is.Equal(t, a.line.sent("ACK lost"), 5, "each is acknowledged")
		is.Equal(t, len(b.saw(Confirmed)), 0)
		time.Sleep(25 * time.Second)
		is.Equal(t, b.saw(Ended)[0].Reason, "no ACK")
		is.Equal(t, a.saw(Ended)[0].Reason, "bye")
	})
}

// The ACK is lost once: the 2xx comes again, the ACK too, the call is up.
func TestLostACK(t *testing.T) {
	pair(t, nil, func(t *testing.T, a, b *end) {
		once := true
		a.line.losing(func(m *sip.Message) bool {
			lose := m.Method() == sip.ACK && once
			once = once && !lose
			return lose
		})
		ca := a.agent.Invite(Invite{Target: "sip:bob@192.0.2.2", From: "<sip:alice@example.test>", Media: a.media})
		b.call(t).Accept(b.media)
		synctest.Wait()
		is.Equal(t, len(b.saw(Confirmed)), 0)
		time.Sleep(time.Second)
		is.Equal(t, len(b.saw(Confirmed)), 1)
		is.Equal(t, len(a.saw(Answered)), 1)
		ca.Hangup()
		is.Equal(t, len(b.saw(Ended)), 1)
	})
}

// A callee that hangs up before the ACK waits for it. RFC 3261 §15
func TestByeWaitsForACK(t *testing.T) {
	pair(t, nil, func(t *testing.T, a, b *end) {
		a.line.losing(func(m *sip.Message) bool { return m.Method() == sip.ACK })
		a.agent.Invite(Invite{Target: "sip:bob@192.0.2.2", From: "<sip:alice@example.test>", Media: a.media})
		c := b.call(t)
		c.Accept(b.media)
		c.Hangup()
		synctest.Wait()
		is.Equal(t, b.line.sent("BYE"), 0)
		a.line.losing(nil)
		time.Sleep(time.Second)
		is.Equal(t, b.line.sent("BYE"), 1)
		is.Equal(t, len(a.saw(Ended)), 1)
	})
}

// RFC 4028: the refresher refreshes at half time; the other ends a call that is not refreshed.
func TestSessionTimer(t *testing.T) {
	pair(t, func(a, b *Config) { a.Session = 100 * time.Second }, func(t *testing.T, a, b *end) {
		ca, cb := talk(t, a, b)
		is.Equal(t, ca.Info().Session, 100*time.Second)
		is.Equal(t, cb.Info().Session, 100*time.Second)
		time.Sleep(160 * time.Second)
		synctest.Wait()
		is.Equal(t, a.line.sent("UPDATE")+b.line.sent("UPDATE"), 3, "at 50, 100, 150 s")
		is.Equal(t, len(a.saw(Ended))+len(b.saw(Ended)), 0)
		all := func(m *sip.Message) bool { return m.Method() == sip.UPDATE }
		a.line.losing(all)
		b.line.losing(all)
		time.Sleep(100 * time.Second)
		is.Equal(t, len(a.saw(Ended)), 1)
		is.Equal(t, len(b.saw(Ended)), 1)
	})
}

// RFC 4028 §7.4: an interval that is too short is asked for again, longer.
func TestShortSession(t *testing.T) {
	change := func(a, b *Config) { a.Session, a.MinSE, b.MinSE = 90*time.Second, 90*time.Second, 600*time.Second }
	pair(t, change, func(t *testing.T, a, b *end) {
		ca, _ := talk(t, a, b)
		is.Equal(t, b.line.sent("422 INVITE"), 1)
		is.Equal(t, ca.Info().Session, 600*time.Second)
		ca.Hangup()
	})
}

// RFC 3262 §3: a reliable response is sent again until PRACK, and the call is refused when none comes.
func TestLostPRACK(t *testing.T) {
	pair(t, nil, func(t *testing.T, a, b *end) {
		a.line.losing(func(m *sip.Message) bool { return m.Method() == sip.PRACK })
		a.agent.Invite(Invite{Target: "sip:bob@192.0.2.2", From: "<sip:alice@example.test>", Media: a.media})
		b.call(t).Ring(183, b.media)
		time.Sleep(5 * time.Second)
		is.Equal(t, b.line.sent("183 INVITE"), 4, "at 0, 0.5, 1.5, 3.5 s")
		is.Equal(t, len(a.saw(Progress)), 1)
		time.Sleep(40 * time.Second)
		is.Equal(t, a.saw(Failed)[0].Code, 504)
	})
}

// Two branches answer: the second is acknowledged and ended. RFC 3261 §13.2.2.4
func TestSecondAnswer(t *testing.T) {
	pair(t, nil, func(t *testing.T, a, b *end) {
		a.agent.Invite(Invite{Target: "sip:bob@192.0.2.2", From: "<sip:alice@example.test>", Media: a.media})
		r := b.call(t)
		inv := r.Invite()
		r.Accept(b.media)
		synctest.Wait()
		m := inv.NewResponse(200, "")
		m.Set(sip.HTo, []byte("<sip:bob@192.0.2.2>;tag=other"))
		m.Set(sip.HContact, []byte("<sip:other@192.0.2.2>"))
		b.line.Send(a.line.info.Local, m.AppendTo(nil))
		synctest.Wait()
		is.Equal(t, a.line.sent("ACK"), 2)
		is.Equal(t, a.line.sent("BYE"), 1)
		is.Equal(t, len(a.saw(Answered)), 1)
		is.Equal(t, len(a.saw(Ended)), 0)
		is.Equal(t, b.line.sent("481 BYE"), 1, "here nobody is at the other branch")
		r.Hangup()
	})
}

func TestUpdateBeforeAnswer(t *testing.T) {
	pair(t, nil, func(t *testing.T, a, b *end) {
		ca := a.agent.Invite(Invite{Target: "sip:bob@192.0.2.2", From: "<sip:alice@example.test>", Media: a.media})
		cb := b.call(t)
		cb.Ring(183, b.media)
		synctest.Wait()
		ca.Update(ca.Info().LocalSDP.Hold(true))
		is.Equal(t, a.saw(Reply)[0].Code, 200)
		is.True(t, cb.Info().RemoteSDP.Held(), "held while ringing")
		cb.Accept(b.media)
		is.Equal(t, len(b.saw(Confirmed)), 1)
		ca.Hangup()
	})
}

func TestOfferRefused(t *testing.T) {
	pair(t, nil, func(t *testing.T, a, b *end) {
		ca, cb := talk(t, a, b)
		before := cb.Info().LocalSDP
		video := &sdp.Description{Session: ca.Info().LocalSDP.Session, Media: []sdp.Media{{Kind: "video", Port: 9, Proto: "RTP/AVP", Formats: []string{"34"}}}}
		ca.Reoffer(video)
		is.Equal(t, a.saw(Reply)[0].Code, 488)
		is.Equal(t, cb.Info().LocalSDP, before, "the session is as it was")
		is.Equal(t, ca.Info().State, Up)
		ca.Hangup()
	})
}

// The peer is gone: what we ask inside the call ends it. RFC 5057 §5.1
func TestPeerGone(t *testing.T) {
	pair(t, nil, func(t *testing.T, a, b *end) {
		ca, _ := talk(t, a, b)
		a.line.losing(func(*sip.Message) bool { return true })
		ca.Send("INFO", "", nil)
		time.Sleep(40 * time.Second)
		is.Equal(t, a.saw(Ended)[0].Reason, "gone")
		b.call(t).Hangup()
		a.line.losing(nil)
		time.Sleep(40 * time.Second)
	})
}

// A second INVITE inside the dialog while the first is not answered: 500. An old number: 500.
func TestOrder(t *testing.T) {
	pair(t, nil, func(t *testing.T, a, b *end) {
		ca, cb := talk(t, a, b)
		ca.do(func() {
			ca.d.LocalSeq = 0 // INFO with number 1 again
			ca.send(ca.d.Request("INFO"), ca.reply("INFO"))
		})
		is.Equal(t, a.saw(Reply)[0].Code, 500)
		cb.Hangup()
	})
}

func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q turn
		block := make(chan struct{})
		q.do(func() { <-block })
		synctest.Wait()
		n := 0
		for q.do(func() { n++ }) {
		}
		close(block)
		synctest.Wait()
		is.Equal(t, n, turnLimit)
	})
}

func TestPanicEndsOnePiece(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got any
		q := turn{panic: func(v any) { got = v }}
		ran := false
		q.do(func() { panic("x") })
		q.do(func() { ran = true })
		synctest.Wait()
		is.Equal(t, got, any("x"))
		is.True(t, ran, "the next piece ran")
	})
}
