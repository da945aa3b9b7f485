package transport

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

func (r *rig) web(t *testing.T) string {
	s := httptest.NewServer(r.WebSocket(sip.LinkInfo{Door: "test/ws"}))
	t.Cleanup(s.Close)
	return "ws" + strings.TrimPrefix(s.URL, "http")
}

func browser(t *testing.T, url string, protocols []string, origin string) (*websocket.Conn, *http.Response, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	h := http.Header{}
	if origin != "" {
		h.Set("Origin", origin)
	}
	c, resp, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: protocols, HTTPHeader: h})
	if err == nil {
		c.SetReadLimit(2 << 20)
		t.Cleanup(func() { c.CloseNow() })
	}
	return c, resp, err
}

func TestWebSocket(t *testing.T) {
	r := newRig(t, Config{})
	r.on(ok)
	c, _, err := browser(t, r.web(t), []string{"other", "sip"}, "")
	is.NoErr(t, err)
	is.Equal(t, c.Subprotocol(), "sip")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for i := range 200 {
		kind := websocket.MessageText
		if i%2 == 1 {
			kind = websocket.MessageBinary
		}
		is.NoErr(t, c.Write(ctx, kind, []byte(options("WS", fmt.Sprint(i), "", strings.Repeat("x", i*100)))))
	}
	for i := range 200 {
		is.Equal(t, r.next(), fmt.Sprint(i))
		kind, b, err := c.Read(ctx)
		is.NoErr(t, err)
		is.Equal(t, kind, websocket.MessageText)
		is.True(t, strings.HasPrefix(string(b), "SIP/2.0 200") && strings.Contains(string(b), fmt.Sprintf("Call-ID: %d\r\n", i)), string(b))
	}
	f := r.flow()
	is.Equal(t, f.Link.Info().Transport, sip.WS)
	g, found := r.Find(sip.Hop{Transport: sip.WS, Addr: f.Remote})
	is.True(t, found && g == f, "found by where it came from")
	is.NoErr(t, f.Send([]byte("bin\xff")))
	kind, _, err := c.Read(ctx)
	is.NoErr(t, err)
	is.Equal(t, kind, websocket.MessageBinary, "what is no text goes as octets")
	is.NoErr(t, c.Write(ctx, websocket.MessageText, []byte("\r\n\r\n")))
	_, b, err := c.Read(ctx)
	is.NoErr(t, err)
	is.Equal(t, string(b), "\r\n")
	c.Close(websocket.StatusNormalClosure, "")
	is.Equal(t, <-r.gone, f.Link.Info().ID)
}

func TestWebSocketRefusals(t *testing.T) {
	r := newRig(t, Config{Origins: []string{"app.example.test"}, Limits: Limits{PerAddress: 2}})
	url := r.web(t)
	host := strings.TrimPrefix(url, "ws://")
	for _, c := range []struct {
		protocols []string
		origin    string
		status    int
	}{
		{nil, "", 400},
		{[]string{"xmpp"}, "", 400},
		{[]string{"sip"}, "https://evil.test", 403},
		{[]string{"sip"}, "https://app.example.test", 101},
		{[]string{"sip"}, "http://" + host, 101},
		{[]string{"sip"}, "", 503}, // the third from this address
	} {
		_, resp, err := browser(t, url, c.protocols, c.origin)
		is.True(t, resp != nil && resp.StatusCode == c.status, fmt.Sprint(c, err))
	}
}

func TestWebSocketLimits(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{Idle: 300 * time.Millisecond}})
	url := r.web(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, _, err := browser(t, url, []string{"sip"}, "")
	is.NoErr(t, err)
	is.NoErr(t, c.Write(ctx, websocket.MessageText, []byte(options("WS", "big", "", strings.Repeat("x", 1<<20)))))
	is.Equal(t, r.next(), "big")
	// The peer sees the end while it writes or when it reads on.
	if c.Write(ctx, websocket.MessageText, make([]byte, 1<<20+70000)) == nil {
		_, _, err = c.Read(ctx)
		is.True(t, err != nil, "too large")
	}
	<-r.gone
	c, _, err = browser(t, url, []string{"sip"}, "")
	is.NoErr(t, err)
	_, _, err = c.Read(ctx)
	is.True(t, err != nil && ctx.Err() == nil, "silent, hence cut off")
	is.Equal(t, r.Stats().Overdue, uint64(1))
}
