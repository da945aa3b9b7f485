package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/coder/websocket"

	"fernamt/wire/clock"
	"fernamt/wire/sip"
)

// subprotocol is what a client must offer (RFC 7118 §4.1).
const subprotocol = "sip"

// WebSocket serves SIP over WebSocket (RFC 7118): WSS when the request came by TLS and in does not say otherwise. A page
// may open one from the host that it came from and from Config.Origins. One message of the WebSocket is one SIP message.
func (l *Layer) WebSocket(in sip.LinkInfo) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !offers(r, subprotocol) {
			http.Error(w, "the subprotocol sip is required", http.StatusBadRequest)
			return
		}
		remote, _ := netip.ParseAddrPort(r.RemoteAddr)
		remote = unmap(remote)
		if err := l.admit(remote, false); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{subprotocol},
			OriginPatterns: l.c.Origins})
		if err != nil { // Accept has answered
			l.release(remote, false)
			return
		}
		k := &conn{l: l, info: l.describe(describeWeb(in, r)), remote: remote, ws: ws}
		l.enter(k)
		if err := k.serve(r.Context()); err != nil {
			l.log.Debug("websocket ended", "err", err, "peer", remote)
		}
	})
}

func describeWeb(in sip.LinkInfo, r *http.Request) sip.LinkInfo {
	if in.ID = 0; in.Transport == 0 {
		in.Transport = sip.WS
		if r.TLS != nil {
			in.Transport = sip.WSS
		}
	}
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && !in.Local.IsValid() {
		in.Local = addrPort(a)
	}
	return in
}

func offers(r *http.Request, name string) bool {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(p), name) {
				return true
			}
		}
	}
	return false
}

// readWeb receives until the WebSocket ends.
func (c *conn) readWeb(ctx context.Context) error {
	limits := &c.l.c.Limits
	c.ws.SetReadLimit(int64(limits.Header + limits.Body))
	m := new(sip.Message)
	for {
		_, r, err := c.ws.Reader(ctx)
		if err != nil {
			return endedWeb(err)
		}
		c.due.Store(clock.Mono() + int64(limits.Message))
		buf, err := readAll(r)
		if err != nil {
			giveBuffer(buf)
			return endedWeb(err)
		}
		c.rest(!c.web(m, buf))
		giveBuffer(buf)
	}
}

// web handles one message of a WebSocket and says whether it was a keep-alive.
func (c *conn) web(m *sip.Message, b []byte) (ping bool) {
	n := 0
	for n < len(b) && (b[n] == '\r' || b[n] == '\n') {
		n++
	}
	if n == len(b) {
		if n >= 4 { // as on other streams, RFC 5626 §4.4.1
			c.l.count.keepalives.Add(1)
			_ = c.send([]byte("\r\n")) // an error shows up at the next read
		}
		return true
	}
	c.l.count.in[c.info.Transport].Add(1)
	c.deliver(m, b[n:], clock.Mono())
	return false
}

// readAll reads one message into a lent buffer, or a larger one.
func readAll(r io.Reader) ([]byte, error) {
	b := takeBuffer()
	for {
		if cap(b)-len(b) < 512 {
			bigger := append(make([]byte, 0, 2*cap(b)), b...)
			giveBuffer(b)
			b = bigger
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

func endedWeb(err error) error {
	switch websocket.CloseStatus(err) {
	case websocket.StatusNormalClosure, websocket.StatusGoingAway, websocket.StatusNoStatusRcvd:
		return nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("websocket: %w", err)
}
