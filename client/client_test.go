package client

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/dialog"
	"fernamt/wire/sip"
	"fernamt/wire/transaction"
)

// loopback is the kernel's network on 127.0.0.1.
var loopback = Network{
	ListenPacket: func(ctx context.Context) (net.PacketConn, error) {
		var lc net.ListenConfig
		return lc.ListenPacket(ctx, "udp", "127.0.0.1:0")
	},
	Dial: func(ctx context.Context, hop sip.Hop) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", hop.Addr.String())
	},
}

var fast = transaction.Timers{T1: 100 * time.Millisecond, T2: 800 * time.Millisecond, T4: time.Second}

// phone makes a client without server that listens on UDP and TCP.
func phone(t *testing.T, name string, change func(*Config)) (*Client, netip.AddrPort) {
	t.Helper()
	c := Config{Address: name + "@example.test", Transport: sip.UDP, Network: loopback, Timers: fast}
	if change != nil {
		change(&c)
	}
	var at netip.AddrPort
	listen := c.Network.ListenPacket
	c.Network.ListenPacket = func(ctx context.Context) (net.PacketConn, error) {
		pc, err := listen(ctx)
		if err == nil {
			at = pc.LocalAddr().(*net.UDPAddr).AddrPort()
		}
		return pc, err
	}
	k, err := New(c)
	is.NoErr(t, err)
	ln, err := net.Listen("tcp", at.String())
	is.NoErr(t, err)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go k.ServeConn(conn, sip.LinkInfo{Local: at})
		}
	}()
	t.Cleanup(func() { ln.Close(); k.Close() })
	return k, at
}

func uriOf(name string, at netip.AddrPort, t sip.Transport) string {
	u := "sip:" + name + "@" + at.String()
	if t == sip.TCP {
		u += ";transport=tcp"
	}
	return u
}

func saw(t *testing.T, k *Client, from int, what string) Seen {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := k.Saw(ctx, from, what)
	is.NoErr(t, err)
	return s
}

func both(t *testing.T, f func(t *testing.T, tr sip.Transport)) {
	for _, tr := range []sip.Transport{sip.UDP, sip.TCP} {
		t.Run(tr.String(), func(t *testing.T) { f(t, tr) })
	}
}

// talk lets a call b and gives both ends.
func talk(t *testing.T, a, b *Client, to string) (ca, cb *dialog.Call) {
	t.Helper()
	ma, mb := a.Mark(), b.Mark()
	ca = a.Invite(to)
	cb = saw(t, b, mb, "invite").Call
	cb.Ring(180, nil)
	is.Equal(t, saw(t, a, ma, "progress").Code, 180)
	b.Answer(cb)
	is.Equal(t, saw(t, a, ma, "answered").Code, 200)
	saw(t, b, mb, "confirmed")
	return ca, cb
}

func TestCall(t *testing.T) {
	both(t, func(t *testing.T, tr sip.Transport) {
		alice, _ := phone(t, "alice", nil)
		bob, at := phone(t, "bob", nil)
		ca, cb := talk(t, alice, bob, uriOf("bob", at, tr))
		is.Equal(t, ca.Info().State, dialog.Up)
		is.Equal(t, string(ca.Info().RemoteSDP.Bytes()), string(cb.Info().LocalSDP.Bytes()))
		is.Equal(t, string(ca.Info().LocalSDP.Bytes()), string(cb.Info().RemoteSDP.Bytes()))

		m, mb := alice.Mark(), bob.Mark()
		ca.Hold(true)
		is.Equal(t, saw(t, alice, m, "reply").Code, 200)
		is.Equal(t, saw(t, bob, mb, "updated").Text, "hold")
		m, mb = alice.Mark(), bob.Mark()
		ca.Hold(false)
		is.Equal(t, saw(t, alice, m, "reply").Code, 200)
		is.Equal(t, saw(t, bob, mb, "updated").Text, "active")

		m, mb = alice.Mark(), bob.Mark()
		alice.Digits(ca, "1#")
		is.Equal(t, saw(t, alice, m, "reply").Code, 200)
		is.Equal(t, saw(t, bob, mb, "inside").Text, "INFO")

		m, mb = alice.Mark(), bob.Mark()
		cb.Hangup()
		is.Equal(t, saw(t, alice, m, "ended").Text, "bye")
		saw(t, bob, mb, "ended")
		is.Equal(t, alice.Agent().Parts()+bob.Agent().Parts(), 0)
	})
}

func TestRefused(t *testing.T) {
	alice, _ := phone(t, "alice", nil)
	bob, at := phone(t, "bob", func(c *Config) { c.Incoming = func(c *dialog.Call) { c.Reject(486) } })
	alice.Invite(uriOf("bob", at, sip.UDP))
	is.Equal(t, saw(t, alice, 0, "failed").Code, 486)
	saw(t, bob, 0, "ended")
}

func TestCancel(t *testing.T) {
	both(t, func(t *testing.T, tr sip.Transport) {
		alice, _ := phone(t, "alice", nil)
		bob, at := phone(t, "bob", nil)
		c := alice.Invite(uriOf("bob", at, tr))
		saw(t, bob, 0, "invite").Call.Ring(180, nil)
		saw(t, alice, 0, "progress")
		c.Hangup()
		saw(t, bob, 0, "cancelled")
		is.Equal(t, saw(t, alice, 0, "failed").Code, 487)
		is.Equal(t, alice.Agent().Parts()+bob.Agent().Parts(), 0)
	})
}

// The callee has answered when the CANCEL comes: the call is acknowledged and ended.
func TestCancelTooLate(t *testing.T) {
	alice, _ := phone(t, "alice", nil)
	bob, at := phone(t, "bob", func(c *Config) {
		c.Incoming = func(c *dialog.Call) { c.Accept(Audio(netip.MustParseAddr("127.0.0.1"), 9)) }
	})
	c := alice.Invite(uriOf("bob", at, sip.UDP))
	c.Hangup()
	is.Equal(t, saw(t, alice, 0, "failed").Code, 487)
	saw(t, bob, 0, "ended")
}

func TestLateOffer(t *testing.T) {
	alice, _ := phone(t, "alice", nil)
	bob, at := phone(t, "bob", nil)
	ca := alice.InviteLate(uriOf("bob", at, sip.UDP))
	cb := saw(t, bob, 0, "invite").Call
	bob.Answer(cb)
	saw(t, alice, 0, "answered")
	saw(t, bob, 0, "confirmed")
	is.Equal(t, string(ca.Info().LocalSDP.Bytes()), string(cb.Info().RemoteSDP.Bytes()))
}

// RFC 3262: the callee's 183 carries the answer and is acknowledged by PRACK.
func TestReliableProvisional(t *testing.T) {
	alice, _ := phone(t, "alice", nil)
	bob, at := phone(t, "bob", nil)
	ca := alice.Invite(uriOf("bob", at, sip.UDP))
	cb := saw(t, bob, 0, "invite").Call
	cb.Ring(183, bob.c.Media)
	s := saw(t, alice, 0, "progress")
	is.Equal(t, s.Code, 183)
	is.True(t, s.Message.HasToken(sip.HRequire, "100rel"), "183 is reliable")
	bob.Answer(cb)
	s = saw(t, alice, 0, "answered")
	is.Equal(t, len(s.Message.Body()), 0)
	is.Equal(t, string(ca.Info().RemoteSDP.Bytes()), string(cb.Info().LocalSDP.Bytes()))
	saw(t, bob, 0, "confirmed")
}

func TestBlindTransfer(t *testing.T) {
	both(t, func(t *testing.T, tr sip.Transport) {
		alice, _ := phone(t, "alice", nil)
		bob, atBob := phone(t, "bob", nil)
		carol, atCarol := phone(t, "carol", nil)
		ca, _ := talk(t, alice, bob, uriOf("bob", atBob, tr))
		m := alice.Mark()
		ca.Refer(uriOf("carol", atCarol, tr), "", false)
		is.Equal(t, saw(t, alice, m, "reply").Code, 202)
		s := saw(t, carol, 0, "invite")
		is.Equal(t, s.From, "bob@example.test")
		is.Equal(t, aor(s.Message.Get(sip.HReferredBy)), "alice@example.test")
		carol.Answer(s.Call)
		s, err := alice.Wait(t.Context(), m, func(s Seen) bool { return s.What == "transfer" && s.Text == "last" })
		is.NoErr(t, err)
		is.Equal(t, s.Code, 200)
		ca.Hangup()
		saw(t, carol, 0, "confirmed")
	})
}

func TestAttendedTransfer(t *testing.T) {
	alice, _ := phone(t, "alice", nil)
	bob, atBob := phone(t, "bob", nil)
	carol, atCarol := phone(t, "carol", nil)
	first, _ := talk(t, alice, bob, uriOf("bob", atBob, sip.UDP))
	second, _ := talk(t, alice, carol, uriOf("carol", atCarol, sip.UDP))
	m, mc := alice.Mark(), carol.Mark()
	first.Refer(second.Info().Target, second.Info().Replaces, false)
	is.Equal(t, saw(t, carol, mc, "invite").From, "bob@example.test")
	is.Equal(t, saw(t, alice, m, "ended").Text, "bye") // carol's end of the second call
	saw(t, carol, mc, "confirmed")
	is.Equal(t, len(carol.Calls()), 1)
}

func TestReplacesNothing(t *testing.T) {
	alice, _ := phone(t, "alice", nil)
	_, at := phone(t, "bob", nil)
	alice.Invite(uriOf("bob", at, sip.UDP), "Replaces: nobody;to-tag=a;from-tag=b")
	is.Equal(t, saw(t, alice, 0, "failed").Code, 481)
}

func TestMessageAndOptions(t *testing.T) {
	both(t, func(t *testing.T, tr sip.Transport) {
		alice, _ := phone(t, "alice", nil)
		bob, at := phone(t, "bob", nil)
		code, err := alice.Message(t.Context(), uriOf("bob", at, tr), "Grüß dich")
		is.NoErr(t, err)
		is.Equal(t, code, 200)
		is.Equal(t, saw(t, bob, 0, "message").Text, "Grüß dich")
		code, err = alice.Options(t.Context(), uriOf("bob", at, tr))
		is.NoErr(t, err)
		is.Equal(t, code, 200)
	})
}

func TestSubscribe(t *testing.T) {
	alice, _ := phone(t, "alice", nil)
	bob, at := phone(t, "bob", func(c *Config) { c.Events = []string{"presence"} })
	s := alice.Subscribe(uriOf("bob", at, sip.UDP), "presence", "text/plain", time.Minute)
	is.Equal(t, saw(t, alice, 0, "active").Code, 200)
	is.Equal(t, saw(t, alice, 0, "notify").Text, "here")
	is.Equal(t, s.State(), "active")
	s.End()
	saw(t, alice, 0, "over")
	is.Equal(t, s.State(), "terminated")
	saw(t, bob, 0, "over")
	is.Equal(t, bob.Agent().Parts(), 0)
	alice.Subscribe(uriOf("bob", at, sip.UDP), "dialog", "", time.Minute)
	m := alice.Mark()
	is.Equal(t, saw(t, alice, m, "over").Code, 489)
}

// Two re-INVITEs cross: both get 491, both try again, both succeed. RFC 3261 §14.1
func TestGlare(t *testing.T) {
	alice, _ := phone(t, "alice", nil)
	bob, at := phone(t, "bob", nil)
	ca, cb := talk(t, alice, bob, uriOf("bob", at, sip.UDP))
	ma, mb := alice.Mark(), bob.Mark()
	ca.Hold(true)
	cb.Hold(true)
	is.Equal(t, saw(t, alice, ma, "reply").Code, 200)
	is.Equal(t, saw(t, bob, mb, "reply").Code, 200)
}

// The server hangs up instead of answering: the request fails at once, not after 32 s.
func TestConnectionCut(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(t, err)
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 10))
			c.Close()
		}
	}()
	k, err := New(Config{Address: "alice@example.test", Transport: sip.TCP, Network: Network{Dial: loopback.Dial},
		Server: sip.Hop{Transport: sip.TCP, Addr: netip.MustParseAddrPort(ln.Addr().String())}})
	is.NoErr(t, err)
	t.Cleanup(k.Close)
	began := time.Now()
	_, err = k.Register(t.Context())
	is.Err(t, err, "transport gave up")
	is.True(t, time.Since(began) < 5*time.Second, "at once")
}
