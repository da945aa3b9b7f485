//go:build !linux

package transport

import (
	"net"
	"net/netip"
	"time"
)

// batch does not exist here: one datagram per system call.
type batch struct{}

func (s *socket) openBatch(u *net.UDPConn) error {
	// What the kernel does not grant it does not grant.
	_ = u.SetReadBuffer(4 << 20)
	_ = u.SetWriteBuffer(4 << 20)
	return nil
}

func (s *socket) readBatches() error { return s.readEach() }

func (b *batch) take(netip.AddrPort, []byte) bool { return false }

func nap(d time.Duration) { time.Sleep(d) }
