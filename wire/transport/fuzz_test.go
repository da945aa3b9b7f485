package transport

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

// script is a connection that gives its parts one per Read, then ends.
type script struct {
	parts [][]byte
	sent  strings.Builder
}

func (s *script) Read(b []byte) (int, error) {
	for len(s.parts) > 0 && len(s.parts[0]) == 0 {
		s.parts = s.parts[1:]
	}
	if len(s.parts) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.parts[0])
	s.parts[0] = s.parts[0][n:]
	return n, nil
}

func (s *script) Write(b []byte) (int, error)      { return s.sent.Write(b) }
func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5060} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// cut cuts b into pieces whose lengths come from seed.
func cut(b []byte, seed uint32) (parts [][]byte) {
	for len(b) > 0 {
		seed = seed*1664525 + 1013904223
		n := min(len(b), 1+int(seed>>16)%(1+int(seed>>8)%97))
		parts = append(parts, append([]byte{}, b[:n]...))
		b = b[n:]
	}
	return parts
}

// hear gives what a layer makes of a stream: the messages, what it answered, and how often it panicked.
func hear(t *testing.T, parts [][]byte) (got []string, sent string, panics uint64) {
	l := New(Config{Limits: Limits{Header: 4096, Body: 8192}, Receive: func(m *sip.Message) {
		got = append(got, string(m.Bytes()))
		m.Add(sip.HSubject, []byte("an edit must not reach what follows"))
	}})
	defer l.Close()
	s := &script{parts: parts}
	_ = l.ServeConn(t.Context(), s, sip.LinkInfo{Transport: sip.TCP})
	return got, s.sent.String(), l.Stats().Panics
}

// However a stream is cut, the same messages come out of it.
func FuzzStream(f *testing.F) {
	two := options("TCP", "1", "", "body") + options("TCP", "2", "", "")
	f.Add([]byte(two), uint32(1))
	f.Add([]byte("\r\n\r\n"+two+"\r\n\r\n\r\n"+two), uint32(2))
	f.Add([]byte(strings.Replace(two, "Content-Length: 4", "l : 4", 1)), uint32(3))
	f.Add([]byte(strings.Replace(two, "Content-Length: 4", "Content-Length:\r\n 4", 1)), uint32(4))
	f.Add([]byte(strings.Replace(two, "Content-Length: 4", "Content-Length: 4\r\nContent-Length: 5", 1)), uint32(5))
	f.Add([]byte(strings.Replace(two, "Content-Length: 4", "Content-Length: 99999999999", 1)), uint32(6))
	f.Add([]byte(strings.Replace(two, "\r\n", "\n", 3)), uint32(7))
	f.Add([]byte("\r\r\n\n"+two), uint32(8))
	f.Add([]byte(options("TCP", "1", "X: "+strings.Repeat("x", 4000)+"\r\n", "")+two), uint32(9))
	f.Add([]byte(options("TCP", "1", "", strings.Repeat("x", 8193))+two), uint32(10))
	f.Fuzz(func(t *testing.T, b []byte, seed uint32) {
		whole, _, panics := hear(t, [][]byte{append([]byte{}, b...)})
		is.Equal(t, panics, 0, "panics")
		pieces, _, panics := hear(t, cut(b, seed))
		is.Equal(t, panics, 0, "panics")
		is.Equal(t, pieces, whole, "cut")
	})
}

// Whatever comes as a datagram costs that datagram only, and answers go to where it came from.
func FuzzDatagram(f *testing.F) {
	f.Add([]byte(options("UDP", "1", "", "body")))
	f.Add([]byte("\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl"))
	f.Add([]byte("\r\n\r\n"))
	f.Add([]byte("OPTIONS sip:x SIP/7.0\r\nVia: SIP/2.0/UDP [::1]:99999\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := New(Config{Receive: func(m *sip.Message) { m.ReplyFlow() }})
		defer l.Close()
		from := netip.MustParseAddrPort("192.0.2.1:7777")
		w := &outbox{t: t, to: from.Addr()}
		s := &socket{l: l, info: l.describe(sip.LinkInfo{Transport: sip.UDP}), pc: w}
		s.datagram(b, from, true, 1)
		s.datagram(b, from, false, 1)
		is.Equal(t, l.Stats().Panics, 0, "panics")
	})
}

// outbox takes datagrams and sees that they go to one address.
type outbox struct {
	net.PacketConn
	t  *testing.T
	to netip.Addr
}

func (o *outbox) WriteTo(b []byte, to net.Addr) (int, error) {
	is.Equal(o.t, addrPort(to).Addr(), o.to)
	return len(b), nil
}
