// Package frontend registers people and routes their requests: RFC 3261 §10 and §16
// with RFC 3327 (Path), RFC 3608 (Service-Route), RFC 5626 (outbound) and RFC 5627
// (GRUU). It forwards calls as people have set it, rings their phones, and keeps a
// MESSAGE (RFC 3428) for somebody who is not there.
//
// Doors: 5060 UDP and TCP, 5061 TLS, mutual with other servers; WebSockets (RFC 7118)
// at 80 and 443 on / and /sip.
// Seed: R01 Front End Servers 5060/5061
// Seed: R61 Office Communicator 5060
// Seed: R62 Office Communicator 5061
// Seed: R71 Communicator Mobile 5060
// Seed: R72 Communicator Mobile 5061
//
// Goroutines: one per door; one writes the facts of calls; one per person delivers
// waiting messages while there are some. Requests are handled on the goroutine that
// read them. Locks: calls' shards, which are leaves; delivery.mu guards who is being
// delivered to.
package frontend

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"fernamt/core/admin"
	"fernamt/core/config"
	"fernamt/core/host"
	"fernamt/core/location"
	"fernamt/core/room"
	"fernamt/core/route"
	"fernamt/wire/ports"
	"fernamt/wire/proxy"
	"fernamt/wire/sip"
)

type role struct {
	Trusted         []config.Net  `doc:"Addresses whose requests count as signed in, at this role's own sockets alone"`
	ContactNetworks []config.Net  `doc:"Addresses that a phone's Contact may name although its registration came from elsewhere; to any other Contact requests go back the way the registration came, and nothing is dialled"`
	MinExpires      time.Duration `doc:"Shortest registration; a shorter one is answered 423"`
	MaxExpires      time.Duration `doc:"Longest registration; a longer one is cut"`
	DefaultExpires  time.Duration `doc:"Registration of a phone that names no time"`
	RefuseExcess    bool          `doc:"A phone beyond the account's limit is answered 403; otherwise it takes the place of the one not heard of for longest"`
	OfflineMessages bool          `doc:"Messages to people who are not registered are kept and delivered later"`
	RecordCalls     bool          `doc:"Calls go to the event log, for archive and statistics"`
	RecordMessages  bool          `doc:"Messages between people who are there go to the event log too"`

	h       *host.Host
	gate    *route.Gate
	box     *room.Box
	calls   calls
	deliver delivery
	record  recorder
	pool    sync.Pool // of *registration
	date    atomic.Pointer[dateLine]
	lost    func(*proxy.Context, *sip.Message, *proxy.Target, int) bool // takeLost, made once
}

// New returns the role with its defaults.
func New() host.Role {
	return &role{MinExpires: time.Minute, MaxExpires: 24 * time.Hour, DefaultExpires: time.Hour, OfflineMessages: true, RecordCalls: true}
}

// Check looks at what the settings say.
func (f *role) Check() error {
	bad := func(key, text string) error { return &config.KeyError{Key: key, Err: errors.New(text)} }
	switch {
	case f.MinExpires < time.Second || f.MinExpires > time.Hour:
		return bad("min_expires", "must be between 1s and 1h (RFC 3261 §10.3)")
	case f.MaxExpires < f.MinExpires:
		return bad("max_expires", "must not be less than min_expires")
	case f.DefaultExpires < f.MinExpires || f.DefaultExpires > f.MaxExpires:
		return bad("default_expires", "must lie between min_expires and max_expires")
	}
	return nil
}

// The doors.
const (
	doorUDP   = "frontend/sip-udp"
	doorTCP   = "frontend/sip"
	doorTLS   = "frontend/sips"
	doorHTTP  = "frontend/http"
	doorHTTPS = "frontend/https"
)

// Ports are the role's doors.
func (f *role) Ports() []ports.Port {
	const spec = "RFC 3261 §18"
	return []ports.Port{
		{Name: doorUDP, From: 5060, Transport: ports.UDP, Protocol: "sip", Spec: spec,
			Purpose: "SIP from desk phones and softphones", Zweck: "SIP von Tischtelefonen und Softphones"},
		{Name: doorTCP, From: 5060, Transport: ports.TCP, Protocol: "sip", Spec: spec, Seed: []string{"R01", "R61", "R71"},
			Purpose: "SIP from phones and clients over TCP", Zweck: "SIP von Telefonen und Programmen über TCP"},
		{Name: doorTLS, From: 5061, Transport: ports.TCP, Protocol: "sips", TLS: ports.Server, Spec: spec, Seed: []string{"R01", "R62", "R72"},
			Purpose: "SIP over TLS from clients, mutual TLS between servers", Zweck: "SIP über TLS von Programmen, beidseitiges TLS zwischen Servern"},
		{Name: doorHTTP, From: 80, Transport: ports.TCP, Protocol: "ws", Spec: "RFC 7118",
			Purpose: "SIP over WebSocket from browsers, at / and /sip", Zweck: "SIP über WebSocket von Browsern, unter / und /sip"},
		{Name: doorHTTPS, From: 443, Transport: ports.TCP, Protocol: "wss", TLS: ports.Server, Spec: "RFC 7118",
			Purpose: "The same over TLS", Zweck: "Dasselbe über TLS"},
		{Name: "frontend/sip-out", From: 5060, Transport: ports.TCP, Protocol: "sip", Use: ports.Dial, Spec: "RFC 3263 §4",
			Purpose: "SIP over TCP to other domains and to phones that listen", Zweck: "SIP über TCP zu anderen Domänen und zu Telefonen, die warten"},
		{Name: "frontend/sips-out", From: 5061, Transport: ports.TCP, Protocol: "sips", TLS: ports.Mutual, Use: ports.Dial, Spec: "RFC 3263 §4",
			Purpose: "SIP over TLS to other domains and to our own servers", Zweck: "SIP über TLS zu anderen Domänen und zu den eigenen Servern"},
	}
}

// Run serves until ctx ends, or a door breaks.
func (f *role) Run(ctx context.Context, h *host.Host) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	work, err := f.begin(ctx, h)
	if err != nil {
		return err
	}
	err = f.serve(ctx)
	stop() // else what begin started would hold us
	work.Wait()
	f.deliver.wait()
	return err
}

// begin readies all but the doors. What it starts ends with ctx.
func (f *role) begin(ctx context.Context, h *host.Host) (*sync.WaitGroup, error) {
	f.h, f.gate = h, h.Route
	f.pool.New = func() any { return new(registration) }
	f.lost = f.takeLost
	f.calls.init()
	var err error
	if f.box, err = room.Open(ctx, h.Store); err != nil {
		return nil, err
	}
	f.gate.Locations().SetGone(f.gone)
	trusted := make([]netip.Prefix, len(f.Trusted))
	for i, n := range f.Trusted {
		trusted[i] = n.Prefix
	}
	f.gate.Trust(h.Role, trusted)
	f.record.init(h.Store, h.Log)
	f.deliver.init(ctx, f)
	work := new(sync.WaitGroup)
	work.Go(func() { f.record.run(ctx) })
	work.Go(func() { f.sweep(ctx) })
	f.gate.Handle(h.Role, f.onRequest)
	return work, nil
}

// serve opens every door before the first is served, and ends when one breaks or ctx ends.
func (f *role) serve(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var names []string
	for _, p := range f.Ports() {
		if p.Use == ports.Listen {
			names = append(names, p.Name)
		}
	}
	errs := make(chan error, len(names))
	for _, name := range names {
		d, err := f.h.Listen(name)
		if err != nil {
			return fmt.Errorf("frontend: %w", err)
		}
		go func() {
			err := f.gate.Serve(ctx, f.h.Role, d)
			stop()
			errs <- err
		}()
	}
	var first error
	for range names {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// gone hears of bindings that ended without their owner's doing.
func (f *role) gone(b location.Binding, why location.Reason) {
	f.h.Log.Debug("registration ended", "user", string(b.AOR), "why", why)
}

// sweep ends what is left of people who were removed, barred or moved, and calls that
// nobody ended.
func (f *role) sweep(ctx context.Context) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f.endLost()
			f.prune(ctx)
		}
	}
}

func (f *role) prune(ctx context.Context) {
	f.gate.Locations().Prune(func(aor []byte) bool {
		a := f.h.Users.ByAddress(aor)
		return a != nil && !a.Disabled && f.homeHere(a) && len(aor) == len(a.Address)
	})
	for _, id := range f.box.Accounts() {
		if f.h.Users.ByID(id) != nil {
			continue
		}
		if err := f.box.Forget(ctx, id); err != nil && ctx.Err() == nil {
			f.h.Log.Warn("messages of a removed account are still there", "err", err)
		}
	}
}

// Commands are what an operator can ask.
func (f *role) Commands() []admin.Command { return f.commands() }
