// Package director is the first server that people outside their pool meet: it asks
// who they are and passes their requests on, over mutual TLS, to the front end that
// serves them. It registers nobody itself: a REGISTER gets a Path (RFC 3327) with a
// token of the person's connection, by which the front end's requests find back.
//
// Doors: 5060 UDP and TCP, 5061 TLS, mutual with other servers.
// Seed: R42 Director 5060/5061
//
// Goroutines: one per door; requests are handled on the goroutine that read them.
package director

import (
	"context"
	"fmt"

	"fernamt/core/admin"
	"fernamt/core/host"
	"fernamt/core/route"
	"fernamt/wire/ports"
	"fernamt/wire/sip"
)

type role struct{ gate *route.Gate }

// New returns the role; it has no settings.
func New() host.Role { return &role{} }

// Ports are the role's doors.
func (d *role) Ports() []ports.Port {
	const spec = "RFC 3261 §18"
	return []ports.Port{
		{Name: "director/sip-udp", From: 5060, Transport: ports.UDP, Protocol: "sip", Spec: spec,
			Purpose: "SIP from phones that are sent on to their front end", Zweck: "SIP von Telefonen, die zu ihrem Front-End weitergeleitet werden"},
		{Name: "director/sip", From: 5060, Transport: ports.TCP, Protocol: "sip", Spec: spec, Seed: []string{"R42"},
			Purpose: "The same over TCP", Zweck: "Dasselbe über TCP"},
		{Name: "director/sips", From: 5061, Transport: ports.TCP, Protocol: "sips", TLS: ports.Server, Spec: spec, Seed: []string{"R42"},
			Purpose: "The same over TLS; mutual TLS with front ends", Zweck: "Dasselbe über TLS; beidseitiges TLS mit Front-Ends"},
		{Name: "director/sip-out", From: 5060, Transport: ports.TCP, Protocol: "sip", Use: ports.Dial, Spec: "RFC 3263 §4",
			Purpose: "SIP over TCP to phones and other domains", Zweck: "SIP über TCP zu Telefonen und anderen Domänen"},
		{Name: "director/sips-out", From: 5061, Transport: ports.TCP, Protocol: "sips", TLS: ports.Mutual, Use: ports.Dial, Spec: "RFC 3263 §4",
			Purpose: "SIP over mutual TLS to front ends", Zweck: "SIP über beidseitiges TLS zu Front-Ends"},
	}
}

// Commands: nothing to ask.
func (d *role) Commands() []admin.Command { return nil }

// Run serves until ctx ends.
func (d *role) Run(ctx context.Context, h *host.Host) error {
	d.gate = h.Route
	d.gate.Handle(h.Role, d.onRequest)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	errs := make(chan error)
	n := 0
	for _, p := range d.Ports() {
		if p.Use != ports.Listen {
			continue
		}
		door, err := h.Listen(p.Name)
		if err != nil {
			return fmt.Errorf("director: %w", err)
		}
		n++
		go func() {
			err := d.gate.Serve(ctx, h.Role, door)
			stop()
			errs <- err
		}()
	}
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// onRequest is handed every request that passed the gate at this role.
func (d *role) onRequest(r *route.Request) {
	var err error
	switch r.To.Kind {
	case route.Self:
		err = d.onSelf(r)
	case route.Account, route.Endpoint:
		home := ""
		if r.To.Account != nil {
			home = r.To.Account.Home
		}
		err = r.ToPool("frontend", home)
	case route.App:
		err = r.ToPool(r.To.Role, "")
	default:
		r.Onward(nil)
	}
	if err != nil {
		r.Refuse(err)
	}
}

// onSelf passes a REGISTER on to the person's home.
func (d *role) onSelf(r *route.Request) error {
	switch r.Method() {
	case sip.REGISTER:
		// The front end believes a Path that we bring: it must be ours alone.
		if r.Has(sip.HPath) && r.From.How < route.Trusted {
			return sip.Status(403, "Path Not Accepted From Here")
		}
		home := ""
		if r.From.Account != nil {
			home = r.From.Account.Home
		}
		return r.ToPool("frontend", home)
	case sip.OPTIONS:
		r.Reply(200, []byte("Allow: INVITE, ACK, CANCEL, BYE, REGISTER, OPTIONS, MESSAGE, SUBSCRIBE, NOTIFY, REFER, INFO, UPDATE, PRACK, PUBLISH\r\n"))
		return nil
	}
	return sip.Status(405, "")
}
