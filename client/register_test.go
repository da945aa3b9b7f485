package client

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fernamt/test/is"
	"fernamt/wire/gss"
	"fernamt/wire/sip"
)

// registrar answers what comes out of a mailbox as a script says.
type registrar struct {
	mu    sync.Mutex
	got   []string // "REGISTER 600", "STUN"
	heads []*sip.Message
	reply func(n int, m *sip.Message) (code int, lines []string)
}

func (r *registrar) run(box *mailbox, done <-chan struct{}) {
	for {
		var b []byte
		select {
		case b = <-box.out:
		case <-done:
			return
		}
		if b[0] < 4 {
			r.note("STUN", nil)
			continue
		}
		m := new(sip.Message)
		if m.Parse(b) != nil || !m.IsRequest() {
			continue
		}
		n := r.note(string(m.MethodName())+" "+string(m.Get(sip.HExpires)), m)
		code, lines := r.reply(n, m)
		resp := m.NewResponse(code, "")
		resp.Set(sip.HTo, []byte(string(m.Get(sip.HTo))+";tag=r"))
		for _, l := range lines {
			name, v, _ := strings.Cut(l, ": ")
			resp.AddName(name, []byte(v))
		}
		box.in <- resp.AppendTo(nil)
	}
}

func (r *registrar) note(what string, m *sip.Message) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, what)
	if m != nil {
		r.heads = append(r.heads, m)
	}
	return len(r.heads)
}

func (r *registrar) seen() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.got, ", ")
}

// bubble runs f with a client whose registrar is scripted, in virtual time.
func bubble(t *testing.T, change func(*Config), reply func(n int, m *sip.Message) (int, []string), f func(t *testing.T, k *Client, r *registrar)) {
	synctest.Test(t, func(t *testing.T) {
		box := newMailbox()
		c := Config{Address: "alice@example.test", Transport: sip.UDP, Password: "secret",
			Server:  sip.Hop{Transport: sip.UDP, Addr: netip.MustParseAddrPort("192.0.2.99:5060")},
			Network: Network{ListenPacket: func(context.Context) (net.PacketConn, error) { return box, nil }}}
		if change != nil {
			change(&c)
		}
		k, err := New(c)
		is.NoErr(t, err)
		r := &registrar{reply: reply}
		done := make(chan struct{})
		go r.run(box, done)
		f(t, k, r)
		k.Close()
		close(done)
	})
}

func accept(_ int, m *sip.Message) (int, []string) {
	return 200, []string{"Contact: " + string(m.Get(sip.HContact)) + ";expires=" + string(m.Get(sip.HExpires))}
}

// A registration is refreshed before it runs out, kept alive, and taken back.
func TestRefresh(t *testing.T) {
	change := func(c *Config) { c.Expires, c.KeepAlive = 100*time.Second, 40*time.Second }
	bubble(t, change, accept, func(t *testing.T, k *Client, r *registrar) {
		code, err := k.Register(t.Context())
		is.NoErr(t, err)
		is.Equal(t, code, 200)
		time.Sleep(100 * time.Second)
		is.Equal(t, r.seen(), "REGISTER 100, STUN, STUN, REGISTER 100")
		_, err = k.Unregister(t.Context())
		is.NoErr(t, err)
		time.Sleep(time.Hour)
		is.Equal(t, r.seen(), "REGISTER 100, STUN, STUN, REGISTER 100, REGISTER 0")
		is.Equal(t, string(r.heads[0].CallID()), string(r.heads[1].CallID()), "one Call-ID for all, RFC 3261 §10.2.4")
	})
}

func TestTooBrief(t *testing.T) {
	reply := func(n int, m *sip.Message) (int, []string) {
		if n == 1 {
			return 423, []string{"Min-Expires: 300"}
		}
		return accept(n, m)
	}
	bubble(t, func(c *Config) { c.Expires = time.Minute }, reply, func(t *testing.T, k *Client, r *registrar) {
		code, err := k.Register(t.Context())
		is.NoErr(t, err)
		is.Equal(t, code, 200)
		is.Equal(t, r.seen(), "REGISTER 60, REGISTER 300")
	})
}

// The registrar is down for a while: the client comes back by itself.
func TestRegistrarDown(t *testing.T) {
	reply := func(n int, m *sip.Message) (int, []string) {
		if n == 2 || n == 3 {
			return 503, nil
		}
		return accept(n, m)
	}
	bubble(t, func(c *Config) { c.Expires = time.Minute }, reply, func(t *testing.T, k *Client, r *registrar) {
		k.Register(t.Context())
		time.Sleep(time.Minute)
		is.Equal(t, r.seen(), "REGISTER 60, REGISTER 60, REGISTER 60, REGISTER 60")
	})
}

// RFC 8760: of two challenges the first is answered; a phone that knows MD5 takes the other.
// The nonce is used again, counted; stale is asked again; a second refusal is final.
func TestDigest(t *testing.T) {
	for _, md5 := range []bool{false, true} {
		t.Run(fmt.Sprint(md5), func(t *testing.T) {
			challenge := []string{`WWW-Authenticate: Digest realm="example.test", nonce="n1", algorithm=SHA-256, qop="auth"`,
				`WWW-Authenticate: Digest realm="example.test", nonce="n1", algorithm=MD5, qop="auth"`}
			reply := func(n int, m *sip.Message) (int, []string) {
				switch n {
				case 1:
					return 401, challenge
				case 4:
					return 401, []string{strings.Replace(challenge[0], `"n1"`, `"n2", stale=true`, 1), strings.Replace(challenge[1], `"n1"`, `"n2", stale=true`, 1)}
				case 6, 7:
					return 401, challenge
				}
				return accept(n, m)
			}
			change := func(c *Config) { c.MD5Only = md5 }
			bubble(t, change, reply, func(t *testing.T, k *Client, r *registrar) {
				for _, want := range []int{200, 200, 200, 401} {
					code, err := k.Register(t.Context())
					is.NoErr(t, err)
					is.Equal(t, code, want)
				}
				alg := map[bool]gss.Algorithm{false: gss.SHA256, true: gss.MD5}[md5]
				ha1 := []byte(gss.HA1(alg, "alice", "example.test", "secret"))
				var used []string
				for _, m := range r.heads[1:] {
					c, err := gss.ParseCredentials(m.Get(sip.HAuthorization))
					is.NoErr(t, err)
					is.True(t, c.Algorithm == alg && c.Verify(ha1, []byte("REGISTER"), nil), "the answer is right")
					used = append(used, fmt.Sprintf("%s/%d", c.Nonce, c.NC))
				}
				is.Equal(t, strings.Join(used, " "), "n1/1 n1/2 n1/3 n2/1 n2/2 n1/1")
			})
		})
	}
}

func TestContacts(t *testing.T) {
	change := func(c *Config) { c.Outbound, c.Q, c.Instance = true, "0.7", "urn:uuid:1" }
	bubble(t, change, accept, func(t *testing.T, k *Client, r *registrar) {
		k.Register(t.Context())
		is.Equal(t, string(r.heads[0].Get(sip.HContact)), `<sip:alice@192.0.2.1:5060>;+sip.instance="<urn:uuid:1>";reg-id=1;q=0.7`)
		k.UnregisterAll(t.Context())
		is.Equal(t, string(r.heads[1].Get(sip.HContact)), "*")
		list, err := k.Registered(t.Context())
		is.NoErr(t, err)
		is.Equal(t, len(list), 1)
		is.True(t, !r.heads[2].Has(sip.HExpires), "asking changes nothing")
	})
}
