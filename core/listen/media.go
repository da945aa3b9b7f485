package listen

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"

	"fernamt/wire/ports"
)

// drawn is a number that was taken from the pool.
type drawn struct {
	door ports.Port
	pc   net.PacketConn
	at   netip.AddrPort
}

// Draw takes a UDP socket from the host's one pool of media numbers, within the range of a declared door, on the first
// of the door's addresses. Closing it gives the number back.
func (d *Doors) Draw(name string) (net.PacketConn, error) {
	pcs, err := d.draw(name, netip.Addr{}, 1)
	if err != nil {
		return nil, err
	}
	return pcs[0], nil
}

// DrawAt draws on one of the host's addresses, n sockets with numbers that follow one another. With n = 2 the first is
// even, as RTP and RTCP like it (RFC 3550 §11).
func (d *Doors) DrawAt(name string, at netip.Addr, n int) ([]net.PacketConn, error) {
	if n < 1 {
		return nil, fmt.Errorf("draw from %s: %d sockets", name, n)
	}
	return d.draw(name, at, n)
}

func (d *Doors) draw(name string, at netip.Addr, n int) ([]net.PacketConn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, err := d.findLocked(name, ports.Draw)
	if err != nil {
		return nil, fmt.Errorf("draw: %w", err)
	}
	if d.closed {
		return nil, fmt.Errorf("draw from %s: %w", name, net.ErrClosed)
	}
	if !at.IsValid() {
		at = d.addresses(p.Port)[0]
	}
	first := p.From
	if n%2 == 0 && first%2 == 1 {
		first++
	}
	steps := (p.Last() - n + 1 - first) / n
	if p.Last()-n+1 < first {
		return nil, fmt.Errorf("draw from %s: the range has no %d numbers", p, n)
	}
	steps++
	// A random start: a number that was just given back still hears its last call for a while.
	start := rand.IntN(steps)
	for i := range steps {
		num := first + n*((start+i)%steps)
		pcs, err := d.drawRunLocked(at, num, n)
		if err != nil {
			return nil, fmt.Errorf("draw from %s: %w", name, err)
		}
		if pcs == nil {
			continue
		}
		d.pruneLocked()
		for _, pc := range pcs {
			d.drawn = append(d.drawn, drawn{p.Port, pc, addrPort(pc.LocalAddr())})
		}
		return pcs, nil
	}
	return nil, fmt.Errorf("draw from %s: every number of the range is taken", p)
}

// drawRunLocked binds n numbers from num on; nil when one is not free. d.mu is held.
func (d *Doors) drawRunLocked(at netip.Addr, num, n int) ([]net.PacketConn, error) {
	for k := range n {
		if d.fixed[num+k] != "" {
			return nil, nil
		}
	}
	var pcs []net.PacketConn
	for k := range n {
		pc, err := d.c.Network.ListenPacket(context.Background(), netip.AddrPortFrom(at, uint16(num+k)))
		if err == nil {
			pcs = append(pcs, pc)
			continue
		}
		for _, pc := range pcs {
			pc.Close()
		}
		if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES) {
			return nil, nil
		}
		return nil, err
	}
	return pcs, nil
}

// pruneLocked forgets closed sockets, now and then. d.mu is held.
func (d *Doors) pruneLocked() {
	if len(d.drawn) < max(d.pruneAt, 64) {
		return
	}
	d.livingLocked()
	d.pruneAt = 2 * len(d.drawn)
}

// livingLocked leaves the drawn sockets that are still open. d.mu is held.
func (d *Doors) livingLocked() []drawn {
	live := d.drawn[:0]
	for _, x := range d.drawn {
		if !isClosed(x.pc) {
			live = append(live, x)
		}
	}
	clear(d.drawn[len(live):])
	d.drawn = live
	return live
}

// isClosed asks the socket itself: it was handed out bare, so that its user can send in batches.
func isClosed(pc net.PacketConn) bool {
	switch c := pc.(type) {
	case syscall.Conn:
		raw, err := c.SyscallConn()
		return err != nil || raw.Control(func(uintptr) {}) != nil
	case interface{ isClosed() bool }:
		return c.isClosed()
	}
	return false
}
