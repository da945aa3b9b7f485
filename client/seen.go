package client

import (
	"context"
	"fmt"
	"strings"

	"fernamt/wire/dialog"
	"fernamt/wire/sip"
)

// Seen is one thing that a client saw. What is one of:
//
//	invite      somebody calls: Call, From
//	progress    our call: a provisional response, Code
//	answered    our call: 2xx
//	failed      our call: Code
//	confirmed   a call to us: ACK came
//	cancelled   a call to us: the caller gave up
//	updated     the peer changed the media: Text is "hold" or "active"
//	reply       final response to a request of ours in a call: Text is the method, Code
//	inside      INFO, MESSAGE, ... in a call: Method in Text, body in Message
//	refer       the peer asks us to call: Text is the URI
//	transfer    how far our REFER is: Code; Text "last" at the end
//	ended       a call is over: Text says why
//	message     MESSAGE: Text is its body, From
//	options     OPTIONS
//	active, notify, over   a subscription of ours: accepted, NOTIFY with body in Text, ended
//	subscribe   somebody subscribes to us
//	registered, unregistered, refused   Code
//	disconnected  a connection of ours is gone
type Seen struct {
	N       int // counts from 0
	What    string
	Code    int
	From    string // the peer's address, "bob@example.test"
	Text    string
	Call    *dialog.Call
	Message *sip.Message
	Event   dialog.Event
}

// String tells it in a line.
func (s Seen) String() string {
	parts := []string{s.What}
	if s.Code != 0 {
		parts = append(parts, fmt.Sprint(s.Code))
	}
	if s.From != "" {
		parts = append(parts, "from "+s.From)
	}
	if s.Text != "" {
		parts = append(parts, fmt.Sprintf("%q", s.Text))
	}
	return strings.Join(parts, " ")
}

// seenKept bounds the log; what is older is forgotten.
const seenKept = 4096

func (k *Client) note(s Seen) {
	k.mu.Lock()
	s.N = k.first + len(k.seen)
	if len(k.seen) == seenKept {
		k.seen = append([]Seen(nil), k.seen[seenKept/2:]...)
		k.first += seenKept / 2
	}
	k.seen = append(k.seen, s)
	close(k.wake)
	k.wake = make(chan struct{})
	k.mu.Unlock()
}

// Mark gives the number that the next thing seen will have.
func (k *Client) Mark() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.first + len(k.seen)
}

// Since gives what was seen from number n on.
func (k *Client) Since(n int) []Seen {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]Seen(nil), k.seen[min(max(0, n-k.first), len(k.seen)):]...)
}

// Wait gives the first thing from number n on that match likes. When ctx ends first the
// error lists what was seen instead.
func (k *Client) Wait(ctx context.Context, n int, match func(Seen) bool) (Seen, error) {
	for {
		k.mu.Lock()
		wake := k.wake
		for _, s := range k.seen[min(max(0, n-k.first), len(k.seen)):] {
			if match(s) {
				k.mu.Unlock()
				return s, nil
			}
			n = s.N + 1
		}
		k.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return Seen{}, ctx.Err()
		}
	}
}

// Saw waits for something by its name, from number n on.
func (k *Client) Saw(ctx context.Context, n int, what string) (Seen, error) {
	s, err := k.Wait(ctx, n, func(s Seen) bool { return s.What == what })
	if err != nil {
		return s, fmt.Errorf("%s waits for %s, saw %v: %w", k.Address(), what, k.Since(n), err)
	}
	return s, nil
}

// aor gives "user@host" of an address header's value.
func aor(v []byte) string {
	a, err := sip.ParseAddress(v)
	if err != nil {
		return string(v)
	}
	return string(a.URI.AppendAOR(nil))
}
