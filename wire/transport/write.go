package transport

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// Send implements sip.Link. What the kernel does not take at once waits in a queue, which a goroutine of its own empties.
// A peer that lets the queue fill is cut off.
func (c *conn) Send(_ netip.AddrPort, b []byte) error {
	if t := c.l.trace.Load(); t != nil {
		(*t)(true, c.flow(), b)
	}
	if err := c.send(b); err != nil {
		return fmt.Errorf("send to %v: %w", c, err)
	}
	c.l.count.out[c.info.Transport].Add(1)
	return nil
}

func (c *conn) send(b []byte) error {
	c.mu.Lock()
	if c.dead != nil {
		c.mu.Unlock()
		return ErrClosed
	}
	if !c.writing && c.raw != nil {
		n, err := c.tryLocked(b)
		if err != nil {
			c.mu.Unlock()
			c.end(err)
			return err
		}
		if b = b[n:]; len(b) == 0 {
			c.mu.Unlock()
			return nil
		}
	}
	if len(c.queue) > 0 && len(c.queue)+len(b) > c.l.c.Limits.Queue {
		c.mu.Unlock()
		c.l.count.slow.Add(1)
		c.end(ErrQueueFull)
		return ErrQueueFull
	}
	if c.queue == nil {
		c.queue = takeBuffer()
	}
	c.queue = append(c.queue, b...)
	if c.ws != nil {
		c.lens = append(c.lens, len(b))
	}
	c.l.count.queued.Add(int64(len(b)))
	if !c.writing {
		c.writing = true
		go c.write()
	}
	c.mu.Unlock()
	return nil
}

// tryLocked writes what the kernel takes without waiting.
func (c *conn) tryLocked(b []byte) (int, error) {
	if c.try == nil {
		c.try = c.attempt
	}
	c.put, c.putN, c.putErr = b, 0, nil
	err := c.raw.Write(c.try)
	c.put = nil
	if err == nil {
		err = c.putErr
	}
	return c.putN, err
}

func (c *conn) attempt(fd uintptr) bool {
	n, err := writeNow(fd, c.put)
	switch err {
	case nil:
		c.putN = n
	case syscall.EAGAIN, syscall.EINTR, syscall.ENOBUFS:
	default:
		c.putErr = err
	}
	return true
}

// write empties the queue and goes.
func (c *conn) write() {
	for {
		c.mu.Lock()
		b, lens := c.queue, c.lens
		c.queue, c.lens = nil, nil
		if b == nil || c.dead != nil {
			c.writing = false
			if c.empty != nil {
				close(c.empty)
				c.empty = nil
			}
			c.mu.Unlock()
			c.l.count.queued.Add(-int64(len(b)))
			return
		}
		c.mu.Unlock()
		err := c.writeAll(b, lens)
		c.l.count.queued.Add(-int64(len(b)))
		giveBuffer(b)
		if err != nil {
			c.l.count.slow.Add(1)
			c.end(fmt.Errorf("write: %w", err))
		}
	}
}

func (c *conn) writeAll(b []byte, lens []int) error {
	if c.ws == nil {
		if err := c.nc.SetWriteDeadline(time.Now().Add(c.l.c.Limits.Write)); err != nil {
			return err
		}
		_, err := c.nc.Write(b)
		return err
	}
	for _, n := range lens {
		ctx, cancel := context.WithTimeout(c.l.ctx, c.l.c.Limits.Write)
		kind := websocket.MessageText
		if !utf8.Valid(b[:n]) {
			kind = websocket.MessageBinary
		}
		err := c.ws.Write(ctx, kind, b[:n])
		cancel()
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// flush waits until the queue is empty, a second at most.
func (c *conn) flush() {
	c.mu.Lock()
	if !c.writing {
		c.mu.Unlock()
		return
	}
	if c.empty == nil {
		c.empty = make(chan struct{})
	}
	empty := c.empty
	c.mu.Unlock()
	select {
	case <-empty:
	case <-time.After(time.Second):
	}
}

const bufferSize = 8 << 10

// buffers are lent to connections while octets are on their way, so that an idle one has none.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

func takeBuffer() []byte { return buffers.Get().(*[bufferSize]byte)[:0] }

// giveBuffer takes b back, unless it has grown.
func giveBuffer(b []byte) {
	if cap(b) == bufferSize {
		buffers.Put((*[bufferSize]byte)(b[:bufferSize]))
	}
}
