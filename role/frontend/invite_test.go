package frontend

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"fernamt/core/event"
	"fernamt/core/ident"
	"fernamt/core/room"
	"fernamt/test/is"
	"fernamt/wire/clock"
	"fernamt/wire/sip"
)

// ringing gives what an INVITE for a would ring, and the status when nothing.
func ringing(f *role, a *ident.Account) (uris []string, code int) {
	t := &trip{f: f, now: clock.Mono(), orig: "sip:" + a.Address}
	ts, code := t.ring(a)
	for _, x := range ts {
		uris = append(uris, fmt.Sprintf("%d %s", x.Group, x.URI))
	}
	return uris, code
}

func TestForwarding(t *testing.T) {
	d := newDesk(t, nil)
	for i := range 2 { // u00000 and u00001 have a phone, u00002 has none
		d.talk(strings.ReplaceAll(d.reg(fmt.Sprint("c", i), 1, contactA), "u00000", fmt.Sprintf("u%05d", i)))
	}
	const me, other, away = "u00000@bar.test", "u00001@bar.test", "u00002@bar.test"
	mine, others := "sip:u00000@127.0.0.1:5070", "sip:u00001@127.0.0.1:5070"
	for _, c := range []struct {
		name string
		set  map[string]ident.Forwarding
		call string
		want []string
		code int
	}{
		{"none", nil, me, []string{"0 " + mine}, 0},
		{"not registered", nil, away, nil, 480},
		{"not registered, forwarded", map[string]ident.Forwarding{away: {Offline: me}}, away, []string{"0 " + mine}, 0},
		{"always", map[string]ident.Forwarding{me: {Always: other}}, me, []string{"0 " + others}, 0},
		{"always, to a foreign domain", map[string]ident.Forwarding{me: {Always: "x@y.test"}}, me, []string{"0 sip:x@y.test"}, 0},
		{"do not disturb", map[string]ident.Forwarding{me: {DND: true}}, me, nil, 486},
		{"do not disturb, forwarded", map[string]ident.Forwarding{me: {DND: true, Busy: other}}, me, []string{"0 " + others}, 0},
		{"circle of two", map[string]ident.Forwarding{me: {Always: other}, other: {Always: me}}, me, nil, 482},
		{"circle of different kinds", map[string]ident.Forwarding{other: {Always: away}, away: {Offline: other}}, away, nil, 482},
		{"rings along", map[string]ident.Forwarding{me: {Ring: []string{other, "+1234", "x@y.test"}}}, me, []string{"0 " + mine, "0 " + others, "0 sip:x@y.test"}, 0},
		{"rings along with nobody", map[string]ident.Forwarding{away: {Ring: []string{other}}}, away, []string{"0 " + others}, 0},
		{"who rings along does not want to", map[string]ident.Forwarding{me: {Ring: []string{other}}, other: {DND: true}}, me, []string{"0 " + mine}, 0},
	} {
		for _, who := range []string{me, other, away} {
			is.NoErr(t, d.users.SetForwarding(d.ctx, who, c.set[who]), c.name)
		}
		got, code := ringing(d.role, d.users.ByAddress([]byte(c.call)))
		is.Equal(t, got, c.want, c.name)
		is.Equal(t, code, c.code, c.name)
	}
}

// A call that was forwarded five times before it came is not forwarded again.
func TestForwardingIsBounded(t *testing.T) {
	m := sip.NewRequest("INVITE", "sip:u00000@bar.test")
	is.Equal(t, diversions(m), 0)
	for range 5 {
		m.Prepend(sip.HDiversion, []byte("<sip:a@x>;reason=user-busy"))
	}
	d := newDesk(t, nil)
	is.NoErr(t, d.users.SetForwarding(d.ctx, "u00000@bar.test", ident.Forwarding{Always: "u00001@bar.test"}))
	tr := &trip{f: d.role, now: clock.Mono(), hops: diversions(m)}
	_, code := tr.ring(d.users.ByAddress([]byte("u00000@bar.test")))
	is.Equal(t, code, 482)
}

// RFC 5806 and RFC 7044 §10.3, with one forwarding here and one before us.
func TestTold(t *testing.T) {
	m := sip.NewRequest("INVITE", "sip:c@192.0.2.1")
	marks := []mark{{"a@x.test", "b@x.test", "user-busy"}, {"b@x.test", "+4930", "no-answer"}}
	tell(m, marks, "sip:a@x.test")
	collect := func(h sip.Header) (s []string) {
		for v := range m.Values(h) {
			s = append(s, string(v))
		}
		return s
	}
	is.Equal(t, collect(sip.HDiversion), []string{"<sip:b@x.test>;reason=no-answer;counter=1", "<sip:a@x.test>;reason=user-busy;counter=1"})
	is.Equal(t, collect(sip.HHistoryInfo), []string{"<sip:a@x.test>;index=1", "<sip:b@x.test;cause=486>;index=1.1;mp=1", "<tel:+4930;cause=408>;index=1.1.1;mp=1.1"})
	tell(m, []mark{{"c@x.test", "d@x.test", "unconditional"}}, "sip:c@x.test")
	all := collect(sip.HHistoryInfo)
	is.Equal(t, all[len(all)-1], "<sip:d@x.test;cause=302>;index=1.1.1.1;mp=1.1.1")
}

// A message for somebody who is away is on disk before its 202, once however often it
// comes, and the letter that brings it later repeats what names it.
func TestKept(t *testing.T) {
	d := newDesk(t, nil)
	text := strings.Replace(string(appendHead(nil, "MESSAGE", 2, 1)), "\r\nTo:", "\r\nSubject: hi\r\nTo:", 1) +
		"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
	later := strings.Replace(text, "-5170-1-", "-other-", 1) // sent again in another transaction
	d.talk(text, text, later)
	a := d.users.ByAddress([]byte("u00002@bar.test"))
	await(t, func() bool { return d.box.Waiting(a.ID) == 1 && d.gate.Transactions().Stats().Servers >= 2 })
	list, err := d.box.Next(d.ctx, a.ID, 0, 10)
	is.NoErr(t, err)
	is.Equal(t, len(list), 1)
	is.Equal(t, string(list[0].Body), "hello")
	l := d.letter(a, list[0])
	is.NoErr(t, new(sip.Message).Parse(l.AppendTo(nil)))
	is.Equal(t, string(l.Get(sip.HCallID)), string(d.letter(a, list[0]).Get(sip.HCallID)), "the same each time")
	is.Equal(t, string(l.Get(sip.HFrom)), "<sip:caller@bar.test>;tag=5170t1")
	is.Equal(t, string(l.Get(sip.HTo)), "<sip:u00002@bar.test>")
	is.Equal(t, string(l.Get(sip.HSubject)), "hi")
	is.True(t, l.Has(sip.HDate))
}

func await(t *testing.T, f func() bool) {
	t.Helper()
	for range 500 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("did not come to pass")
}

// The facts of a call, in the log.
func TestFactsOfCalls(t *testing.T) {
	d := newDesk(t, nil)
	r := d.h.Events.Follow(0)
	facts := []event.Fact{Started{Call: "1", From: "a", To: "b"}, Answered{Call: "1", By: "c"}, Ended{Call: "1", Status: 200, Answered: true, Seconds: 3}, room.Sent{Key: "k"}}
	for _, f := range facts {
		d.record.add(f)
	}
	var kinds []string
	for len(kinds) < len(facts) {
		e, err := r.Next(d.ctx)
		is.NoErr(t, err)
		if !strings.HasPrefix(e.Kind, "user.") {
			kinds = append(kinds, e.Kind)
		}
	}
	is.Equal(t, kinds, []string{"call.Started", "call.Answered", "call.Ended", "message.Sent"})
}
