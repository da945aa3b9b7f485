package interop

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// raw is a UDP socket that speaks SIP by hand: what it sends is written out.
type raw struct {
	net.PacketConn
	server *net.UDPAddr
}

func openRaw(t testing.TB, server string) *raw {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	to, err := net.ResolveUDPAddr("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	return &raw{c, to}
}

func (r *raw) port() int { return r.LocalAddr().(*net.UDPAddr).Port }

func (r *raw) send(t testing.TB, text string) {
	t.Helper()
	if _, err := r.WriteTo([]byte(text), r.server); err != nil {
		t.Fatal(err)
	}
}

// next gives the next datagram, or "" after d.
func (r *raw) next(d time.Duration) string {
	buf := make([]byte, 65536)
	_ = r.SetReadDeadline(time.Now().Add(d))
	n, _, err := r.ReadFrom(buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// final gives the next final response, passing over requests and 1xx.
func (r *raw) final(d time.Duration) string {
	for end := time.Now().Add(d); ; {
		m := r.next(time.Until(end))
		if m == "" || strings.HasPrefix(m, "SIP/2.0 ") && m[8] != '1' {
			return m
		}
	}
}

// status takes the code out of a response; 0 for none.
func status(m string) (code int) {
	_, _ = fmt.Sscanf(m, "SIP/2.0 %d", &code)
	return code
}

var serial atomic.Int64

// request writes a request from this socket; more are whole header lines.
func (r *raw) request(method, uri, from, to string, more ...string) string {
	n := serial.Add(1)
	body := ""
	var extra strings.Builder
	for _, m := range more {
		if b, ok := strings.CutPrefix(m, "\r\n"); ok {
			body = b
			continue
		}
		extra.WriteString(m + "\r\n")
	}
	if !strings.Contains(extra.String(), "CSeq:") {
		fmt.Fprintf(&extra, "CSeq: 1 %s\r\n", method)
	}
	if !strings.Contains(extra.String(), "Call-ID:") {
		fmt.Fprintf(&extra, "Call-ID: c%d-%d@test\r\n", n, r.port())
	}
	return fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:%d;rport;branch=z9hG4bK%d-%d\r\nMax-Forwards: 70\r\n"+
		"From: <%s>;tag=f%d\r\nTo: <%s>\r\n%sContent-Length: %d\r\n\r\n%s",
		method, uri, r.port(), r.port(), n, from, n, to, extra.String(), len(body), body)
}

// answers tells whether something at a UDP address answers OPTIONS at all.
func answers(addr string) bool {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return false
	}
	defer c.Close()
	n := serial.Add(1)
	fmt.Fprintf(c, "OPTIONS sip:%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;rport;branch=z9hG4bKo%d\r\nMax-Forwards: 70\r\n"+
		"From: <sip:t@test.invalid>;tag=%d\r\nTo: <sip:%s>\r\nCall-ID: o%d@test\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
		addr, c.LocalAddr(), n, n, addr, n)
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	buf := make([]byte, 4096)
	got, err := c.Read(buf)
	return err == nil && status(string(buf[:got])) > 0
}
