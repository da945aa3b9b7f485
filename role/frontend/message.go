package frontend

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"fernamt/core/ident"
	"fernamt/core/room"
	"fernamt/core/route"
	"fernamt/wire/proxy"
	"fernamt/wire/sip"
)

// onMessage sends a MESSAGE to the person's phones, or keeps it when there are none
// (RFC 3428).
func (f *role) onMessage(r *route.Request) {
	ts := f.phones(r.To.AOR, r.Now, nil, 0)
	if len(ts) > 0 {
		plan := proxy.Plan{Element: r.Role, Targets: ts}
		if f.RecordMessages {
			plan.Watch = newLetter(f, r)
		}
		r.Forward(&plan)
		return
	}
	if !f.OfflineMessages || r.From.How < route.User {
		r.Reply(480, nil)
		return
	}
	c := f.gate.Proxy().Begin(r.Message)
	if c == nil {
		return
	}
	m, a := r.Clone(), r.To.Account
	go f.keep(c, m, a)
}

// keep stores m and acknowledges it only then.
func (f *role) keep(c *proxy.Context, m *sip.Message, a *ident.Account) {
	cseq, _, _ := m.CSeq()
	k := room.Message{Account: a.ID, Key: room.Key(m.CallID(), cseq, m.FromTag()), From: string(m.Get(sip.HFrom)),
		To: string(m.Get(sip.HTo)), Type: string(m.Get(sip.HContentType)), Body: m.Body(), At: time.Now()}
	for _, h := range [...]sip.Header{sip.HSubject, sip.HPAssertedIdentity, sip.HContentEncoding, sip.HOrganization} {
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
		if len(f.phones([]byte(a.Address), f.gate.Now(), nil, 0)) > 0 { // somebody came meanwhile
			f.deliver.to(a)
		}
	}
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
		if err := d.hand(a); err != nil && d.ctx.Err() == nil {
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
	q.Add(sip.HCallID, fmt.Appendf(nil, "w%d-%s@%s", m.ID, m.Key, f.h.Settings.Domain()))
	q.Add(sip.HCSeq, []byte("1 MESSAGE"))
	q.Add(sip.HMaxForwards, []byte("70"))
	for _, line := range m.Headers {
		if name, value, ok := strings.Cut(line, ": "); ok {
			q.AddName(name, []byte(value))
		}
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
func (l *letterWatch) Passing(_ *proxy.Context, code int, _ *sip.Message, _ *proxy.Target) {
	if code/100 == 2 {
		l.f.record.add(l.sent)
		l.f.record.add(room.Delivered{Key: l.sent.Key, From: l.sent.From, To: l.sent.To})
	}
}

// Over implements proxy.Watcher.
func (l *letterWatch) Over(*proxy.Context, int) {}
