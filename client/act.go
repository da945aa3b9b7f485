package client

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"fernamt/wire/dialog"
	"fernamt/wire/sip"
)

// uri makes "bob", "bob@example.test" and "sip:..." a URI.
func (k *Client) uri(to string) string {
	switch {
	case strings.Contains(to, ":") && !strings.HasPrefix(to, "["):
		return to
	case !strings.Contains(to, "@"):
		_, domain, _ := strings.Cut(k.Address(), "@")
		return "sip:" + to + "@" + domain
	}
	return "sip:" + to
}

// Invite begins a call. Lines are more header lines.
func (k *Client) Invite(to string, lines ...string) *dialog.Call {
	return k.invite(k.uri(to), false, lines)
}

// InviteLate begins a call and lets the callee make the offer.
func (k *Client) InviteLate(to string) *dialog.Call { return k.invite(k.uri(to), true, nil) }

func (k *Client) invite(uri string, late bool, lines []string) *dialog.Call {
	c := k.agent.Invite(dialog.Invite{Target: uri, From: k.From(), Media: k.c.Media, Late: late, Lines: lines})
	k.mu.Lock()
	k.calls = append(k.calls, c)
	k.mu.Unlock()
	return c
}

// Answer accepts a call with the client's media.
func (k *Client) Answer(c *dialog.Call) { c.Accept(k.c.Media) }

// Media is what the client answers calls with.
func (k *Client) Media() dialog.Media { return k.c.Media }

// Calls lists the calls that are not over, oldest first.
func (k *Client) Calls() []*dialog.Call {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]*dialog.Call(nil), k.calls...)
}

// Ask makes a request to somebody outside any call, ready for Do.
func (k *Client) Ask(method, to string) *sip.Message { return k.request(method, k.uri(to)) }

func (k *Client) request(method, uri string) *sip.Message {
	m := sip.NewRequest(method, uri)
	m.Set(sip.HFrom, []byte(k.From()))
	return m
}

// Do sends a request and waits for its final response. The error says why there is none.
func (k *Client) Do(ctx context.Context, m *sip.Message) (*sip.Message, error) {
	type result struct {
		m   *sip.Message
		err error
	}
	done := make(chan result, 1)
	method := string(m.MethodName()) // from Send on the message is the agent's
	k.agent.Send(m, func(m *sip.Message, err error) { done <- result{m, err} })
	select {
	case r := <-done:
		return r.m, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%s from %s: %w", method, k.Address(), ctx.Err())
	}
}

// Message sends text and gives the status of the answer.
func (k *Client) Message(ctx context.Context, to, text string) (int, error) {
	m := k.Ask("MESSAGE", to)
	m.SetBody("text/plain;charset=UTF-8", []byte(text))
	return k.code(k.Do(ctx, m))
}

// Options asks what somebody can do and gives the status of the answer.
func (k *Client) Options(ctx context.Context, to string) (int, error) {
	return k.code(k.Do(ctx, k.Ask("OPTIONS", to)))
}

func (k *Client) code(m *sip.Message, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	return m.StatusCode(), nil
}

// Publish publishes a state of ours. etag is what an earlier answer gave, "" at first; the
// new one comes back. RFC 3903
func (k *Client) Publish(ctx context.Context, event, contentType string, body []byte, etag string) (code int, newTag string, err error) {
	m := k.Ask("PUBLISH", k.Address())
	m.Set(sip.HEvent, []byte(event))
	m.Set(sip.HExpires, strconv.AppendInt(nil, int64(k.c.Expires/time.Second), 10))
	if etag != "" {
		m.Set(sip.HSIPIfMatch, []byte(etag))
	}
	if len(body) > 0 {
		m.SetBody(contentType, body)
	}
	r, err := k.Do(ctx, m)
	if err != nil {
		return 0, "", err
	}
	return r.StatusCode(), string(r.Get(sip.HSIPETag)), nil
}

// Subscribe subscribes to somebody's state. What comes is seen as active, notify, over.
func (k *Client) Subscribe(to, event, accept string, expires time.Duration) *dialog.Subscription {
	return k.agent.Subscribe(dialog.Subscribe{Target: k.uri(to), From: k.From(), Event: event, Accept: accept, Expires: expires})
}

// Digits sends DTMF by INFO, the way of phones without RFC 4733.
func (k *Client) Digits(c *dialog.Call, digits string) {
	for _, d := range digits {
		c.Send("INFO", "application/dtmf-relay", fmt.Appendf(nil, "Signal=%c\r\nDuration=160\r\n", d))
	}
}
