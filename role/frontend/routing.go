package frontend

import (
	"bytes"

	"fernamt/core/ident"
	"fernamt/core/location"
	"fernamt/core/route"
	"fernamt/wire/proxy"
	"fernamt/wire/sip"
)

const allow = "Allow: INVITE, ACK, CANCEL, BYE, REGISTER, OPTIONS, MESSAGE, SUBSCRIBE, NOTIFY, REFER, INFO, UPDATE, PRACK, PUBLISH\r\n"

// onRequest is handed every request that passed the gate at this role.
func (f *role) onRequest(r *route.Request) {
	switch r.To.Kind {
	case route.Self:
		f.onSelf(r)
	case route.Account:
		if !f.homeHere(r.To.Account) {
			f.pass(r, f.elsewhere(r, r.To.Account))
			return
		}
		f.onAccount(r)
	case route.Endpoint:
		t := f.gate.Way(&r.To.Binding)
		r.Forward(&proxy.Plan{Element: r.Role, Targets: []proxy.Target{t}, Record: r.Record(), Watch: f.watch(r)})
	case route.App:
		f.pass(r, r.ToPool(r.To.Role, ""))
	case route.Within:
		f.onWithin(r)
	default:
		r.Onward(f.watch(r))
	}
}

func (f *role) pass(r *route.Request, err error) {
	if err != nil {
		r.Refuse(err)
	}
}

// onSelf answers what is for the server itself.
func (f *role) onSelf(r *route.Request) {
	switch r.Method() {
	case sip.REGISTER:
		f.onRegister(r)
	case sip.OPTIONS:
		r.Reply(200, []byte(allow+"Accept: application/sdp, text/plain\r\nSupported: path, outbound, gruu\r\n"))
	case sip.ACK:
	case sip.BYE, sip.UPDATE, sip.PRACK, sip.INFO, sip.NOTIFY:
		r.Reply(481, nil)
	case sip.Other:
		r.Reply(501, []byte(allow))
	default:
		r.Reply(405, []byte(allow))
	}
}

// onWithin sends on what belongs to a dialog.
func (f *role) onWithin(r *route.Request) {
	f.calls.within(f, r)
	r.Onward(nil)
}

// onAccount sends to the phones of somebody who lives here.
func (f *role) onAccount(r *route.Request) {
	switch r.Method() {
	case sip.INVITE:
		if len(r.ToTag()) == 0 {
			f.onInvite(r)
			return
		}
	case sip.MESSAGE:
		if len(r.ToTag()) == 0 {
			f.onMessage(r)
			return
		}
	}
	ts := f.phones(r.To.AOR, r.Now, nil, 0)
	if len(ts) == 0 {
		r.Reply(480, nil)
		return
	}
	r.Forward(&proxy.Plan{Element: r.Role, Targets: ts, Record: r.Record()})
}

// phones appends a target for each phone of an address, in groups from first on: equal
// q rings together, lower q later (RFC 3261 §16.6). Of several flows of one phone the
// newest is taken (RFC 5626 §5.3).
func (f *role) phones(aor []byte, now int64, ts []proxy.Target, first int) []proxy.Target {
	var room [8]location.Binding
	bs := f.gate.Locations().Lookup(aor, now, room[:0])
	if len(bs) == 0 {
		return ts
	}
	if ts == nil {
		ts = make([]proxy.Target, 0, len(bs))
	}
	group := first
	for i := range bs {
		b := &bs[i]
		if b.RegID != 0 && sameDevice(bs[:i], b) {
			continue
		}
		if i > 0 && b.Q < bs[i-1].Q && len(ts) > 0 {
			group++
		}
		t := f.gate.Way(b)
		t.Group = group
		ts = append(ts, t)
	}
	return ts
}

func sameDevice(before []location.Binding, b *location.Binding) bool {
	for i := range before {
		if before[i].RegID != 0 && bytes.Equal(before[i].Instance(), b.Instance()) {
			return true
		}
	}
	return false
}

// person finds the account that a forwarding target means; nil when it is none of ours.
func (f *role) person(target string) *ident.Account {
	if bytes.IndexByte([]byte(target), '@') >= 0 {
		return f.h.Users.ByAddress([]byte(target))
	}
	return f.h.Users.ByNumber([]byte(target))
}
