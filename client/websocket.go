package client

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"fernamt/wire/sip"
)

// web is a WebSocket connection seen as a stream of SIP messages: each message that is
// written becomes one frame. RFC 6455, RFC 7118. The side of a server is in wire/transport;
// this is a client's, small, because only tests and calls from the command line need it.
type web struct {
	net.Conn
	r    *bufio.Reader
	left uint64 // octets of the frame that is being read

	mu sync.Mutex // guards writing
}

// connectWeb opens a WebSocket to hop, or gives the one that is open.
func (k *Client) connectWeb(ctx context.Context, hop sip.Hop) (sip.Flow, error) {
	if f, ok := k.tr.Find(hop); ok {
		return f, nil
	}
	c, _, err := k.dial(ctx, hop)
	if err != nil {
		return sip.Flow{}, err
	}
	w, err := upgrade(c, hop)
	if err != nil {
		c.Close()
		return sip.Flow{}, fmt.Errorf("websocket %v: %w", hop.Addr, err)
	}
	in := sip.LinkInfo{Transport: hop.Transport, Dialled: true}
	if hop.Host != "" && hop.Transport == sip.WSS {
		in.Peer = []string{hop.Host} // Dial has checked the certificate for that name
	}
	k.spawn(func() {
		err := k.tr.ServeConn(k.ctx, w, in)
		k.log.Debug("websocket ended", "user", k.Address(), "err", err)
	})
	if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		hop.Addr = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	if err := k.await(hop); err != nil {
		return sip.Flow{}, err
	}
	f, _ := k.tr.Find(hop)
	return f, nil
}

// upgrade asks for the protocol change. RFC 6455 §4.1, RFC 7118 §4.1
func upgrade(c net.Conn, hop sip.Hop) (*web, error) {
	var key [16]byte
	rand.Read(key[:])
	k := base64.StdEncoding.EncodeToString(key[:])
	host := hop.Host
	if host == "" {
		host = hop.Addr.Addr().String()
	}
	c.SetDeadline(time.Now().Add(5 * time.Second))
	_, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n", bracket(host), k)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(c, 4096)
	resp, err := http.ReadResponse(r, &http.Request{Method: "GET"})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("server says %s", resp.Status)
	}
	sum := sha1.Sum([]byte(k + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if resp.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]) ||
		!strings.EqualFold(resp.Header.Get("Sec-WebSocket-Protocol"), "sip") {
		return nil, errors.New("server did not agree to sip over websocket")
	}
	c.SetDeadline(time.Time{})
	return &web{Conn: c, r: r}, nil
}

func bracket(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// Frame kinds. RFC 6455 §5.2
const (
	webText  = 1
	webClose = 8
	webPing  = 9
	webPong  = 10
)

// Read gives what the frames of messages carry.
func (w *web) Read(b []byte) (int, error) {
	for w.left == 0 {
		if err := w.next(); err != nil {
			return 0, err
		}
	}
	n, err := w.r.Read(b[:min(uint64(len(b)), w.left)])
	w.left -= uint64(n)
	return n, err
}

// next reads the head of the next frame that carries a message; it answers pings.
func (w *web) next() error {
	var h [8]byte
	if _, err := io.ReadFull(w.r, h[:2]); err != nil {
		return err
	}
	kind, n := h[0]&15, uint64(h[1]&127)
	if h[1]&128 != 0 {
		return errors.New("websocket: server masks its frames")
	}
	switch n {
	case 126:
		if _, err := io.ReadFull(w.r, h[:2]); err != nil {
			return err
		}
		n = uint64(binary.BigEndian.Uint16(h[:2]))
	case 127:
		if _, err := io.ReadFull(w.r, h[:8]); err != nil {
			return err
		}
		n = binary.BigEndian.Uint64(h[:8])
	}
	if kind < webClose {
		w.left = n
		return nil
	}
	if n > 125 {
		return errors.New("websocket: control frame too long")
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(w.r, body); err != nil {
		return err
	}
	switch kind {
	case webPing:
		return w.frame(webPong, body)
	case webClose:
		w.frame(webClose, body)
		return io.EOF
	}
	return nil
}

// Write sends each message in b as a frame of its own; CRLFs alone are one too.
func (w *web) Write(b []byte) (int, error) {
	total := len(b)
	for len(b) > 0 {
		n := 0
		for n < len(b) && (b[n] == '\r' || b[n] == '\n') {
			n++
		}
		if n == 0 {
			var err error
			if n, err = sip.Frame(b); err != nil || n == 0 {
				n = len(b)
			}
		}
		if err := w.frame(webText, b[:n]); err != nil {
			return 0, err
		}
		b = b[n:]
	}
	return total, nil
}

// frame sends one masked frame. RFC 6455 §5.3
func (w *web) frame(kind byte, body []byte) error {
	b := make([]byte, 0, len(body)+14)
	b = append(b, 0x80|kind)
	switch {
	case len(body) < 126:
		b = append(b, 0x80|byte(len(body)))
	case len(body) < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(len(body)))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(len(body)))
	}
	var mask [4]byte
	rand.Read(mask[:])
	b = append(b, mask[:]...)
	for i, c := range body {
		b = append(b, c^mask[i&3])
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.Conn.Write(b)
	return err
}
