package transaction

import (
	"strings"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

// Who gives no sign within the limit is given up; a 100 is a sign.
func TestRequestWithin(t *testing.T) {
	for _, c := range []struct {
		name   string
		over   sip.Transport
		method string
		sign   bool
		ends   time.Duration
	}{
		{"silent", sip.UDP, "MESSAGE", false, 5 * time.Second},
		{"silent on a stream", sip.TCP, "MESSAGE", false, 5 * time.Second},
		{"alive: timer F anew", sip.UDP, "MESSAGE", true, 33 * time.Second},
		{"alive on a stream", sip.TCP, "MESSAGE", true, 33 * time.Second},
		{"INVITE: timer B", sip.UDP, "INVITE", false, 32 * time.Second},
	} {
		run(t, func(t *testing.T, d *desk) {
			w := newWire(c.over)
			_, err := d.l.RequestWithin(5*time.Second, request(t, w.flow(), c.method, ";branch=z9hG4bKx"), w.flow(), 0, caller{d})
			is.NoErr(t, err)
			time.Sleep(time.Second)
			if c.sign {
				d.l.Receive(reply(t, w.flow(), w.take()[0], 100))
			}
			time.Sleep(c.ends - 1100*time.Millisecond)
			want(t, c.name, d.told())
			time.Sleep(200 * time.Millisecond)
			want(t, c.name, d.told(), "failed no answer in time")
			is.Equal(t, d.l.Stats().Clients, 0, c.name)
		})
	}
}

// keeper looks at what was sent when it is told of an answer.
type keeper struct {
	caller
	sent []string
}

func (k *keeper) Response(x *Client, m *sip.Message) {
	first, _, _ := strings.Cut(string(x.Sent()), " ")
	k.sent = append(k.sent, first)
}

// The request is still there when its failure is told, and gone after that.
func TestSentWhenRefused(t *testing.T) {
	for _, over := range []sip.Transport{sip.UDP, sip.TCP} {
		run(t, func(t *testing.T, d *desk) {
			w := newWire(over)
			k := &keeper{caller: caller{d}}
			x, err := d.l.Request(request(t, w.flow(), "MESSAGE", ";branch=z9hG4bKx"), w.flow(), 0, k)
			is.NoErr(t, err)
			d.l.Receive(reply(t, w.flow(), w.take()[0], 480))
			want(t, "within Response", k.sent, "MESSAGE")
			is.Equal(t, len(x.Sent()), 0)
			time.Sleep(time.Minute)
		})
	}
}
