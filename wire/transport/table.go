package transport

import (
	"net/netip"
	"slices"
	"time"

	"fernamt/wire/clock"
	"fernamt/wire/sip"
)

// admit counts a connection from remote in, or says that there are too many.
func (l *Layer) admit(remote netip.AddrPort, dialled bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return ErrClosed
	}
	if l.opened >= l.c.Limits.Connections {
		l.count.turnedAway.Add(1)
		return ErrTooMany
	}
	if !dialled && !l.trusted(remote.Addr()) {
		n := neighbourhood(remote.Addr())
		if l.from[n] >= l.c.Limits.PerAddress {
			l.count.turnedAway.Add(1)
			return ErrTooMany
		}
		l.from[n]++
	}
	l.opened++
	return nil
}

// release undoes admit.
func (l *Layer) release(remote netip.AddrPort, dialled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.releaseLocked(remote, dialled)
}

func (l *Layer) releaseLocked(remote netip.AddrPort, dialled bool) {
	l.opened--
	if dialled || l.trusted(remote.Addr()) {
		return
	}
	n := neighbourhood(remote.Addr())
	if l.from[n]--; l.from[n] <= 0 {
		delete(l.from, n)
	}
}

func (l *Layer) trusted(a netip.Addr) bool {
	return slices.ContainsFunc(l.c.Limits.Trusted, func(p netip.Prefix) bool { return p.Contains(a.WithZone("")) })
}

// neighbourhood is what one customer holds: an IPv4 address, an IPv6 /64.
func neighbourhood(a netip.Addr) netip.Addr {
	if a = a.Unmap(); a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// enter puts c in the tables.
func (l *Layer) enter(c *conn) {
	c.idle.Store(unproven)
	if c.info.Dialled || c.info.Peer != nil {
		c.idle.Store(int64(l.c.Limits.Kept))
	}
	c.rest(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c.info.ID] = c
	l.placeLocked(c, place{c.info.Transport, c.remote})
	if l.swept == nil {
		l.swept = make(chan struct{})
		go l.sweep(l.swept)
	}
}

func (l *Layer) placeLocked(c *conn, p place) {
	if slices.Contains(c.places, p) {
		return
	}
	c.places = append(c.places, p)
	// The newest first: older ones may be half dead already.
	l.places[p] = append([]*conn{c}, l.places[p]...)
}

// leave takes c out of the tables and tells the owner.
func (l *Layer) leave(c *conn) {
	l.mu.Lock()
	delete(l.conns, c.info.ID)
	for _, p := range c.places {
		rest := slices.DeleteFunc(l.places[p], func(o *conn) bool { return o == c })
		if l.places[p] = rest; len(rest) == 0 {
			delete(l.places, p)
		}
	}
	l.releaseLocked(c.remote, c.info.Dialled)
	if len(l.conns) == 0 && l.swept != nil {
		close(l.swept)
		l.swept = nil
	}
	l.mu.Unlock()
	if l.c.Closed != nil {
		defer l.survive(c.flow())
		l.c.Closed(c.info.ID)
	}
}

// Alias makes connection id serve hop too (RFC 5923 §8.2): the peer asked for it, and hop's name is one that its
// certificate proves. It says whether that holds.
func (l *Layer) Alias(id uint64, hop sip.Hop) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.conns[id]
	if c == nil || hop.Transport != c.info.Transport || !slices.Contains(c.info.Peer, hop.Host) ||
		hop.Addr.Addr().Unmap() != c.remote.Addr() {
		return false
	}
	l.placeLocked(c, place{hop.Transport, unmap(hop.Addr)})
	return true
}

// findAlias reads the alias parameter of a request's top Via.
func (c *conn) findAlias(m *sip.Message) {
	c.alias = true
	if len(c.info.Peer) == 0 || c.info.Dialled || !m.IsRequest() {
		return
	}
	via, err := m.Via()
	if err != nil {
		return
	}
	if _, ok := via.Param("alias"); !ok {
		return
	}
	port := via.Port
	if port == 0 {
		port = 5061
	}
	c.l.Alias(c.info.ID, sip.Hop{Transport: c.info.Transport, Addr: netip.AddrPortFrom(c.remote.Addr(), port),
		Host: string(via.Host)})
}

// sweep ends connections that are over their time, until the last connection is gone.
func (l *Layer) sweep(done <-chan struct{}) {
	var over []*conn
	tick := time.NewTicker(l.step())
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		now := clock.Mono()
		over = over[:0]
		l.mu.RLock()
		for _, c := range l.conns {
			if c.due.Load() < now {
				over = append(over, c)
			}
		}
		l.mu.RUnlock()
		for _, c := range over {
			l.count.overdue.Add(1)
			c.end(errOverdue)
		}
		clear(over)
	}
}

// step is how often the sweeper looks: a second, or finer when a limit is.
func (l *Layer) step() time.Duration {
	m := &l.c.Limits
	return max(min(time.Second, m.Message/8, m.Rest/8, m.Idle/8, m.Kept/8), time.Millisecond)
}
