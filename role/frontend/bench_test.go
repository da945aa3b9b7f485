package frontend

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/gss"
	"fernamt/wire/sip"
)

// memory is a UDP socket whose peer is a function: the front end's whole stack runs on
// one goroutine, without the kernel.
type memory struct {
	next   func(b []byte) []byte              // appends the next datagram of the callers; nil: no more
	answer func(b []byte, sent []byte) []byte // appends what the callees say to sent; nil: nothing
	heard  func(b []byte)                     // sees what reaches the callers; may be nil
	queue  [][]byte
	free   [][]byte
	out    int // responses that reached the callers
	done   chan struct{}
	over   bool
	closed chan struct{}
}

var caller, callee = netip.MustParseAddrPort("127.0.0.1:15080"), netip.MustParseAddrPort("127.0.0.1:15070")

func newMemory() *memory {
	return &memory{done: make(chan struct{}), closed: make(chan struct{})}
}

func (m *memory) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	if n := len(m.queue); n > 0 {
		q := m.queue[n-1]
		m.queue = m.queue[:n-1]
		m.free = append(m.free, q)
		return copy(b, q), callee, nil
	}
	if got := m.next(b[:0]); got != nil {
		return len(got), caller, nil
	}
	if !m.over {
		m.over = true
		close(m.done)
	}
	<-m.closed
	return 0, caller, net.ErrClosed
}

func (m *memory) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if to != callee {
		m.out++
		if m.heard != nil {
			m.heard(b)
		}
		return len(b), nil
	}
	var q []byte
	if n := len(m.free); n > 0 {
		q, m.free = m.free[n-1][:0], m.free[:n-1]
	}
	if q = m.answer(q, b); q != nil {
		m.queue = append(m.queue, q)
	}
	return len(b), nil
}

func (m *memory) ReadFrom(b []byte) (int, net.Addr, error) {
	n, a, err := m.ReadFromUDPAddrPort(b)
	return n, net.UDPAddrFromAddrPort(a), err
}

func (m *memory) WriteTo(b []byte, to net.Addr) (int, error) {
	return m.WriteToUDPAddrPort(b, to.(*net.UDPAddr).AddrPort())
}

func (m *memory) Close() error { return m.SetReadDeadline(time.Now()) }
func (m *memory) LocalAddr() net.Addr {
	return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 15060}
}
func (m *memory) SetDeadline(time.Time) error      { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }
func (m *memory) SetReadDeadline(time.Time) error {
	select {
	case <-m.closed:
	default:
		close(m.closed)
	}
	return nil
}

// play runs n requests made by request through s.
func (s *stage) play(b testing.TB, n int, request func(dst []byte, i int) []byte, answer func(dst, sent []byte) []byte) *memory {
	i := 0
	m := newMemory()
	m.answer = answer
	m.next = func(dst []byte) []byte {
		if i == n {
			return nil
		}
		i++
		return request(dst, i-1)
	}
	s.serve(m)
	return m
}

// serve serves m until it has nothing more to say.
func (s *stage) serve(m *memory) {
	ended := make(chan error)
	go func() {
		ended <- s.gate.ServePacket(s.ctx, "frontend", m, sip.LinkInfo{ID: 1, Door: doorUDP})
	}()
	<-m.done
	m.Close()
	<-ended
}

const users = 20000

func appendPadded(dst []byte, i int) []byte {
	var d [5]byte
	for k := 4; k >= 0; k-- {
		d[k] = byte('0' + i%10)
		i /= 10
	}
	return append(dst, d[:]...)
}

// appendHead writes what all requests of the load have in common.
func appendHead(dst []byte, method string, user, n int) []byte {
	dst = append(dst, method...)
	if method == "REGISTER" {
		dst = append(dst, " sip:bar.test"...)
	} else {
		dst = append(appendPadded(append(dst, " sip:u"...), user), "@bar.test"...)
	}
	dst = append(dst, " SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:15080;branch=z9hG4bK-5170-"...)
	dst = strconv.AppendInt(dst, int64(n), 10)
	dst = append(dst, "-0\r\nMax-Forwards: 70\r\nFrom: <sip:"...)
	if method == "REGISTER" {
		dst = appendPadded(append(dst, 'u'), user)
	} else {
		dst = append(dst, "caller"...)
	}
	dst = append(dst, "@bar.test>;tag=5170t"...)
	dst = strconv.AppendInt(dst, int64(n), 10)
	dst = append(appendPadded(append(dst, "\r\nTo: <sip:u"...), user), "@bar.test>\r\nCall-ID: "...)
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(append(append(dst, "-5170@127.0.0.1\r\nCSeq: 1 "...), method...), "\r\n"...)
}

func register(dst []byte, i int) []byte {
	dst = appendHead(dst, "REGISTER", i%users, i)
	dst = appendPadded(append(dst, "Contact: <sip:u"...), i%users)
	return append(dst, "@127.0.0.1:15070>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"...)
}

var text = bytes.Repeat([]byte("0123456789"), 40)

func message(dst []byte, i int) []byte {
	dst = appendHead(dst, "MESSAGE", i*7919%users, i)
	dst = append(dst, "Content-Type: text/plain\r\nContent-Length: 400\r\n\r\n"...)
	return append(dst, text...)
}

// fine answers 200 as sipp's UAS does.
func fine(dst, sent []byte) []byte {
	var m sip.Message
	if err := m.Parse(append(make([]byte, 0, len(sent)+256), sent...)); err != nil {
		panic(err)
	}
	return sip.AppendResponse(dst, &m, 200, []byte("tag"), nil)
}

func BenchmarkRegister(b *testing.B) {
	s := newStage(b, users, trust)
	s.play(b, users, register, nil)
	b.ReportAllocs()
	b.ResetTimer()
	m := s.play(b, b.N, func(dst []byte, i int) []byte { return register(dst, users+i) }, nil)
	b.StopTimer()
	is.Equal(b, m.out, b.N)
	is.Equal(b, s.gate.Locations().Count(), users)
}

// BenchmarkMessage relays to phones that answer. They are registered over the same socket:
// the flow over one that is closed leads nowhere.
func BenchmarkMessage(b *testing.B) {
	s := newStage(b, users, trust)
	b.ReportAllocs()
	i, taken := 0, 0
	m := newMemory()
	m.answer = fine
	m.heard = func(sent []byte) {
		if bytes.HasPrefix(sent, []byte(ok)) {
			taken++
		}
	}
	m.next = func(dst []byte) []byte {
		i++
		switch {
		case i <= users:
			return register(dst, i-1)
		case i == users+1:
			b.ResetTimer()
		case i > users+b.N:
			return nil
		}
		return message(dst, i-users-1)
	}
	s.serve(m)
	b.StopTimer()
	is.Equal(b, taken, users+b.N)
}

// BenchmarkDigest is a pair: REGISTER, 401, REGISTER with an MD5 answer, 200.
func BenchmarkDigest(b *testing.B) {
	s := newStage(b, users, nil)
	ha1 := make([]string, users)
	for i := range ha1 {
		ha1[i] = hex.EncodeToString(gss.HA1(gss.MD5, string(appendPadded([]byte("u"), i)), domain, "secret"))
	}
	sum := md5.Sum([]byte("REGISTER:sip:bar.test"))
	ha2 := hex.EncodeToString(sum[:])
	var nonce []byte
	i := 0
	m := newMemory()
	m.heard = func(sent []byte) {
		if at := bytes.Index(sent, []byte(`nonce="`)); at >= 0 {
			nonce = append(nonce[:0], sent[at+7:at+47]...)
		}
	}
	var room [256]byte
	m.next = func(dst []byte) []byte {
		if i == 2*b.N {
			return nil
		}
		n, first := i/2, i%2 == 0
		i++
		dst = register(dst, n)
		if first {
			return dst
		}
		h := append(append(append(append(room[:0], ha1[n%users]...), ':'), nonce...), ":00000001:6b8b4567:auth:"...)
		r := md5.Sum(append(h, ha2...))
		dst = append(dst[:len(dst)-len("Content-Length: 0\r\n\r\n")], `Authorization: Digest username="u`...)
		dst = append(appendPadded(dst, n%users), `",realm="bar.test",cnonce="6b8b4567",nc=00000001,qop=auth,uri="sip:bar.test",nonce="`...)
		dst = append(append(dst, nonce...), `",response="`...)
		return append(hex.AppendEncode(dst, r[:]), "\",algorithm=MD5\r\nContent-Length: 0\r\n\r\n"...)
	}
	b.ReportAllocs()
	b.ResetTimer()
	s.serve(m)
	b.StopTimer()
	is.Equal(b, m.out, 2*b.N)
	is.Equal(b, s.gate.Locations().Count(), min(b.N, users))
}

// A REGISTER that a trusted address sends for people who are registered: how many
// allocations, and that it was answered.
func TestRegisterGarbage(t *testing.T) {
	s := newStage(t, 100, trust)
	reg := func(dst []byte, i int) []byte { return register(dst, i%100) }
	again := func(dst []byte, i int) []byte {
		dst = appendHead(dst, "REGISTER", i%100, 1000+i)
		dst = appendPadded(append(dst, "Contact: <sip:u"...), i%100)
		return append(dst, "@127.0.0.1:15070>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"...)
	}
	s.play(t, 100, reg, nil)
	const n = 10000
	per := testing.AllocsPerRun(1, func() {
		m := s.play(t, n, again, nil)
		is.Equal(t, m.out, n)
	}) / n
	t.Log("allocations per REGISTER:", fmt.Sprintf("%.3f", per))
	is.True(t, raceDetector || per < 0.1, "the path leaves garbage", fmt.Sprint(per))
}
