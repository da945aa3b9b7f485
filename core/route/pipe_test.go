package route

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"fernamt/wire/sip"
)

// pipe is a UDP socket on which nothing comes in and whose sends a test reads.
type pipe struct {
	out    chan packet
	closed chan struct{}
	read   chan struct{}
	once   sync.Once
	first  sync.Once
}

type packet struct {
	to   netip.AddrPort
	text string
}

func newPipe() *pipe {
	return &pipe{out: make(chan packet, 100), closed: make(chan struct{}), read: make(chan struct{})}
}

func (p *pipe) awaitReader() { <-p.read }

func (p *pipe) ReadFrom([]byte) (int, net.Addr, error) {
	p.first.Do(func() { close(p.read) })
	<-p.closed
	return 0, nil, net.ErrClosed
}

func (p *pipe) WriteTo(b []byte, to net.Addr) (int, error) {
	a := to.(*net.UDPAddr).AddrPort()
	p.out <- packet{netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), string(b)}
	return len(b), nil
}

// next is the next request that was sent; answers are passed over.
func (p *pipe) next(t *testing.T) (netip.AddrPort, string) {
	t.Helper()
	for {
		select {
		case x := <-p.out:
			var m sip.Message
			if m.Parse([]byte(x.text)) == nil && m.IsRequest() {
				return x.to, x.text
			}
		case <-time.After(5 * time.Second):
			t.Fatal("nothing was sent")
		}
	}
}

// silent fails when something was sent.
func (p *pipe) silent(t *testing.T) {
	t.Helper()
	select {
	case x := <-p.out:
		t.Errorf("sent to %s: %s", x.to, x.text)
	default:
	}
}

func (p *pipe) Close() error { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipe) LocalAddr() net.Addr {
	return net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:5060"))
}
func (p *pipe) SetDeadline(time.Time) error      { return nil }
func (p *pipe) SetReadDeadline(time.Time) error  { return p.Close() }
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }
