package transport

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

// rig is a layer whose messages go to a channel, as text.
type rig struct {
	*Layer
	t    *testing.T
	seen chan string // what Receive got
	gone chan uint64
	mu   sync.Mutex
	last sip.Flow
	how  func(m *sip.Message) // called in Receive
	wg   sync.WaitGroup
}

func newRig(t *testing.T, c Config) *rig {
	r := &rig{t: t, seen: make(chan string, 10000), gone: make(chan uint64, 10000)}
	c.Receive = func(m *sip.Message) {
		r.mu.Lock()
		r.last = m.Flow
		how := r.how
		r.mu.Unlock()
		if how != nil {
			how(m)
		}
		r.seen <- string(m.CallID())
	}
	c.Closed = func(id uint64) { r.gone <- id }
	r.Layer = New(c)
	t.Cleanup(func() { r.Close(); r.wg.Wait() })
	return r
}

// on sets what Receive does.
func (r *rig) on(how func(m *sip.Message)) {
	r.mu.Lock()
	r.how = how
	r.mu.Unlock()
}

func (r *rig) flow() sip.Flow {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// next waits for the Call-ID of the next message.
func (r *rig) next() string {
	r.t.Helper()
	select {
	case s := <-r.seen:
		return s
	case <-time.After(5 * time.Second):
		r.t.Fatal("no message came")
		return ""
	}
}

// udp serves a UDP socket on host and gives its address.
func (r *rig) udp(host string) netip.AddrPort {
	r.t.Helper()
	pc, err := net.ListenPacket("udp", host)
	is.NoErr(r.t, err)
	return r.packet(pc)
}

func (r *rig) packet(pc net.PacketConn) netip.AddrPort {
	ctx, cancel := context.WithCancel(context.Background())
	r.wg.Go(func() {
		if err := r.ServePacket(ctx, pc, sip.LinkInfo{Door: "test/udp"}); err != nil {
			r.t.Errorf("serve: %v", err)
		}
	})
	r.t.Cleanup(cancel)
	is.True(r.t, until(func() bool { return r.Stats().Sockets > 0 }), "socket is served")
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

// tcp serves a listener and gives its address. wrap may make TLS of a connection.
func (r *rig) tcp(wrap func(net.Conn) net.Conn) string {
	r.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	r.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if wrap != nil {
				c = wrap(c)
			}
			r.wg.Go(func() { r.ServeConn(ctx, c, sip.LinkInfo{Door: "test/tcp"}) })
		}
	})
	r.t.Cleanup(func() { cancel(); ln.Close() })
	return ln.Addr().String()
}

// dial opens a plain connection to addr that fails the test when it hangs.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	is.NoErr(t, err)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { c.Close() })
	return c
}

// until polls for what comes soon.
func until(ok func() bool) bool {
	for range 1000 {
		if ok() {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

// options is a request whose Call-ID is id.
func options(transport, id, extra, body string) string {
	return fmt.Sprintf("OPTIONS sip:a@example.test SIP/2.0\r\nVia: SIP/2.0/%s 127.0.0.1:9;branch=z9hG4bK%s;rport\r\n"+
		"From: <sip:b@example.test>;tag=1\r\nTo: <sip:a@example.test>\r\nCall-ID: %s\r\nCSeq: 1 OPTIONS\r\n"+
		"Max-Forwards: 70\r\n%sContent-Length: %d\r\n\r\n%s", transport, id, id, extra, len(body), body)
}

// ok answers 200 on the flow that m came by.
func ok(m *sip.Message) {
	_ = m.Flow.Send(sip.AppendResponse(nil, m, 200, []byte("x"), nil))
}

// readResponse reads one response without a body.
func readResponse(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			return b.String(), err
		}
		if line == "\r\n" {
			return b.String(), nil
		}
	}
}

// rest reads until the end.
func rest(c io.Reader) string {
	b, _ := io.ReadAll(c)
	return string(b)
}
