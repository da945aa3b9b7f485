package route

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"fernamt/wire/sip"
	"fernamt/wire/transport"
)

// maxStrays bounds how many responses look for another way at the same time. When a
// whole network falls off, the rest is given up.
const maxStrays = 256

// astray takes a final response whose connection is gone, and sends it where its Via
// says. A slow peer, whose queue was full, gets no second connection.
func (g *Gate) astray(old sip.Flow, b []byte, why error) bool {
	if t := old.Link.Info().Transport; t != sip.TCP && t != sip.TLS || errors.Is(why, transport.ErrQueueFull) {
		return false
	}
	var m sip.Message
	if m.Parse(b) != nil {
		return false
	}
	via, err := m.Via()
	if err != nil || via.Transport != old.Link.Info().Transport {
		return false
	}
	if g.strays.Add(1) > maxStrays {
		g.strays.Add(-1)
		return false
	}
	go func() {
		defer g.strays.Add(-1)
		defer g.survive()
		ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
		defer cancel()
		if err := g.homeward(ctx, old, &via, b); err != nil {
			g.log.Info("response not sent", "to", old.Remote, "err", err)
		}
	}()
	return true
}

// homeward is RFC 3261 §18.2.2 for a connection that is gone: first the address that
// the request came from, at the port in Via, then what RFC 3263 §5 finds for a name. A
// number in Via that is not that address is behind a translator, or somebody else's.
func (g *Gate) homeward(ctx context.Context, old sip.Flow, via *sip.Via, b []byte) error {
	err := g.resend(ctx, old, viaHop(old, via), b)
	u := sip.URI{Host: via.Host}
	if _, numeric := u.Addr(); err == nil || numeric || g.c.Finder == nil {
		return err
	}
	hops, lost := g.c.Finder.LocateVia(ctx, *via)
	if lost != nil {
		return errors.Join(err, lost)
	}
	for _, h := range hops {
		if err = g.resend(ctx, old, h, b); err == nil {
			return nil
		}
	}
	return err
}

func (g *Gate) resend(ctx context.Context, old sip.Flow, h sip.Hop, b []byte) error {
	const breath = 50 * time.Millisecond
	for range 3 {
		f, err := g.layer.Dial(ctx, g.named(h))
		if err != nil {
			return err
		}
		if f.Link != old.Link {
			return g.trans.Resend(f, b)
		}
		select { // the dead connection is still in the table
		case <-time.After(breath):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return transport.ErrClosed
}

// viaHop is where the sender of a request that came by old can be called. What maddr
// says is not followed: it would let anybody aim our answers at others.
func viaHop(old sip.Flow, via *sip.Via) sip.Hop {
	port := via.Port
	if port == 0 {
		port = 5060
		if via.Transport == sip.TLS {
			port = 5061
		}
	}
	return sip.Hop{Transport: via.Transport, Addr: netip.AddrPortFrom(old.Remote.Addr(), port), Host: string(via.Host)}
}
