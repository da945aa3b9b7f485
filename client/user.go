package client

import (
	"strings"
	"time"

	"fernamt/wire/dialog"
	"fernamt/wire/sdp"
	"fernamt/wire/sip"
)

// Call is the agent's: somebody calls us.
func (k *Client) Call(c *dialog.Call) {
	k.mu.Lock()
	k.calls = append(k.calls, c)
	k.mu.Unlock()
	k.note(Seen{What: "invite", From: aor(c.Invite().Get(sip.HFrom)), Call: c, Message: c.Invite()})
	switch {
	case c.Replaced() != nil: // RFC 3891 §3: it takes the place of a call that was answered
		c.Accept(k.c.Media)
	case k.c.Incoming != nil:
		k.c.Incoming(c)
	}
}

// Request is the agent's: a request that belongs to no call.
func (k *Client) Request(r *dialog.Request) {
	from := aor(r.Get(sip.HFrom))
	switch r.Method() {
	case sip.OPTIONS: // RFC 3261 §11.2
		k.note(Seen{What: "options", From: from, Message: r.Message})
		r.Respond(200, "Allow: "+k.agent.Allow(), "Supported: "+k.agent.Supported(),
			"Accept: "+sdp.ContentType+", "+strings.Join(k.c.Accept, ", "), "Accept-Encoding: identity", "Accept-Language: en, de")
	case sip.MESSAGE:
		k.note(Seen{What: "message", From: from, Text: string(r.Body()), Message: r.Message})
		r.Respond(200)
	case sip.SUBSCRIBE:
		k.subscribed(r, from)
	case sip.REFER:
		if f := r.Referral(); f != nil {
			k.note(Seen{What: "refer", From: from, Text: f.To, Message: r.Message})
			f.Accept()
			k.transfer(f)
		}
	case sip.NOTIFY:
		r.Respond(481) // RFC 6665 §4.1.3
	default:
		r.Respond(405, "Allow: "+k.agent.Allow())
	}
}

func (k *Client) subscribed(r *dialog.Request, from string) {
	k.note(Seen{What: "subscribe", From: from, Text: string(r.Get(sip.HEvent)), Message: r.Message})
	if n := r.Subscribe(200, min(r.Wanted(time.Hour), time.Hour)); n != nil {
		n.Notify("text/plain", []byte("here"))
	}
}

// Event is the agent's.
func (k *Client) Event(e dialog.Event) {
	s := Seen{What: e.Kind.String(), Code: e.Code, Call: e.Call, Message: e.Message, Event: e}
	if e.Call != nil {
		s.From = aor([]byte(e.Call.Info().Remote))
	}
	switch e.Kind {
	case dialog.Updated:
		s.Text = "active"
		if d := e.Call.Info().RemoteSDP; d != nil && d.Held() {
			s.Text = "hold"
		}
	case dialog.Reply, dialog.Inside:
		s.Text = e.Method
	case dialog.Referred:
		s.What, s.Text = "refer", e.Referral.To
	case dialog.Transfer:
		if e.Last {
			s.Text = "last"
		}
	case dialog.Ended:
		s.Text = e.Reason
		if e.Call == nil {
			s.What = "over"
		}
		k.forget(e.Call)
	case dialog.Notified:
		s.What, s.Text, s.From = "notify", string(e.Message.Body()), aor(e.Message.Get(sip.HFrom))
	case dialog.Refresh:
		s.What = "subscribe"
	}
	k.note(s)
	if e.Kind == dialog.Referred {
		e.Referral.Accept()
		k.transfer(e.Referral)
	}
}

func (k *Client) forget(c *dialog.Call) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.calls {
		if k.calls[i] == c {
			k.calls = append(k.calls[:i:i], k.calls[i+1:]...)
			return
		}
	}
}

// transfer does what a REFER asks for and reports how it goes. RFC 5589 §6, §7
func (k *Client) transfer(f *dialog.Referral) {
	var lines []string
	if f.Replaces != "" {
		lines = append(lines, "Replaces: "+f.Replaces)
	}
	if f.By != "" {
		lines = append(lines, "Referred-By: "+f.By)
	}
	from := k.Mark()
	c := k.invite(f.To, false, lines)
	k.spawn(func() {
		for {
			s, err := k.Wait(k.ctx, from, func(s Seen) bool {
				return s.Call == c && (s.What == "progress" || s.What == "answered" || s.What == "failed")
			})
			if err != nil {
				return
			}
			f.Report(s.Code)
			if s.What != "progress" {
				return
			}
			from = s.N + 1
		}
	})
}
