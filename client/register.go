package client

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"fernamt/wire/sip"
)

// registration keeps our binding. RFC 3261 §10.2, RFC 5626 §4.2
type registration struct {
	k      *Client
	callID string
	turn   chan struct{} // holds one token: one REGISTER at a time

	mu     sync.Mutex
	seq    uint32
	wanted bool
	until  time.Duration // what the registrar granted
	link   uint64        // the connection that it went over
	next   *time.Timer
	beat   *time.Timer
}

func (r *registration) init(k *Client) {
	r.k, r.callID = k, token()
	r.turn = make(chan struct{}, 1)
	r.turn <- struct{}{}
}

// Register binds our address to this device and keeps it bound until Unregister or Close.
// The code is the registrar's final answer.
func (k *Client) Register(ctx context.Context) (code int, err error) {
	k.reg.mu.Lock()
	k.reg.wanted = true
	k.reg.mu.Unlock()
	return k.reg.send(ctx, k.c.Expires)
}

// Unregister takes the binding back.
func (k *Client) Unregister(ctx context.Context) (code int, err error) {
	k.reg.halt()
	return k.reg.send(ctx, 0)
}

// UnregisterAll takes back every binding of our address: Contact: *. RFC 3261 §10.2.2
func (k *Client) UnregisterAll(ctx context.Context) (code int, err error) {
	k.reg.halt()
	return k.reg.send(ctx, -1)
}

// Registered asks the registrar for our bindings: the Contact values.
func (k *Client) Registered(ctx context.Context) ([]string, error) {
	m := k.reg.request()
	r, err := k.Do(ctx, m)
	if err != nil {
		return nil, err
	}
	if r.StatusCode() != 200 {
		return nil, fmt.Errorf("asking for bindings: %d %s", r.StatusCode(), r.Reason())
	}
	var list []string
	for v := range r.Values(sip.HContact) {
		list = append(list, string(v))
	}
	return list, nil
}

func (r *registration) halt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted = false
	for _, t := range []*time.Timer{r.next, r.beat} {
		if t != nil {
			t.Stop()
		}
	}
}

func (r *registration) request() *sip.Message {
	k := r.k
	_, domain, _ := strings.Cut(k.Address(), "@")
	m := k.request("REGISTER", "sip:"+domain)
	m.Set(sip.HTo, []byte("<sip:"+k.Address()+">"))
	m.Set(sip.HCallID, []byte(r.callID))
	r.mu.Lock()
	r.seq += 4 // room for tries with credentials, which count on by themselves
	m.Set(sip.HCSeq, []byte(strconv.FormatUint(uint64(r.seq), 10)+" REGISTER"))
	r.mu.Unlock()
	m.Set(sip.HSupported, []byte("path, outbound, gruu"))
	return m
}

// send registers for the given time; 0 takes the binding back, -1 all bindings.
func (r *registration) send(ctx context.Context, d time.Duration) (int, error) {
	select {
	case <-r.turn:
		defer func() { r.turn <- struct{}{} }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	k := r.k
	m := r.request()
	f, err := k.flow(m)
	if err != nil {
		return 0, fmt.Errorf("register %s: %w", k.Address(), err)
	}
	secs := max(0, int64(d/time.Second))
	if d < 0 {
		m.Set(sip.HContact, []byte("*"))
		secs = 0
	} else {
		m.Set(sip.HContact, []byte(r.contact(f)))
	}
	m.Set(sip.HExpires, strconv.AppendInt(nil, secs, 10))
	resp, err := k.Do(ctx, m)
	if err != nil {
		return 0, fmt.Errorf("register %s: %w", k.Address(), err)
	}
	code := resp.StatusCode()
	if code == 423 { // RFC 3261 §10.2.8
		if n, err := strconv.Atoi(string(resp.Get(sip.HMinExpires))); err == nil && n > 0 && time.Duration(n)*time.Second > d {
			k.c.Expires = time.Duration(n) * time.Second
			k.note(Seen{What: "refused", Code: 423})
			r.turn <- struct{}{}
			code, err := r.send(ctx, k.c.Expires)
			<-r.turn
			return code, err
		}
	}
	r.heard(resp, f, d)
	return code, nil
}

// contact is our Contact in REGISTER.
func (r *registration) contact(f sip.Flow) string {
	c := strings.Replace(r.k.contact(f), ";ob>", ">", 1)
	if r.k.c.Outbound {
		c += `;+sip.instance="<` + r.k.c.Instance + `>";reg-id=1`
	}
	if r.k.c.Q != "" {
		c += ";q=" + r.k.c.Q
	}
	return c
}

func (r *registration) heard(m *sip.Message, f sip.Flow, d time.Duration) {
	k := r.k
	code := m.StatusCode()
	switch {
	case code/100 != 2:
		k.note(Seen{What: "refused", Code: code, Message: m})
	case d <= 0:
		k.note(Seen{What: "unregistered", Code: code, Message: m})
	default:
		k.note(Seen{What: "registered", Code: code, Message: m})
		r.granted(m, f)
	}
}

// granted sets the next refresh and the keep-alive.
func (r *registration) granted(m *sip.Message, f sip.Flow) {
	got := r.k.c.Expires
	want := r.k.contact(f)
	want = strings.TrimSuffix(strings.TrimSuffix(want, ">"), ";ob")
	for v := range m.Values(sip.HContact) {
		a, err := sip.ParseAddress(v)
		if err != nil || !strings.HasPrefix("<"+string(a.RawURI), want) {
			continue
		}
		if e, ok := a.Param("expires"); ok {
			if n, err := strconv.Atoi(string(e)); err == nil && n > 0 {
				got = time.Duration(n) * time.Second
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.link, r.until = f.Link.Info().ID, got
	if !r.wanted {
		return
	}
	if r.next != nil {
		r.next.Stop()
	}
	r.next = time.AfterFunc(max(got-got/10-time.Second/2, time.Second), func() { r.again() })
	if r.k.c.KeepAlive > 0 {
		if r.beat != nil {
			r.beat.Stop()
		}
		r.beat = time.AfterFunc(r.k.c.KeepAlive, func() { r.alive(f) })
	}
}

// again registers once more; when that fails it goes on trying. RFC 5626 §4.5
func (r *registration) again() {
	r.mu.Lock()
	wanted := r.wanted
	r.mu.Unlock()
	if !wanted || r.k.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(r.k.ctx, 32*time.Second)
	defer cancel()
	code, err := r.send(ctx, r.k.c.Expires)
	if err == nil && code/100 == 2 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wanted {
		r.next = time.AfterFunc(2*time.Second, func() { r.again() })
	}
}

// lost is told of a connection's end: with outbound the client comes back by itself.
func (r *registration) lost(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.wanted || !r.k.c.Outbound || r.link != id || r.k.ctx.Err() != nil {
		return
	}
	if r.next != nil {
		r.next.Stop()
	}
	r.next = time.AfterFunc(50*time.Millisecond, func() { r.again() })
}

// alive keeps the way open: two CRLF on a stream, a STUN binding request on UDP.
// RFC 5626 §4.4
func (r *registration) alive(f sip.Flow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.wanted || r.k.ctx.Err() != nil {
		return
	}
	if f.Send(ping(f)) == nil {
		r.beat = time.AfterFunc(r.k.c.KeepAlive, func() { r.alive(f) })
	}
}

func ping(f sip.Flow) []byte {
	if f.Link.Info().Transport != sip.UDP {
		return []byte("\r\n\r\n")
	}
	b := make([]byte, 20) // RFC 8489 §5: type, length, cookie, transaction
	b[1] = 1
	copy(b[4:], "\x21\x12\xa4\x42"+token()[:12])
	return b
}
