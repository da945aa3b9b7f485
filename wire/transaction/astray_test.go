package transaction

import (
	"errors"
	"strings"
	"testing"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

// A final response that its connection does not take is offered once, as it is.
func TestAstray(t *testing.T) {
	for _, c := range []struct {
		over  sip.Transport
		code  int
		takes bool
		want  string // what was offered
	}{
		{sip.TCP, 200, true, "SIP/2.0 200 OK"}, {sip.TCP, 486, true, "SIP/2.0 486 Busy Here"}, {sip.TCP, 200, false, "SIP/2.0 200 OK"},
		{sip.TCP, 180, true, ""}, {sip.UDP, 200, true, ""},
	} {
		run(t, func(t *testing.T, d *desk) {
			w, other := newWire(c.over), newWire(sip.TLS)
			offered := ""
			d.l.astray = func(f sip.Flow, b []byte, why error) bool {
				is.Equal(t, f, w.flow())
				is.Err(t, why, "closed")
				offered, _, _ = strings.Cut(string(b), "\r\n")
				if c.takes {
					is.NoErr(t, d.l.Resend(other.flow(), b))
				}
				return c.takes
			}
			m := request(t, w.flow(), "INVITE", ";branch=z9hG4bKx")
			s, _ := d.l.Accept(m, d)
			w.err = errors.New("closed")
			err := s.Respond(m, c.code, nil)
			is.Equal(t, offered, c.want)
			is.Equal(t, err == nil, c.takes && c.want != "", "nil: it is on its way")
			sent := strings.Join(other.firsts(), "")
			is.Equal(t, sent != "", c.takes && c.want != "", sent)
		})
	}
}
