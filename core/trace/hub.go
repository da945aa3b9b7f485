package trace

import (
	"bytes"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fernamt/wire/sip"
)

// Message is one SIP message as it passed, secrets starred, in memory of its own.
type Message struct {
	Time      time.Time
	Out       bool // we sent it
	Transport sip.Transport
	Local     netip.AddrPort
	Remote    netip.AddrPort
	Door      string // where it came in; "" on a connection that we opened
	Bytes     []byte
}

// Hub hands messages to those who listen.
type Hub struct {
	ears atomic.Pointer[[]*Ear] // nil while nobody listens
	mu   sync.Mutex             // guards changes of ears
}

// NewHub returns a hub that nobody listens to.
func NewHub() *Hub { return &Hub{} }

// Ear is one listener. Read C until it is closed; what a slow reader misses is
// counted in Lost.
type Ear struct {
	C    <-chan Message
	Lost atomic.Uint64

	c      chan Message
	hub    *Hub
	filter filter
}

// Listen starts a listener that hears what filter names: "" everything, an address
// ("alice", "alice@example.test", "sip:alice@example.test"), a peer's IP address
// with or without port, or a Call-ID. queue is how many messages may wait for it.
func (h *Hub) Listen(what string, queue int) *Ear {
	e := &Ear{c: make(chan Message, max(queue, 1)), hub: h, filter: newFilter(what)}
	e.C = e.c
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*Ear
	if p := h.ears.Load(); p != nil {
		all = append(all, *p...)
	}
	all = append(all, e)
	h.ears.Store(&all)
	return e
}

// Close ends the listener. C stays open, so that a sender in mid-send never meets a
// closed channel; nothing more arrives on it.
func (e *Ear) Close() {
	h := e.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.ears.Load()
	if p == nil {
		return
	}
	var all []*Ear
	for _, x := range *p {
		if x != e {
			all = append(all, x)
		}
	}
	if len(all) == 0 {
		h.ears.Store(nil)
		return
	}
	h.ears.Store(&all)
}

// Active says that somebody listens.
func (h *Hub) Active() bool { return h.ears.Load() != nil }

// SIP hands on a message that came from, or goes to, f. b is only read. It is fit
// for transport's Trace hook and never blocks.
func (h *Hub) SIP(out bool, f sip.Flow, b []byte) {
	p := h.ears.Load()
	if p == nil {
		return
	}
	var m Message
	for _, e := range *p {
		if !e.filter.match(f.Remote, b) {
			continue
		}
		if m.Bytes == nil {
			m = message(out, f, b)
		}
		select {
		case e.c <- m:
		default:
			e.Lost.Add(1)
		}
	}
}

func message(out bool, f sip.Flow, b []byte) Message {
	m := Message{Time: time.Now(), Out: out, Remote: f.Remote, Bytes: Star(b)}
	if f.Link != nil {
		if i := f.Link.Info(); i != nil {
			m.Transport, m.Local, m.Door = i.Transport, i.Local, i.Door
		}
	}
	return m
}

// filter is what a listener wants to hear.
type filter struct {
	text []byte // in the message's head, lower case; nil: everything
	addr netip.Addr
	port uint16
}

func newFilter(what string) filter {
	what = strings.ToLower(strings.TrimSpace(what))
	if what == "" {
		return filter{}
	}
	if ap, err := netip.ParseAddrPort(what); err == nil {
		return filter{addr: ap.Addr(), port: ap.Port()}
	}
	if a, err := netip.ParseAddr(what); err == nil {
		return filter{addr: a}
	}
	for _, scheme := range []string{"sip:", "sips:", "tel:"} {
		what = strings.TrimPrefix(what, scheme)
	}
	return filter{text: []byte(what)}
}

func (f filter) match(remote netip.AddrPort, b []byte) bool {
	if f.addr.IsValid() {
		return remote.Addr().Unmap() == f.addr.Unmap() && (f.port == 0 || f.port == remote.Port())
	}
	if f.text == nil {
		return true
	}
	head := b
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		head = b[:i]
	}
	return holdsWord(bytes.ToLower(head), f.text)
}

// holdsWord looks for word with no letter, digit, dot or dash at its ends, so that
// "al" does not find alice and "example.test" does not find "my.example.test".
func holdsWord(b, word []byte) bool {
	for {
		i := bytes.Index(b, word)
		if i < 0 {
			return false
		}
		end := i + len(word)
		if (i == 0 || !inWord(b[i-1])) && (end == len(b) || !inWord(b[end])) {
			return true
		}
		b = b[i+1:]
	}
}

func inWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
}
