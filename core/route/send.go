package route

import (
	"context"
	"errors"

	"fernamt/wire/clock"
	"fernamt/wire/proxy"
	"fernamt/wire/sip"
	"fernamt/wire/transaction"
)

// Now is the monotonic time that registrations count by.
func (g *Gate) Now() int64 { return clock.Mono() }

// ToPool sends the request on to a role, here or on another host; pool names the pool
// or host that must play it, "" any. A REGISTER gets a Path back to us, what may begin
// a dialog our Record-Route, and either the name of who asks.
func (r *Request) ToPool(role, pool string) error {
	t, err := r.gate.To(role, pool)
	if err != nil {
		return err
	}
	if role == r.Role && t.Flow.Link != nil {
		return sip.Status(404, "")
	}
	if r.Method() == sip.REGISTER { // pass did not look: it might have ended here
		if err := r.gate.proxy.Validate(r.Message, r.Role); err != nil {
			return err
		}
	}
	r.gate.assert(r)
	if r.Method() == sip.REGISTER {
		r.Prepend(sip.HPath, r.appendBack(nil, true))
		if !r.HasToken(sip.HSupported, "path") {
			r.Add(sip.HSupported, []byte("path"))
		}
		r.Remove(sip.HAuthorization) // ours, and checked
	}
	r.Remove(sip.HProxyAuthorization)
	r.Forward(&proxy.Plan{Element: r.Role, Targets: []proxy.Target{t}, Record: r.Record()})
	return nil
}

// ServiceRoute is the value of a Service-Route that leads to us, at the address that the
// request came to (RFC 3608).
func (r *Request) ServiceRoute() []byte { return r.appendBack(nil, false) }

// wait collects the outcome of Send.
type wait chan int

func (w wait) Response(_ *transaction.Client, m *sip.Message) {
	if code := m.StatusCode(); code >= 200 {
		w.give(code)
	}
}

func (w wait) Failed(_ *transaction.Client, err error) {
	if errors.Is(err, transaction.ErrTimeout) {
		w.give(408)
		return
	}
	w.give(503)
}

func (w wait) give(code int) {
	select {
	case w <- code:
	default: // one is enough
	}
}

// Send sends a request of a role's own to a target and waits for the final status. It
// may block: call it on a goroutine that may. m is not kept.
func (g *Gate) Send(ctx context.Context, role string, m *sip.Message, t proxy.Target) (code int, err error) {
	if t.URI != nil {
		m.SetRequestURI(t.URI)
	}
	for i := len(t.Routes) - 1; i >= 0; i-- {
		m.Prepend(sip.HRoute, t.Routes[i])
	}
	if !g.prepare(&t, nextURI(m)) {
		list := []proxy.Target{t}
		g.locate(ctx, list, nextURI(m))
		t = list[0]
	}
	if t.Flow.Link == nil {
		if t.Flow, err = g.reach(ctx, role, t.Hops); err != nil {
			return 0, err
		}
	}
	g.leaving(m, t.Flow)
	w := make(wait, 1)
	c, err := g.trans.Request(m, t.Flow, 0, w)
	if err != nil {
		return 0, err
	}
	select {
	case code = <-w:
		return code, nil
	case <-ctx.Done():
		c.Cancel()
		return 0, ctx.Err()
	}
}

// reach finds or opens the first way that can be had.
func (g *Gate) reach(ctx context.Context, role string, hops []sip.Hop) (f sip.Flow, err error) {
	err = sip.Status(480, "")
	for _, h := range hops {
		if f, ok := g.find(role, h); ok {
			return f, nil
		}
		if f, err = g.layer.Dial(ctx, h); err == nil {
			return f, nil
		}
	}
	return f, err
}
