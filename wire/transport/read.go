package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"fernamt/wire/clock"
	"fernamt/wire/sip"
)

var (
	errOverdue = errors.New("silent or too slow for too long")
	errFraming = errors.New("cannot tell where the message ends")
)

// messages are lent to connections while octets are on their way.
var messages = sync.Pool{New: func() any { return new(sip.Message) }}

// read receives until the connection ends. While it waits for a message's first octets it holds no buffer.
func (c *conn) read() error {
	for {
		n, err := c.nc.Read(c.tiny[:])
		if n > 0 {
			if err := c.burst(n); err != nil {
				return err
			}
		}
		if err != nil {
			return ended(err)
		}
	}
}

// ended makes a peer's orderly end no error.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("read: %w", err)
}

// burst reads on until every message that began is whole and delivered.
func (c *conn) burst(n int) error {
	buf := takeBuffer()
	m := messages.Get().(*sip.Message)
	defer func() {
		giveBuffer(buf)
		m.Reset()
		messages.Put(m)
	}()
	buf = append(buf, c.tiny[:n]...)
	c.scanned, c.need, c.inside = 0, 0, false
	for {
		left, err := c.consume(m, buf)
		if err != nil {
			c.finish()
			return err
		}
		// What was consumed makes room.
		buf = buf[:copy(buf, left)]
		if len(buf) == 0 {
			return nil
		}
		if buf, err = c.more(buf); err != nil {
			return ended(err)
		}
	}
}

// more reads once into buf's free room and makes room when there is little.
func (c *conn) more(buf []byte) ([]byte, error) {
	if cap(buf)-len(buf) < 512 {
		bigger := make([]byte, len(buf), min(2*cap(buf), c.l.c.Limits.Header+c.l.c.Limits.Body+bufferSize))
		copy(bigger, buf)
		giveBuffer(buf)
		buf = bigger
	}
	n, err := c.nc.Read(buf[len(buf):cap(buf)])
	if n > 0 {
		err = nil // what came counts first; the error comes again
	}
	return buf[:len(buf)+n], err
}

// consume takes keep-alives and whole messages off b's front and gives what is left.
func (c *conn) consume(m *sip.Message, b []byte) ([]byte, error) {
	for {
		if c.scanned == 0 {
			b = c.skip(b)
		}
		if len(b) == 0 {
			c.rest(false)
			return b, nil
		}
		if len(b) == 1 && b[0] == '\r' { // half a CRLF
			c.begin()
			return b, nil
		}
		n, err := c.frame(m, b)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return b, nil
		}
		end := n
		if n == len(b) {
			end = cap(b) // nothing follows, so edits may use the room behind
		}
		now := clock.Mono()
		c.l.count.in[c.info.Transport].Add(1)
		c.deliver(m, b[:n:end], now)
		b = b[n:]
		c.scanned, c.need, c.inside, c.half = 0, 0, false, false
		c.rest(true)
	}
}

func (c *conn) deliver(m *sip.Message, b []byte, now int64) {
	if !c.alias {
		c.l.handUp(m, c.flow(), b, now, func(m *sip.Message) {
			c.findAlias(m) // whoever forwards m puts a Via of ours on top
			c.l.c.Receive(m)
		})
		return
	}
	c.l.deliver(m, c.flow(), b, now)
}

// skip takes CRLFs off b's front. Two in a row are a ping, answered with one (RFC 5626 §4.4.1); one is a pong, or
// decoration (RFC 3261 §7.5).
func (c *conn) skip(b []byte) []byte {
	for len(b) > 0 {
		switch {
		case b[0] == '\n':
			b = b[1:]
			continue
		case b[0] != '\r' || len(b) > 1 && b[1] != '\n':
			c.half = false
			return b
		case len(b) == 1:
			return b
		}
		b = b[2:]
		if c.half = !c.half; !c.half {
			c.l.count.keepalives.Add(1)
			// An error shows up at the next read.
			_ = c.send([]byte("\r\n"))
		}
	}
	return b
}

// frame gives the length of the message at b's front, 0 while it is not whole, and keeps its times and sizes in bounds.
// Asking sip.Frame anew for each octet of a slow peer would cost the square of the length, so it is asked when the first
// octets are there, when the header ends, and when the body can be whole.
func (c *conn) frame(m *sip.Message, b []byte) (int, error) {
	limits := &c.l.c.Limits
	switch {
	case c.need > 0 && len(b) < c.need:
		return 0, nil
	case c.need == 0 && c.scanned > 0 && !c.header(b):
		if len(b) > limits.Header {
			return 0, c.reject(m, b, 513)
		}
		return 0, nil
	}
	n, err := sip.Frame(b)
	if err != nil {
		e := &sip.Error{Status: 400}
		errors.As(err, &e)
		return 0, c.reject(m, b[:max(n, c.scanned)], e.Status)
	}
	if n == 0 {
		c.begin()
	}
	if c.need == 0 && (n == 0 || n > limits.Header) {
		c.header(b)
	}
	size := n
	if n == 0 {
		size = max(c.need, len(b))
	}
	switch {
	case c.need > 0 && c.scanned > limits.Header:
		return 0, c.reject(m, b[:c.scanned], 513)
	case size-c.scanned > limits.Body && c.need > 0, size > limits.Header+limits.Body:
		return 0, c.reject(m, b[:min(len(b), size)], 413)
	}
	return n, nil
}

// header looks for the end of the header, and then knows how much the message needs.
func (c *conn) header(b []byte) bool {
	from := max(0, c.scanned-3)
	k := bytes.Index(b[from:], []byte("\r\n\r\n"))
	if k < 0 {
		c.scanned = len(b)
		return false
	}
	c.scanned = from + k + 4
	c.need = c.scanned + contentLength(b[:c.scanned])
	c.due.Store(clock.Mono() + int64(c.l.c.Limits.Rest))
	return true
}

// begin starts the time that a header may take.
func (c *conn) begin() {
	if !c.inside {
		c.inside = true
		c.due.Store(clock.Mono() + int64(c.l.c.Limits.Message))
	}
}

// reject answers a message after which the stream cannot be read on.
func (c *conn) reject(m *sip.Message, b []byte, status int) error {
	if status == 400 {
		c.l.count.malformed.Add(1)
	} else {
		c.l.count.tooLarge.Add(1)
	}
	c.l.oversize(m, c.flow(), b[:len(b):len(b)], status)
	return fmt.Errorf("%w: %d", errFraming, status)
}

// finish lets the last answer reach the peer: closing with octets unread would throw it away.
func (c *conn) finish() {
	c.flush()
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.due.Store(clock.Mono() + int64(time.Second))
	_, _ = io.CopyN(io.Discard, c.nc, int64(c.l.c.Limits.Body))
}

// contentLength reads how long the header says that the body is, 0 when it cannot tell. It only says when it is worth
// asking sip.Frame, which has the last word.
func contentLength(header []byte) int {
	for line := range bytes.Lines(header) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		name = bytes.TrimRight(name, " \t")
		if !ok || !bytes.EqualFold(name, []byte("content-length")) && !bytes.EqualFold(name, []byte("l")) {
			continue
		}
		n := 0
		for _, d := range bytes.TrimSpace(value) {
			if d < '0' || d > '9' || n > 1<<30 {
				return 0
			}
			n = n*10 + int(d-'0')
		}
		return n
	}
	return 0
}
