package dialog

import (
	"time"

	"fernamt/wire/sip"
)

// resend repeats our 2xx to an INVITE, or a reliable provisional response, until it is
// acknowledged. RFC 3261 §13.3.1.4, RFC 3262 §3. Turn of its call only.
type resend struct {
	on     *turn
	again  func()
	failed func()
	then   func() // what waits for the ACK
	pause  time.Duration
	most   time.Duration
	left   time.Duration
	timer  *time.Timer
	done   bool
}

func (a *Agent) resend(on *turn, again, failed func()) *resend {
	r := &resend{on: on, again: again, failed: failed, pause: a.c.T1, most: a.c.T2, left: 64 * a.c.T1}
	r.arm()
	return r
}

func (r *resend) arm() {
	d := min(r.pause, r.left)
	r.timer = r.on.after(d, func() {
		if r.done {
			return
		}
		if r.left -= d; r.left <= 0 {
			r.done = true
			r.failed()
			return
		}
		r.again()
		r.pause = min(2*r.pause, r.most)
		r.arm()
	})
}

func (r *resend) stop() {
	r.done = true
	r.timer.Stop()
}

// direct sends an ACK for a 2xx: a request of its own without a transaction. What comes back
// sends the same once more. RFC 3261 §13.2.2.4
func (a *Agent) direct(m *sip.Message) (again func()) {
	f, err := a.c.Flow(m)
	if err != nil {
		return func() {}
	}
	info := f.Link.Info()
	via := append([]byte("SIP/2.0/"), info.Transport.String()...)
	via = a.c.SentBy(append(via, ' '), f)
	via = append(via, ";branch="+sip.MagicCookie+token(16)...)
	if info.Transport == sip.UDP {
		via = append(via, ";rport"...)
	}
	m.Prepend(sip.HVia, via)
	b := m.AppendTo(nil)
	again = func() { _ = f.Send(b) } // when it is lost, the 2xx comes again
	again()
	return again
}
