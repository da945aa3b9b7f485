package frontend

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fernamt/core/ident"
	"fernamt/test/is"
	"fernamt/wire/sip"
)

// street is a UDP socket whose two ends, caller and callee, a test plays as it likes.
type street struct {
	*memory
	in    chan [2]string // "callee" or "caller", and what it sends
	calls chan string    // what reached the callers
	rings chan string    // what reached the callees
}

// openStreet serves the stage until the test ends.
func (s *stage) openStreet(t *testing.T) *street {
	st := &street{memory: newMemory(), in: make(chan [2]string), calls: make(chan string, 100), rings: make(chan string, 100)}
	ctx, cancel := context.WithCancel(s.ctx)
	ended := make(chan error)
	go func() {
		ended <- s.gate.ServePacket(ctx, "frontend", st, sip.LinkInfo{ID: 1, Door: doorUDP, Local: netip.MustParseAddrPort("127.0.0.1:15060")})
	}()
	t.Cleanup(func() { cancel(); st.Close(); <-ended })
	return st
}

func (s *street) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case x := <-s.in:
		from := caller
		if x[0] == "callee" {
			from = callee
		}
		return copy(b, x[1]), from, nil
	case <-s.closed:
		return 0, caller, net.ErrClosed
	}
}

func (s *street) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	c := s.calls
	if to == callee {
		c = s.rings
	}
	select {
	case c <- string(b):
	default:
	}
	return len(b), nil
}

// next gives the next thing that comes out, nothing after d.
func next(c chan string, d time.Duration) string {
	select {
	case s := <-c:
		return s
	case <-time.After(d):
		return ""
	}
}

// says answers a request as the callee's phone would.
func says(t *testing.T, sent string, code int, extra string) string {
	t.Helper()
	var m sip.Message
	is.NoErr(t, m.Parse([]byte(sent)))
	return string(sip.AppendResponse(nil, &m, code, []byte("phone"), []byte(extra)))
}

func written(user, n int) string {
	return string(appendHead(nil, "MESSAGE", user, n)) + "Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
}

// A message to a phone that is registered and says that it cannot, or says nothing, is
// kept before it is acknowledged, once, and what the phone says later changes nothing.
func TestKeptWhenPhoneIsLost(t *testing.T) {
	for _, c := range []struct {
		says int // 0: nothing for longer than may be
		want string
		kept int
	}{
		{480, "SIP/2.0 202 Accepted", 1},
		{430, "SIP/2.0 202 Accepted", 1},
		{503, "SIP/2.0 202 Accepted", 1},
		{408, "SIP/2.0 202 Accepted", 1},
		{0, "SIP/2.0 202 Accepted", 1},
		{200, "SIP/2.0 200 OK", 0},
		{415, "SIP/2.0 415 Unsupported Media Type", 0},
		{603, "SIP/2.0 603 Decline", 0},
	} {
		t.Run(c.want, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, 1, trust)
			st := s.openStreet(t)
			st.in <- [2]string{"caller", string(register(nil, 0))}
			is.Equal(t, lines(next(st.calls, 5*time.Second))[0], ok)
			st.in <- [2]string{"caller", written(0, 1)}
			sent := next(st.rings, 5*time.Second)
			is.True(t, strings.HasPrefix(sent, "MESSAGE sip:u00000@127.0.0.1:15070"), sent)
			if c.says != 0 {
				st.in <- [2]string{"callee", says(t, sent, c.says, "")}
			}
			is.Equal(t, lines(next(st.calls, 12*time.Second))[0], c.want)
			a := s.users.ByAddress([]byte("u00000@" + domain))
			list, err := s.box.Next(s.ctx, a.ID, 0, 10)
			is.NoErr(t, err)
			is.Equal(t, len(list), c.kept)
			is.Equal(t, s.box.Waiting(a.ID), c.kept)
			if c.kept == 0 {
				return
			}
			is.Equal(t, string(list[0].Body), "hello")
			if c.says == 0 {
				st.in <- [2]string{"callee", says(t, sent, 200, "")}
			}
			st.in <- [2]string{"caller", written(0, 1)} // a copy of the datagram
			is.Equal(t, lines(next(st.calls, 5*time.Second))[0], c.want, "the same answer again")
			is.Equal(t, s.box.Waiting(a.ID), 1)

			// What comes later can be told to be the same.
			first, again := new(sip.Message), s.letter(a, list[0])
			is.NoErr(t, first.Parse([]byte(sent)))
			for _, h := range []sip.Header{sip.HCallID, sip.HCSeq, sip.HFrom, sip.HTo} {
				is.Equal(t, string(again.Get(h)), string(first.Get(h)), h.String())
			}
			for len(st.rings) > 0 {
				<-st.rings
			}
			st.in <- [2]string{"caller", strings.NewReplacer("Call-ID: 0", "Call-ID: again", "z9hG4bK-5170-0", "z9hG4bK-again").Replace(string(register(nil, 0)))}
			letter := next(st.rings, 5*time.Second)
			is.True(t, strings.HasPrefix(letter, "MESSAGE ") && strings.HasSuffix(letter, "\r\n\r\nhello"), letter)
			st.in <- [2]string{"callee", says(t, letter, 200, "")}
			await(t, func() bool { return s.box.Waiting(a.ID) == 0 })
		})
	}
}

// A connection whose other end went without a word is no reason to lose a message either.
func TestKeptWhenConnectionIsLost(t *testing.T) {
	s := newStage(t, 1, trust)
	st := s.openStreet(t)
	ours, theirs := net.Pipe()
	go s.gate.ServeConn(s.ctx, "frontend", addressed{ours}, sip.LinkInfo{Transport: sip.TCP, Door: doorTCP, Local: netip.MustParseAddrPort("127.0.0.1:15060")})
	text := strings.ReplaceAll(string(register(nil, 0)), "SIP/2.0/UDP", "SIP/2.0/TCP")
	_, err := theirs.Write([]byte(text))
	is.NoErr(t, err)
	b := make([]byte, 4096)
	n, err := theirs.Read(b)
	is.NoErr(t, err)
	is.True(t, bytes.HasPrefix(b[:n], []byte(ok)), string(b[:n]))
	st.in <- [2]string{"caller", written(0, 1)} // and nobody reads theirs any more
	is.Equal(t, lines(next(st.calls, 15*time.Second))[0], "SIP/2.0 202 Accepted")
	is.Equal(t, s.box.Waiting(s.users.ByAddress([]byte("u00000@"+domain)).ID), 1)
}

// addressed is a pipe that says where its ends are.
type addressed struct{ net.Conn }

func (addressed) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(callee) }
func (addressed) LocalAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 15060}
}

// The same Call-ID comes again with another session timer: that is the call.
func TestFactsOfRetriedCall(t *testing.T) {
	s := newStage(t, 1, trust)
	st := s.openStreet(t)
	st.in <- [2]string{"caller", string(register(nil, 0))}
	is.Equal(t, lines(next(st.calls, 5*time.Second))[0], ok)
	invite := string(appendHead(nil, "INVITE", 0, 1)) + "Contact: <sip:caller@127.0.0.1:15080>\r\nContent-Length: 0\r\n\r\n"
	again := strings.NewReplacer("z9hG4bK-5170-1-0", "z9hG4bK-5170-1-1", "CSeq: 1 ", "CSeq: 2 ").Replace(invite)
	final := func() string {
		for {
			if got := lines(next(st.calls, 5*time.Second))[0]; !strings.HasPrefix(got, "SIP/2.0 1") {
				return got
			}
		}
	}
	ring := func() string {
		for {
			if got := next(st.rings, 5*time.Second); !strings.HasPrefix(got, "ACK") {
				return got
			}
		}
	}
	st.in <- [2]string{"caller", invite}
	st.in <- [2]string{"callee", says(t, ring(), 422, "Min-SE: 1800\r\n")}
	is.Equal(t, final(), "SIP/2.0 422 Session Interval Too Small")
	is.Equal(t, len(s.calls.list()), 0)
	st.in <- [2]string{"caller", again}
	st.in <- [2]string{"callee", says(t, ring(), 200, "Contact: <sip:u00000@127.0.0.1:15070>\r\n")}
	is.Equal(t, final(), ok)
	list := s.calls.list()
	is.Equal(t, len(list), 1)
	is.Equal(t, list[0].State, "talking")
	var kinds []string
	r := s.h.Events.Follow(0)
	for len(kinds) < 4 {
		e, err := r.Next(s.ctx)
		is.NoErr(t, err)
		if strings.HasPrefix(e.Kind, "call.") {
			kinds = append(kinds, e.Kind)
		}
	}
	is.Equal(t, kinds, []string{"call.Started", "call.Ended", "call.Started", "call.Answered"})
}

// Where a call goes that nobody took, by what became of it.
func TestOnward(t *testing.T) {
	all := ident.Forwarding{Busy: "b", NoAnswer: "n", Offline: "o"}
	for _, c := range []struct {
		fwd   ident.Forwarding
		code  int
		heard bool
		want  string
	}{
		{all, 486, true, "b user-busy"},
		{all, 408, true, "n no-answer"},
		{all, 408, false, "n no-answer"},
		{ident.Forwarding{Offline: "o"}, 408, false, "o unavailable"}, // unplugged
		{ident.Forwarding{Offline: "o"}, 408, true, " no-answer"},
		{all, 480, true, "n no-answer"},
		{all, 480, false, "o unavailable"}, // a dead link
		{ident.Forwarding{NoAnswer: "n"}, 480, false, "n no-answer"},
		{all, 430, true, "o unavailable"},
		{all, 503, true, "o unavailable"},
		{all, 487, true, "n no-answer"},
		{all, 404, true, " "},
		{all, 415, true, " "},
	} {
		x := &trip{at: &ident.Account{Forwarding: c.fwd}}
		to, why := x.onward(c.code, c.heard)
		is.Equal(t, to+" "+why, c.want, fmt.Sprint(c.code, c.heard))
	}
}
