package client

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"testing"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

// still is a connection that takes everything and says nothing.
type still struct{ net.Conn }

func (still) Write(b []byte) (int, error) { return len(b), nil }

func read(b []byte) ([]byte, error) {
	w := &web{Conn: still{}, r: bufio.NewReader(bytes.NewReader(b))}
	return io.ReadAll(w)
}

func TestWebFrames(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 300)
	for _, c := range []struct {
		name string
		in   []byte
		want string
		err  string
	}{
		{"two frames", []byte("\x81\x03abc\x82\x02de"), "abcde", ""},
		{"a message in parts", []byte("\x01\x01a\x80\x01b"), "ab", ""},
		{"a ping between", []byte("\x81\x01a\x89\x01p\x81\x01b"), "ab", ""},
		{"sixteen bits of length", append([]byte("\x81\x7e\x01\x2c"), long...), string(long), ""},
		{"sixty-four bits", append([]byte("\x81\x7f\x00\x00\x00\x00\x00\x00\x01\x2c"), long...), string(long), ""},
		{"close ends it", []byte("\x81\x01a\x88\x00\x81\x01b"), "a", ""},
		{"a server must not mask", []byte("\x81\x81mask"), "", "masks"},
		{"a control frame of 126", []byte("\x89\x7e\x00\x7e"), "", "too long"},
		{"an end within a head", []byte("\x81"), "", "unexpected EOF"},
	} {
		got, err := read(c.in)
		is.Equal(t, string(got), c.want, c.name)
		if c.err == "" {
			is.NoErr(t, err, c.name)
		} else {
			is.Err(t, err, c.err)
		}
	}
}

// Two messages written at once become two masked frames. RFC 7118 §5.2.1
func TestWebWrite(t *testing.T) {
	a, b := net.Pipe()
	w := &web{Conn: a}
	one := "OPTIONS sip:a SIP/2.0\r\nContent-Length: 2\r\n\r\nhi"
	go func() {
		w.Write([]byte(one + one + "\r\n\r\n"))
		a.Close()
	}()
	all, err := io.ReadAll(b)
	is.NoErr(t, err)
	var got []string
	for len(all) > 0 {
		n := int(all[1] & 127)
		is.True(t, all[1]&128 != 0, "masked")
		body := all[6 : 6+n]
		for i := range body {
			body[i] ^= all[2+i&3]
		}
		got = append(got, string(body))
		all = all[6+n:]
	}
	is.Equal(t, got, []string{one, one, "\r\n\r\n"})
}

func TestUpgradeRefused(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\nSec-WebSocket-Protocol: sip\r\n\r\n",
		"SIP/2.0 200 OK\r\n\r\n",
	} {
		a, b := net.Pipe()
		go func() {
			b.Read(make([]byte, 4096))
			io.WriteString(b, answer)
			b.Close()
		}()
		_, err := upgrade(a, sip.Hop{Host: "x"})
		is.True(t, err != nil, answer)
	}
}

func FuzzWeb(f *testing.F) {
	f.Add([]byte("\x81\x03abc\x89\x01p\x88\x00"))
	f.Add([]byte("\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xffabc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, _ := read(b)
		is.True(t, len(got) <= len(b), "more came out than went in")
	})
}
