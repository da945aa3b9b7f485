package frontend

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"fernamt/core/ident"
	"fernamt/core/location"
	"fernamt/core/room"
	"fernamt/core/route"
	"fernamt/wire/proxy"
	"fernamt/wire/sip"
)

// How long the phones of somebody whose messages are kept may give no sign. All of them
// together must stay below the sender's own patience, timer F.
const (
	silence    = 8 * time.Second
	allSilence = 24 * time.Second
)

// onMessage sends a MESSAGE to the person's phones, or keeps it when there are none or
// none of them is there (RFC 3428).
//
// A phone that took a message whose answer got lost, or came after the silence that is
// allowed, gets it again with the next registration: with the same Call-ID, CSeq and From
// tag, by which it can tell. It is stored and acknowledged once.
func (f *role) onMessage(r *route.Request) {
	ts := f.phones(r.To.AOR, r.Now, nil, 0)
	keeps := f.OfflineMessages && r.From.How >= route.User
	if len(ts) > 0 {
		plan := proxy.Plan{Element: r.Role, Targets: ts}
		if keeps {
			plan.Lost = f.lost
			patience := min(silence, allSilence/time.Duration(ts[len(ts)-1].Group+1))
			for i := range ts {
				ts[i].Ring, ts[i].Ref = patience, r.To.Account
			}
		}
		if f.RecordMessages {
			plan.Watch = newLetter(f, r)
		}
		r.Forward(&plan)
		return
	}
	if !keeps {
		r.Reply(480, nil)
		return
	}
	c := f.gate.Proxy().Begin(r.Message)
	if c == nil {
		return
	}
	m, a := r.Clone(), r.To.Account
	go f.keep(c, m, a, r.Now)
}

// takeLost keeps a MESSAGE that no phone took, if that is because none is there.
func (f *role) takeLost(c *proxy.Context, m *sip.Message, t *proxy.Target, code int) bool {
	a, _ := t.Ref.(*ident.Account)
	switch code {
	case 408, 430, 480, 503:
	default:
		return false
	}
	own := m.Clone()
	go f.keep(c, own, a, f.gate.Now()-int64(t.Ring)*int64(t.Group+1))
	return true
}

// keep stores m and acknowledges it only then. Phones that have registered since may have
// it at once; since is on the monotonic clock.
func (f *role) keep(c *proxy.Context, m *sip.Message, a *ident.Account, since int64) {
	defer c.Survive(m)
	cseq, _, _ := m.CSeq()
	k := room.Message{Account: a.ID, Key: room.Key(m.CallID(), cseq, m.FromTag()), From: string(m.Get(sip.HFrom)),
		To: string(m.Get(sip.HTo)), Type: string(m.Get(sip.HContentType)), Body: m.Body(), At: time.Now()}
	for _, h := range [...]sip.Header{sip.HCallID, sip.HCSeq, sip.HSubject, sip.HPAssertedIdentity, sip.HContentEncoding, sip.HOrganization} {
		if v := m.Get(h); v != nil {
			k.Headers = append(k.Headers, h.String()+": "+string(v))
		}
	}
	if d := m.Get(sip.HDate); d != nil {
		k.Headers = append(k.Headers, "Date: "+string(d))
	} else {
		k.Headers = append(k.Headers, "Date: "+k.At.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"))
	}
	if n, ok, err := m.Expires(); ok && err == nil && n > 0 {
		k.Until = k.At.Add(time.Duration(n) * time.Second)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := f.box.Put(ctx, k)
	switch {
	case errors.Is(err, room.ErrFull):
		c.Reply(m, 480, nil)
	case err != nil:
		f.h.Log.Error("message not kept", "user", a.Address, "err", err)
		c.Reply(m, 500, nil)
	default:
		c.Reply(m, 202, nil)
		if f.cameSince(a, since) {
			f.deliver.to(a)
		}
	}
}

// cameSince says whether a phone of a's has registered since then.
func (f *role) cameSince(a *ident.Account, since int64) bool {
	var room [8]location.Binding
	for _, b := range f.gate.Locations().Lookup([]byte(a.Address), f.gate.Now(), room[:0]) {
		if b.Updated >= since {
			return true
		}
	}
	return false
}

// delivery hands waiting messages over, one person at a time each.
type delivery struct {
	f   *role
	ctx context.Context
	all sync.WaitGroup

	mu   sync.Mutex
	busy map[int64]bool // true: come again
}

func (d *delivery) init(ctx context.Context, f *role) { d.f, d.ctx, d.busy = f, ctx, map[int64]bool{} }

func (d *delivery) wait() { d.all.Wait() }

// to starts a delivery to a, or has the one that runs look again.
func (d *delivery) to(a *ident.Account) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil {
		return
	}
	if _, runs := d.busy[a.ID]; runs {
		d.busy[a.ID] = true
		return
	}
	d.busy[a.ID] = false
	d.all.Add(1)
	go d.run(a)
}

func (d *delivery) run(a *ident.Account) {
	defer d.all.Done()
	for {
		if err := d.try(a); err != nil && d.ctx.Err() == nil {
			d.f.h.Log.Warn("waiting messages not delivered", "user", a.Address, "err", err)
		}
		d.mu.Lock()
		if !d.busy[a.ID] || d.ctx.Err() != nil {
			delete(d.busy, a.ID)
			d.mu.Unlock()
			return
		}
		d.busy[a.ID] = false
		d.mu.Unlock()
	}
}

// try is hand, and outlives a panic.
func (d *delivery) try(a *ident.Account) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return d.hand(a)
}

// hand delivers in order and stops at the first message that no phone can be reached for.
func (d *delivery) hand(a *ident.Account) error {
	after := int64(0)
	for d.ctx.Err() == nil {
		list, err := d.f.box.Next(d.ctx, a.ID, after, 16)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, m := range list {
			done, err := d.one(a, m)
			if err != nil {
				return err
			}
			if done {
				if err := d.f.box.Delivered(d.ctx, m); err != nil {
					return err
				}
			}
			after = m.ID
		}
	}
	return nil
}

// one offers m to the phones, best first, until one takes it. What comes a second time
// after a crash has the same Call-ID and CSeq: 482 says that the phone has it.
func (d *delivery) one(a *ident.Account, m room.Message) (taken bool, err error) {
	ts := d.f.phones([]byte(a.Address), d.f.gate.Now(), nil, 0)
	if len(ts) == 0 {
		return false, errors.New("not registered any more")
	}
	last := 0
	for i := range ts {
		ctx, cancel := context.WithTimeout(d.ctx, 35*time.Second)
		code, err := d.f.gate.Send(ctx, d.f.h.Role, d.f.letter(a, m), ts[i])
		cancel()
		switch {
		case err != nil || code == 408 || code == 480 || code >= 500 && code < 600:
			last = max(last, 1)
		case code/100 == 2 || code == 482:
			return true, nil
		default:
			last = max(last, 2) // this phone does not want it: 415, 405, 603 …
		}
	}
	if last == 1 {
		return false, errors.New("no phone answered")
	}
	d.f.h.Log.Info("waiting message refused by every phone", "user", a.Address)
	return false, nil
}

// letter makes the MESSAGE that delivers m.
func (f *role) letter(a *ident.Account, m room.Message) *sip.Message {
	q := sip.NewRequest("MESSAGE", "sip:"+a.Address)
	from := m.From
	if !strings.Contains(from, ";tag=") {
		from += ";tag=w" + strconv.FormatInt(m.ID, 36)
	}
	q.Add(sip.HFrom, []byte(from))
	q.Add(sip.HTo, []byte(noTag(m.To)))
	q.Add(sip.HMaxForwards, []byte("70"))
	for _, line := range m.Headers {
		if name, value, ok := strings.Cut(line, ": "); ok {
			q.AddName(name, []byte(value))
		}
	}
	if !q.Has(sip.HCallID) { // kept by a version that did not note it
		q.Add(sip.HCallID, fmt.Appendf(nil, "w%d-%s@%s", m.ID, m.Key, f.h.Settings.Domain()))
		q.Add(sip.HCSeq, []byte("1 MESSAGE"))
	}
	if m.Type != "" {
		q.SetBody(m.Type, m.Body)
	}
	return q
}

func noTag(to string) string {
	if i := strings.LastIndexByte(to, '>'); i >= 0 {
		return to[:i+1]
	}
	to, _, _ = strings.Cut(to, ";")
	return to
}

// letterWatch writes the facts of a message between people who are there.
type letterWatch struct {
	f    *role
	sent room.Sent
}

func newLetter(f *role, r *route.Request) *letterWatch {
	cseq, _, _ := r.CSeq()
	return &letterWatch{f, room.Sent{Key: room.Key(r.CallID(), cseq, r.FromTag()), From: string(r.Get(sip.HFrom)),
		To: string(r.Get(sip.HTo)), Type: string(r.Get(sip.HContentType)), Size: len(r.Body())}}
}

// Passing implements proxy.Watcher.
func (l *letterWatch) Passing(_ *proxy.Context, code int, m *sip.Message, _ *proxy.Target) {
	if code/100 == 2 && m != nil { // our own 202 says that it is kept; the box tells of that
		l.f.record.add(l.sent)
		l.f.record.add(room.Delivered{Key: l.sent.Key, From: l.sent.From, To: l.sent.To})
	}
}

// Over implements proxy.Watcher.
func (l *letterWatch) Over(*proxy.Context, int) {}
