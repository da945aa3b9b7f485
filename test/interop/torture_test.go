package interop

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// torture is one message of RFC 4475 or RFC 5118 and what our proxy and registrar
// answers. 0 is no answer at all.
type torture struct {
	file     string
	trusted  int // the sender is on [frontend] trusted, the people in the message have accounts
	stranger int // nobody that we know
	why      string
}

// What a stranger gets when nothing is wrong with the message.
const (
	login = 401 // the registrar asks who it is
	who   = 407 // the proxy asks who it is
)

func tortureTable() []torture {
	return []torture{
		{"rfc4475/badaspec", 400, 400, "blanks inside <>: no addr-spec"},
		{"rfc4475/badbranch", 400, 400, "the magic cookie and nothing behind it"},
		{"rfc4475/baddate", 400, 400, "a Date that is not GMT"},
		{"rfc4475/baddn", 400, 400, "a display name of more than tokens stands in quotes"},
		{"rfc4475/badinv01", 400, 400, "empty elements in Via and Contact; the answer goes to where it came from"},
		{"rfc4475/badvers", 505, 505, "SIP/7.0"},
		{"rfc4475/bcast", 0, 0, "a response to nothing of ours, whose next Via is a broadcast address"},
		{"rfc4475/bext01", 420, who, "Proxy-Require names what we do not know; a stranger is asked first who it is"},
		{"rfc4475/bigcode", 0, 0, "a status past 32 bits is no response"},
		{"rfc4475/clerr", 400, 400, "the datagram is shorter than Content-Length"},
		{"rfc4475/cparam01", 200, login, "an unknown parameter of Contact is kept"},
		{"rfc4475/cparam02", 200, login, "an unknown parameter of the contact's URI is kept"},
		{"rfc4475/dblreq", 200, login, "what stands behind Content-Length 0 is no request"},
		{"rfc4475/esc01", 404, who, "one user of example.net whose name holds an escaped @, and who has no account"},
		{"rfc4475/esc02", 501, who, "RE%47IST%45R is not REGISTER: a method that we do not know, asked of ourselves"},
		{"rfc4475/escnull", 404, login, "a name with %00 in it, which no account can have; it is not taken for null"},
		{"rfc4475/escruri", 400, 400, "headers in the Request-URI"},
		{"rfc4475/insuf", 400, 400, "no Call-ID, From, To"},
		{"rfc4475/intmeth", 404, who, "an unknown method is forwarded; the person has no account"},
		{"rfc4475/inv2543", 480, who, "RFC 2543 style, without tags and branch"},
		{"rfc4475/invut", 480, who, "the body is for the other end"},
		{"rfc4475/longreq", 480, who, "long, and legal"},
		{"rfc4475/ltgtruri", 400, 400, "Request-URI in <>"},
		{"rfc4475/lwsdisp", 480, who, "no blank between name and <"},
		{"rfc4475/lwsruri", 400, 400, "a blank inside the Request-URI"},
		{"rfc4475/lwsstart", 400, 400, "two blanks in the request line"},
		{"rfc4475/mcl01", 400, 400, "two Content-Lengths"},
		{"rfc4475/mismatch01", 400, 400, "the CSeq names another method"},
		{"rfc4475/mismatch02", 400, 400, "the CSeq names another method"},
		{"rfc4475/mpart01", 0, who, "goes on to its Route, 127.0.0.1:5080, where nobody answers here"},
		{"rfc4475/multi01", 400, 400, "headers that stand once stand twice"},
		{"rfc4475/ncl", 400, 400, "a negative Content-Length"},
		{"rfc4475/noreason", 0, 0, "a response to nothing of ours"},
		{"rfc4475/novelsc", 416, who, "a scheme that we do not route"},
		{"rfc4475/quotbal", 400, 400, "a quote that does not end"},
		{"rfc4475/regaut01", 200, login, "an unknown scheme of Authorization is none"},
		{"rfc4475/regbadct", 400, 400, "parameters of a Contact without <>"},
		{"rfc4475/regescrt", 200, login, "the contact's ?Route= is kept"},
		{"rfc4475/scalar02", 400, 400, "numbers past their range"},
		{"rfc4475/scalarlg", 0, 0, "a response whose numbers are past their range"},
		{"rfc4475/sdp01", 480, who, "Accept is for the other end"},
		{"rfc4475/semiuri", 404, who, "semicolons inside a user's name, who has no account"},
		{"rfc4475/transports", 480, who, "transports that we do not speak, in lower Vias"},
		{"rfc4475/trws", 400, 400, "a blank at the end of the request line"},
		{"rfc4475/unkscm", 416, who, "a scheme that nobody knows"},
		{"rfc4475/unksm2", 400, login, "To is no SIP address: nobody to register"},
		{"rfc4475/unreason", 0, 0, "a response to nothing of ours"},
		{"rfc4475/wsinv", 500, who, "ugly, and legal; its Route names a host that does not exist here"},
		{"rfc4475/zeromf", 483, who, "Max-Forwards 0"},
		{"rfc5118/ipv4-mapped-ipv6", 480, who, "::ffff:a.b.c.d is an address"},
		{"rfc5118/ipv6-bad", 400, 400, "an IPv6 address without brackets"},
		{"rfc5118/ipv6-bug-abnf-3-colons", 500, who, "::: is taken for ::, as RFC 5118 §4.10 advises"},
		{"rfc5118/ipv6-correct-abnf-2-colons", 500, who, "goes on to that address, which cannot be reached; a 503 that is not ours becomes 500"},
		{"rfc5118/ipv6-good", 500, login, "another registrar, which cannot be reached"},
		{"rfc5118/ipv6-in-sdp", 500, who, "goes on to that address, which cannot be reached; a 503 that is not ours becomes 500"},
		{"rfc5118/mult-ip-in-header", 500, who, "a host that does not exist"},
		{"rfc5118/mult-ip-in-sdp", 500, who, "goes on to that address, which cannot be reached; a 503 that is not ours becomes 500"},
		{"rfc5118/port-ambiguous", 500, login, "5070 is part of the address"},
		{"rfc5118/port-unambiguous", 500, login, "5070 is the port"},
		{"rfc5118/via-received-param-no-delim", 500, who, "received= without brackets, as the grammar has it"},
		{"rfc5118/via-received-param-with-delim", 500, who, "received= with brackets"},
	}
}

// torturePeople have accounts where the senders are trusted.
func torturePeople() []string {
	return []string{"user@example.com", "j.user@example.com", "j_user@example.com", "watson@example.com", "UserB@example.com",
		"remote-target@example.com", "null@example.com", "user@example.org", "t.watson@example.org", "kumiko@example.org",
		"user@company.com", "vivekg@chair-dnrc.example.com"}
}

func TestTorture(t *testing.T) {
	if !isolated(t) {
		return
	}
	for _, trusted := range []bool{true, false} {
		t.Run(map[bool]string{true: "trusted", false: "stranger"}[trusted], func(t *testing.T) { tortures(t, trusted) })
	}
}

func tortures(t *testing.T, trusted bool) {
	l := labWith(t, func(toml string) string {
		toml = setting(t, toml, "", "domains", `["example.test", "example.com", "example.org", "example.net", "company.com", "chair-dnrc.example.com", "registrar.example.com"]`)
		toml = setting(t, toml, "limits", "address_failures", "100000")
		if trusted {
			toml = setting(t, toml, "frontend", "trusted", `["127.0.0.1"]`)
		}
		return toml
	}).during(t)
	if trusted {
		for _, p := range torturePeople() {
			if out, status := l.command(t, "user", "add", p); status != 0 {
				t.Fatalf("user add %s: %s", p, out)
			}
		}
	}
	ears := listenEverywhere(t, l.Ports["sip"])
	for _, m := range tortureTable() {
		t.Run(m.file, func(t *testing.T) {
			want := m.stranger
			if trusted {
				want = m.trusted
			}
			text, err := os.ReadFile(filepath.Join("..", "..", "wire", "sip", "testdata", m.file+".dat"))
			if err != nil {
				t.Fatal(err)
			}
			if got := ears.ask(t, l.addr("sip"), text, want); got != want {
				t.Errorf("status %d, want %d: %s", got, want, m.why)
			}
			if !answers(l.addr("sip")) {
				t.Fatal("OPTIONS is not answered any more")
			}
		})
	}
	l.alive(t)
}

// ears are sockets on the ports that the messages' Vias name: answers go there.
type ears struct {
	in chan string
	to net.PacketConn
}

func listenEverywhere(t *testing.T, not int) *ears {
	e := &ears{in: make(chan string, 1000)}
	for _, p := range []int{0, 4000, 5050, 5060, 5061, 5062, 5070, 5080, 6050, 19823} {
		if p == not {
			continue
		}
		c, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			continue // one of the server's own
		}
		t.Cleanup(func() { c.Close() })
		if e.to == nil {
			e.to = c
		}
		go func() {
			buf := make([]byte, 65536)
			for {
				n, _, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				e.in <- string(buf[:n])
			}
		}()
	}
	return e
}

// ask sends a message and gives the status of the final answer to it. Where none
// is due, a short while must do.
func (e *ears) ask(t *testing.T, server string, text []byte, want int) int {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.to.WriteTo(text, to); err != nil {
		t.Fatal(err)
	}
	wait := 5 * time.Second
	if want == 0 {
		wait = 300 * time.Millisecond
	}
	id := callID(string(text))
	for end := time.After(wait); ; {
		select {
		case m := <-e.in:
			if code := status(m); code >= 200 && (id == "" || callID(m) == id) {
				return code
			}
		case <-end:
			return 0
		}
	}
}

var callIDLine = regexp.MustCompile(`(?im)^(?:call-id|i)[ \t]*:[ \t\r\n]*([^\r\n]*?)[ \t]*\r?$`)

func callID(m string) string {
	head, _, _ := strings.Cut(m, "\r\n\r\n")
	if f := callIDLine.FindStringSubmatch(head); f != nil {
		return f[1]
	}
	return ""
}
