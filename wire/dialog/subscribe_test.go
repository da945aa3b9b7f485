package dialog

import (
	"testing"
	"testing/synctest"
	"time"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

func watching(a, b *Config) { b.Events = []string{"presence"} }

func watch(a *end, d time.Duration) *Subscription {
	return a.agent.Subscribe(Subscribe{Target: "sip:bob@192.0.2.2", From: "<sip:alice@example.test>", Event: "presence", Expires: d})
}

// A subscription is refreshed before it runs out and ended by its subscriber. RFC 6665 §4.1.2
func TestRefreshAndEnd(t *testing.T) {
	pair(t, watching, func(t *testing.T, a, b *end) {
		s := watch(a, 100*time.Second)
		n := b.request(t).Subscribe(200, 100*time.Second)
		n.Notify("text/plain", []byte("one"))
		is.Equal(t, len(a.saw(Active)), 1)
		is.Equal(t, string(a.saw(Notified)[0].Message.Body()), "one")
		time.Sleep(190 * time.Second)
		is.Equal(t, len(a.saw(Active)), 3)
		is.Equal(t, len(b.saw(Refresh)), 2)
		is.Equal(t, s.State(), "active")
		s.End()
		is.Equal(t, a.saw(Ended)[0].Reason, "timeout")
		is.Equal(t, s.State(), "terminated")
		is.Equal(t, len(b.saw(Ended)), 1)
		is.Equal(t, a.agent.Parts()+b.agent.Parts(), 0)
	})
}

// Nobody refreshes: the notifier says so and forgets. RFC 6665 §4.2.2
func TestRunsOut(t *testing.T) {
	pair(t, watching, func(t *testing.T, a, b *end) {
		watch(a, 100*time.Second)
		b.request(t).Subscribe(200, 100*time.Second).Notify("text/plain", []byte("one"))
		synctest.Wait()
		a.line.losing(func(m *sip.Message) bool { return m.Method() == sip.SUBSCRIBE })
		time.Sleep(110 * time.Second)
		is.Equal(t, a.saw(Ended)[0].Reason, "timeout")
		is.Equal(t, b.saw(Ended)[0].Reason, "timeout")
	})
}

// The subscriber has forgotten: its 481 ends the subscription at the notifier.
func TestSubscriberGone(t *testing.T) {
	pair(t, watching, func(t *testing.T, a, b *end) {
		s := watch(a, 100*time.Second)
		n := b.request(t).Subscribe(200, 100*time.Second)
		n.Notify("text/plain", []byte("one"))
		synctest.Wait()
		s.do(func() { s.end("test", nil, 0) })
		synctest.Wait()
		n.Notify("text/plain", []byte("two"))
		is.Equal(t, b.saw(Ended)[0].Code, 481)
		is.Equal(t, b.agent.Parts(), 0)
	})
}

// RFC 6665 §4.1.2.1: an interval that is too brief is asked for again, longer.
func TestTooBrief(t *testing.T) {
	pair(t, watching, func(t *testing.T, a, b *end) {
		s := watch(a, 10*time.Second)
		b.request(t).Respond(423, "Min-Expires: 60")
		r := b.request(t)
		is.Equal(t, r.Wanted(0), time.Minute)
		r.Subscribe(200, time.Minute).Notify("text/plain", []byte("x"))
		is.Equal(t, len(a.saw(Active)), 1)
		s.End()
	})
}

func TestUnknownEvent(t *testing.T) {
	pair(t, nil, func(t *testing.T, a, b *end) {
		watch(a, time.Minute)
		is.Equal(t, a.saw(Ended)[0].Code, 489)
	})
}

// States come in order although each NOTIFY waits for the answer to the one before.
func TestNotifyOrder(t *testing.T) {
	pair(t, watching, func(t *testing.T, a, b *end) {
		s := watch(a, time.Minute)
		n := b.request(t).Subscribe(200, time.Minute)
		for _, x := range []string{"1", "2", "3", "4"} {
			n.Notify("text/plain", []byte(x))
		}
		got := ""
		for _, e := range a.saw(Notified) {
			got += string(e.Message.Body())
		}
		is.Equal(t, got, "1234")
		n.End("deactivated")
		is.Equal(t, a.saw(Ended)[0].Reason, "deactivated")
		s.End()
	})
}

// RFC 3515 and RFC 4488 outside a call.
func TestReferOutside(t *testing.T) {
	pair(t, nil, func(t *testing.T, a, b *end) {
		m := sip.NewRequest("REFER", "sip:bob@192.0.2.2")
		m.Set(sip.HFrom, []byte("<sip:alice@example.test>"))
		m.Set(sip.HContact, []byte("<sip:alice@192.0.2.1:5060>"))
		m.Set(sip.HReferTo, []byte(ReferTo("sip:carol@example.test", "id;to-tag=x;from-tag=y")))
		m.SetName("Refer-Sub", []byte("false"))
		code := 0
		a.agent.Send(m, func(m *sip.Message, err error) { code = m.StatusCode() })
		f := b.request(t).Referral()
		is.Equal(t, f.To, "sip:carol@example.test")
		is.Equal(t, f.Replaces, "id;to-tag=x;from-tag=y")
		f.Accept()
		f.Report(200)
		synctest.Wait()
		is.Equal(t, code, 202)
		is.Equal(t, b.line.sent("NOTIFY"), 0, "nobody asked for progress")
	})
}

func TestBadRefer(t *testing.T) {
	pair(t, nil, func(t *testing.T, a, b *end) {
		for _, lines := range [][]string{nil, {"mailto:x@y"}} {
			m := sip.NewRequest("REFER", "sip:bob@192.0.2.2")
			m.Set(sip.HFrom, []byte("<sip:alice@example.test>"))
			for _, l := range lines {
				m.Set(sip.HReferTo, []byte(l))
			}
			code := 0
			a.agent.Send(m, func(m *sip.Message, err error) { code = m.StatusCode() })
			if f := b.request(t).Referral(); f != nil {
				t.Error("read", lines)
			}
			synctest.Wait()
			is.Equal(t, code, 400)
		}
	})
}
