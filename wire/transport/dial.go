package transport

import (
	"context"
	"fmt"

	"fernamt/wire/sip"
)

// dialing is a connection that is being opened, for all who want it.
type dialing struct {
	done chan struct{} // closed when flow and err are set
	flow sip.Flow
	err  error
}

// Dial gives a way to hop: an open one, or a connection that it opens. Those who ask for the same hop at the same time get
// the same connection. ctx bounds only the caller's waiting. UDP needs no opening.
func (l *Layer) Dial(ctx context.Context, hop sip.Hop) (sip.Flow, error) {
	hop.Addr = unmap(hop.Addr)
	if f, ok := l.Find(hop); ok {
		return f, nil
	}
	if l.c.Dial == nil || hop.Transport != sip.TCP && hop.Transport != sip.TLS {
		return sip.Flow{}, fmt.Errorf("%v %v: %w", hop.Transport, hop.Addr, ErrNoRoute)
	}
	l.mu.Lock()
	d := l.dialing[hop]
	if d == nil {
		d = &dialing{done: make(chan struct{})}
		l.dialing[hop] = d
		go l.open(hop, d)
	}
	l.mu.Unlock()
	select {
	case <-d.done:
		return d.flow, d.err
	case <-ctx.Done():
		return sip.Flow{}, fmt.Errorf("dial %v %v: %w", hop.Transport, hop.Addr, ctx.Err())
	}
}

// open dials, serves the connection in the background and wakes those who wait for it.
func (l *Layer) open(hop sip.Hop, d *dialing) {
	k, err := l.connect(hop)
	if err != nil {
		l.count.lost.Add(1)
		d.err = fmt.Errorf("dial %v %v: %w", hop.Transport, hop.Addr, err)
	} else {
		d.flow = k.flow()
	}
	l.mu.Lock()
	delete(l.dialing, hop)
	l.mu.Unlock()
	close(d.done)
	if k == nil {
		return
	}
	if err := k.serve(l.ctx); err != nil {
		l.log.Debug("dialled connection ended", "err", err, "peer", hop.Addr)
	}
}

func (l *Layer) connect(hop sip.Hop) (*conn, error) {
	l.count.dialled.Add(1)
	ctx, cancel := context.WithTimeout(l.ctx, l.c.Limits.Dial)
	defer cancel()
	c, names, err := l.c.Dial(ctx, hop)
	if err != nil {
		return nil, err
	}
	k, err := l.adopt(ctx, c, sip.LinkInfo{Transport: hop.Transport, Peer: names, Dialled: true})
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	k.host = hop.Host
	// A door's address may be another than the one that the connection shows, behind a translator.
	l.placeLocked(k, place{hop.Transport, hop.Addr})
	l.mu.Unlock()
	return k, nil
}
