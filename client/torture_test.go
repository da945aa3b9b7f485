package client

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

// mailbox is a UDP socket without a network: a test puts datagrams in and takes them out.
type mailbox struct {
	in, out chan []byte
	done    chan struct{}
}

func newMailbox() *mailbox {
	return &mailbox{in: make(chan []byte), out: make(chan []byte, 64), done: make(chan struct{})}
}

func (m *mailbox) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-m.in:
		return copy(b, d), &net.UDPAddr{IP: net.IPv4(192, 0, 2, 99), Port: 5060}, nil
	case <-m.done:
		return 0, nil, net.ErrClosed
	}
}

func (m *mailbox) WriteTo(b []byte, _ net.Addr) (int, error) {
	select {
	case m.out <- append([]byte(nil), b...):
	default:
	}
	return len(b), nil
}

func (m *mailbox) Close() error                     { return nil }
func (m *mailbox) LocalAddr() net.Addr              { return &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5060} }
func (m *mailbox) SetDeadline(time.Time) error      { return nil }
func (m *mailbox) SetWriteDeadline(time.Time) error { return nil }
func (m *mailbox) SetReadDeadline(at time.Time) error {
	close(m.done) // the transport does this once, to end
	return nil
}

// torture says what a user agent answers to each message of RFC 4475 and RFC 5118, and why.
// "call" is 100 and a call that rings; "none" is silence.
var torture = []struct{ file, want, why string }{
	{"wsinv", "481", "ugly but legal; its To tag names a call that is not there"},
	{"intmeth", "501", "a method that nobody knows"},
	{"esc01", "call", "an escaped address is a user name like any other"},
	{"escnull", "405", "a phone is no registrar"},
	{"esc02", "501", "methods are not unescaped: this is not REGISTER"},
	{"lwsdisp", "200", "OPTIONS; no blank before the bracket is legal"},
	{"longreq", "call", "long values are within the limits"},
	{"dblreq", "405", "REGISTER; what follows its end in the datagram is ignored"},
	{"semiuri", "200", "OPTIONS; semicolons belong to the user"},
	{"transports", "200", "OPTIONS; transports in lower Vias are not ours to judge"},
	{"mpart01", "200", "MESSAGE with a multipart body, which is taken as it is"},
	{"unreason", "none", "a response that nobody waits for"},
	{"noreason", "none", "a response that nobody waits for"},
	{"badinv01", "400 none", "empty elements in Via: hardly anywhere to answer to"},
	{"clerr", "400", "less body than promised"},
	{"ncl", "400", "a negative length"},
	{"scalar02", "400", "numbers out of range"},
	{"scalarlg", "none", "a broken response is dropped"},
	{"quotbal", "400", "a quote without end"},
	{"ltgtruri", "400", "brackets round the Request-URI"},
	{"lwsruri", "400", "a blank within the Request-URI"},
	{"lwsstart", "400", "more than one blank in the request line"},
	{"trws", "400", "a blank behind the request line"},
	{"escruri", "400", "headers in the Request-URI"},
	{"baddate", "400 call", "a date that is not GMT"},
	{"regbadct", "400", "Contact with parameters and no brackets"},
	{"badaspec", "400", "blanks within brackets"},
	{"baddn", "400", "a display name that needs quotes"},
	{"badvers", "505", "SIP/7.0"},
	{"mismatch01", "400", "CSeq names another method"},
	{"mismatch02", "400 501", "CSeq names another method, and both are unknown"},
	{"bigcode", "none", "a broken response is dropped"},
	{"badbranch", "200 400", "OPTIONS with the cookie alone as branch: matched as RFC 2543 does"},
	{"insuf", "400", "no Call-ID, From, To"},
	{"unkscm", "416", "a scheme that nobody knows"},
	{"novelsc", "416", "a scheme that is not for SIP"},
	{"unksm2", "405 400", "a phone is no registrar"},
	{"bext01", "420", "extensions that nobody knows"},
	{"invut", "415", "a body of unknown type"},
	{"regaut01", "405", "a phone is no registrar"},
	{"multi01", "400", "headers twice that may stand once"},
	{"mcl01", "400", "two different lengths"},
	{"bcast", "none", "a response that nobody waits for"},
	{"zeromf", "200", "OPTIONS that has arrived: the hop count is for proxies"},
	{"cparam01", "405", "a phone is no registrar"},
	{"cparam02", "405", "a phone is no registrar"},
	{"regescrt", "405", "a phone is no registrar"},
	{"sdp01", "406", "the caller would not take a session description back"},
	{"inv2543", "call", "an INVITE as of RFC 2543"},

	{"ipv6-good", "405", "a phone is no registrar"},
	{"ipv6-bad", "400", "an IPv6 address needs brackets"},
	{"port-ambiguous", "405", "a phone is no registrar; 5070 is part of the address"},
	{"port-unambiguous", "405", "a phone is no registrar"},
	{"via-received-param-with-delim", "481", "BYE for a call that is not there"},
	{"via-received-param-no-delim", "200", "OPTIONS"},
	{"ipv6-in-sdp", "call", "IPv6 in the description"},
	{"mult-ip-in-header", "481 200", "BYE for a call that is not there"},
	{"mult-ip-in-sdp", "call", "both families in the description"},
	{"ipv4-mapped-ipv6", "call", "mapped addresses"},
	{"ipv6-bug-abnf-3-colons", "200", "OPTIONS; the grammar's old slip is taken"},
	{"ipv6-correct-abnf-2-colons", "200", "OPTIONS"},
}

func boxed(t *testing.T) (*Client, *mailbox) {
	t.Helper()
	box := newMailbox()
	k, err := New(Config{Address: "user@example.com", Transport: sip.UDP,
		Network: Network{ListenPacket: func(context.Context) (net.PacketConn, error) { return box, nil }}})
	is.NoErr(t, err)
	t.Cleanup(k.Close)
	return k, box
}

func TestTorture(t *testing.T) {
	files, _ := filepath.Glob("../wire/sip/testdata/rfc*/*.dat")
	is.Equal(t, len(files), len(torture), "a message without a line in the table, or the other way round")
	for _, c := range torture {
		t.Run(c.file, func(t *testing.T) {
			t.Parallel()
			k, box := boxed(t)
			path, _ := filepath.Glob("../wire/sip/testdata/rfc*/" + c.file + ".dat")
			is.Equal(t, len(path), 1)
			b, err := os.ReadFile(path[0])
			is.NoErr(t, err)
			from := k.Mark()
			box.in <- b
			alive(t, k, box, c.file, func(answers []*sip.Message) { judge(t, k, from, answers, c.want) })
		})
	}
}

// alive sends OPTIONS behind the message: its answer says that the client lives, and what
// came before it belongs to the message.
func alive(t *testing.T, k *Client, box *mailbox, name string, judge func([]*sip.Message)) {
	box.in <- []byte("OPTIONS sip:user@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.99;branch=z9hG4bKalive" + name +
		"\r\nFrom: <sip:a@example.com>;tag=alive\r\nTo: <sip:user@example.com>\r\nCall-ID: alive-" + name +
		"\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n")
	var before []*sip.Message
	end := time.After(3 * time.Second)
	for {
		select {
		case b := <-box.out:
			m := new(sip.Message)
			is.NoErr(t, m.Parse(b), "what we sent cannot be read")
			if strings.HasPrefix(string(m.CallID()), "alive-") {
				if string(m.CallID()) == "alive-"+name {
					is.Equal(t, m.StatusCode(), 200)
					time.Sleep(20 * time.Millisecond) // answers of other turns
					for len(box.out) > 0 {
						late := new(sip.Message)
						is.NoErr(t, late.Parse(<-box.out))
						before = append(before, late)
					}
					judge(before)
					return
				}
				continue
			}
			before = append(before, m)
		case <-end:
			t.Fatalf("no answer to OPTIONS after %s", name)
		}
	}
}

func judge(t *testing.T, k *Client, from int, answers []*sip.Message, want string) {
	t.Helper()
	got := "none"
	for _, m := range answers {
		if m.IsRequest() {
			t.Errorf("a request of ours: %s", m.Bytes())
			continue
		}
		got = string(append([]byte(nil), m.Bytes()[8:11]...))
		checkAnswer(t, m)
	}
	for _, s := range k.Since(from) {
		if s.What == "invite" {
			is.Equal(t, got, "100", "a call is answered 100 first")
			got = "call"
			s.Call.Reject(486)
		}
	}
	for _, w := range strings.Fields(want) {
		if w == got {
			return
		}
	}
	t.Errorf("got %s, want %s", got, want)
}

// checkAnswer: some refusals have to say what would do.
func checkAnswer(t *testing.T, m *sip.Message) {
	t.Helper()
	need := map[int]sip.Header{405: sip.HAllow, 415: sip.HAccept, 420: sip.HUnsupported}
	if h, ok := need[m.StatusCode()]; ok && m.Get(h) == nil {
		t.Errorf("%d without its header %v", m.StatusCode(), h)
	}
	if _, err := m.To(); err != nil {
		return // a To that cannot be read goes back as it came
	}
	if m.StatusCode() > 100 && m.Get(sip.HTo) != nil && len(m.ToTag()) == 0 {
		t.Errorf("%d without To tag", m.StatusCode())
	}
}

// The binary body of mpart01 arrives octet for octet.
func TestTortureBody(t *testing.T) {
	k, box := boxed(t)
	b, err := os.ReadFile("../wire/sip/testdata/rfc4475/mpart01.dat")
	is.NoErr(t, err)
	box.in <- b
	_, body, _ := bytes.Cut(b, []byte("\r\n\r\n"))
	is.Equal(t, saw(t, k, 0, "message").Text, string(body))
}

// The same request by two ways: the second is refused. RFC 3261 §8.2.2.2
func TestMerged(t *testing.T) {
	k, box := boxed(t)
	for i, branch := range []string{"one", "two"} {
		box.in <- []byte("INVITE sip:user@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.99;branch=z9hG4bK" + branch +
			"\r\nFrom: <sip:a@example.com>;tag=t\r\nTo: <sip:user@example.com>\r\nCall-ID: merged\r\nCSeq: 1 INVITE\r\n" +
			"Contact: <sip:a@192.0.2.99>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n")
		m := new(sip.Message)
		is.NoErr(t, m.Parse(<-box.out))
		is.Equal(t, m.StatusCode(), []int{100, 482}[i])
	}
	is.Equal(t, len(k.Calls()), 1)
}
