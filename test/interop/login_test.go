package interop

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"fernamt/wire/gss"
)

var (
	challengeLine = regexp.MustCompile(`(?im)^(WWW|Proxy)-Authenticate: (Digest .*?)\r?$`)
	nonceWord     = regexp.MustCompile(`nonce="([^"]*)"`)
)

// account is somebody who can answer a challenge.
type account struct{ address, password string }

func (l *lab) account(user string) account {
	return account{user + "@" + l.Domain, l.password(user)}
}

// ask is a request; more are whole header lines, and the body behind "\r\n".
type ask struct {
	method, uri, to string
	more            []string
}

// as sends a request as somebody: again with credentials when asked for them. A
// lost answer is waited for by sending again, as RFC 3261 §17.1.2 has it. It gives
// the final response, or "" after d.
func (r *raw) as(t testing.TB, who account, d time.Duration, q ask) string {
	t.Helper()
	method, uri, to, more := q.method, q.uri, q.to, q.more
	id := fmt.Sprintf("Call-ID: a%d-%d@test", serial.Add(1), r.port())
	first := r.request(method, uri, "sip:"+who.address, to, append(more, id, "CSeq: 1 "+method)...)
	answer := r.persist(t, first, d)
	if c := status(answer); c != 401 && c != 407 {
		return answer
	}
	if method == "INVITE" {
		r.send(t, ackFor(first, answer))
	}
	m := challengeLine.FindStringSubmatch(answer)
	if m == nil {
		t.Fatalf("no challenge in:\n%s", answer)
	}
	secret(nonceWord.FindStringSubmatch(m[2])[1])
	user, _, _ := strings.Cut(who.address, "@")
	value, err := gss.Answer([]byte(m[2]), gss.Login{User: user, Password: who.password, Method: method, URI: uri, NC: 1,
		CNonce: fmt.Sprint(serial.Add(1))})
	if err != nil {
		t.Fatal(err)
	}
	name := map[string]string{"WWW": "Authorization: ", "Proxy": "Proxy-Authorization: "}[m[1]]
	return r.persist(t, r.request(method, uri, "sip:"+who.address, to, append(more, id, "CSeq: 2 "+method, name+value)...), d)
}

// persist sends until a final response comes.
func (r *raw) persist(t testing.TB, request string, d time.Duration) string {
	t.Helper()
	id := callID(request)
	wait := 500 * time.Millisecond
	for end := time.Now().Add(d); time.Now().Before(end); wait = min(2*wait, 4*time.Second) {
		r.send(t, request)
		for next := time.Now().Add(min(wait, time.Until(end))); time.Now().Before(next); {
			m := r.final(time.Until(next))
			if m != "" && callID(m) == id && cseq(m) == cseq(request) {
				return m
			}
		}
	}
	return ""
}

var cseqLine = regexp.MustCompile(`(?im)^CSeq:[ \t]*(.*?)\r?$`)

func cseq(m string) string {
	if f := cseqLine.FindStringSubmatch(m); f != nil {
		return f[1]
	}
	return ""
}

// header gives the first value of a header, as it is written.
func header(m, name string) string {
	head, _, _ := strings.Cut(m, "\r\n\r\n")
	for line := range strings.SplitSeq(head, "\r\n") {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(strings.TrimSpace(k), name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// ackFor acknowledges a refusal of an INVITE.
func ackFor(invite, refusal string) string {
	line, _, _ := strings.Cut(invite, "\r\n")
	uri := strings.Fields(line)[1]
	number, _, _ := strings.Cut(cseq(invite), " ")
	return fmt.Sprintf("ACK %s SIP/2.0\r\nVia: %s\r\nMax-Forwards: 70\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %s ACK\r\nContent-Length: 0\r\n\r\n",
		uri, header(invite, "Via"), header(invite, "From"), header(refusal, "To"), callID(invite), number)
}

// reply answers a request that came in. tag makes the To tag, if it has none.
func reply(request string, code int, tag string, more ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "SIP/2.0 %d x\r\n", code)
	head, _, _ := strings.Cut(request, "\r\n\r\n")
	for line := range strings.SplitSeq(head, "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "via", "from", "call-id", "cseq", "record-route":
			b.WriteString(line + "\r\n")
		case "to":
			if !strings.Contains(line, ";tag=") {
				line += ";tag=" + tag
			}
			b.WriteString(line + "\r\n")
		}
	}
	for _, m := range more {
		b.WriteString(m + "\r\n")
	}
	b.WriteString("Content-Length: 0\r\n\r\n")
	return b.String()
}

// register registers this socket for somebody; seconds 0 takes it away.
func (r *raw) register(t testing.TB, who account, seconds int) {
	t.Helper()
	_, host, _ := strings.Cut(who.address, "@")
	user, _, _ := strings.Cut(who.address, "@")
	answer := r.as(t, who, 10*time.Second, ask{"REGISTER", "sip:" + host, "sip:" + who.address, []string{fmt.Sprintf("Contact: <sip:%s@127.0.0.1:%d>", user, r.port()), fmt.Sprintf("Expires: %d", seconds)}})
	if status(answer) != 200 {
		t.Fatalf("%s cannot register:\n%s", who.address, answer)
	}
}

// fresh gives the shared server with nobody registered: phones that were ended by
// force have left bindings behind.
func fresh(t testing.TB) *lab {
	t.Helper()
	l := shared(t)
	r := openRaw(t, l.addr("sip"))
	for _, u := range []string{"alice", "bob", "carol", "dave"} {
		who := l.account(u)
		answer := r.as(t, who, 10*time.Second, ask{"REGISTER", "sip:" + l.Domain, "sip:" + who.address, []string{"Contact: *", "Expires: 0"}})
		if status(answer) != 200 {
			t.Fatalf("%s cannot be unregistered:\n%s", u, answer)
		}
	}
	return l
}

// takeRequest waits for a request of a method and passes over everything else.
func (r *raw) takeRequest(t testing.TB, method string, d time.Duration) string {
	t.Helper()
	for end := time.Now().Add(d); ; {
		m := r.next(time.Until(end))
		if m == "" {
			t.Fatalf("no %s in %v", method, d)
		}
		if strings.HasPrefix(m, method+" ") {
			return m
		}
	}
}
