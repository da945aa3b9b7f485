package transport

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

// Messages of one connection stay in order however the stream is cut.
func TestStreamOrder(t *testing.T) {
	r := newRig(t, Config{})
	r.on(ok)
	addr := r.tcp(nil)
	var all strings.Builder
	const n = 300
	for i := range n {
		body := strings.Repeat("b", i*37%3000)
		if i == 50 {
			body = strings.Repeat("B", 200000)
		}
		all.WriteString(options("TCP", fmt.Sprint(i), "", body))
	}
	text := all.String()
	for _, cut := range []int{1 << 30, 10000, 977, 64} {
		t.Run(fmt.Sprint("cut ", cut), func(t *testing.T) {
			c := dial(t, addr)
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() {
				for at := 0; at < len(text); at += cut {
					if _, err := c.Write([]byte(text[at:min(len(text), at+cut)])); err != nil {
						t.Error(err)
						return
					}
				}
			})
			in := bufio.NewReader(c)
			for i := range n {
				is.Equal(t, r.next(), fmt.Sprint(i))
				got, err := readResponse(in)
				is.NoErr(t, err)
				is.True(t, strings.Contains(got, fmt.Sprintf("Call-ID: %d\r\n", i)), "answers in order")
			}
		})
	}
	s := r.Stats()
	is.Equal(t, []uint64{s.In[sip.TCP], s.Out[sip.TCP]}, []uint64{4 * n, 4 * n})
}

// One octet at a time: nothing is lost, and the edits that a handler makes do not reach the message that follows.
func TestStreamOctets(t *testing.T) {
	r := newRig(t, Config{})
	r.on(func(m *sip.Message) {
		m.Add(sip.HSubject, []byte(strings.Repeat("s", 500)))
		m.Remove(sip.HVia)
	})
	addr := r.tcp(nil)
	c := dial(t, addr)
	text := options("TCP", "1", "", "body") + "\r\n" + options("TCP", "2", "", "") + options("TCP", "3", "", "\r\n\r\n")
	for i := range text {
		_, err := c.Write([]byte{text[i]})
		is.NoErr(t, err)
	}
	is.Equal(t, []string{r.next(), r.next(), r.next()}, []string{"1", "2", "3"})
	_, err := dial(t, addr).Write([]byte(text))
	is.NoErr(t, err)
	is.Equal(t, []string{r.next(), r.next(), r.next()}, []string{"1", "2", "3"}, "at once")
}

// RFC 5626 §4.4.1: two CRLFs are answered with one; one is not.
func TestStreamKeepalives(t *testing.T) {
	r := newRig(t, Config{})
	r.on(ok)
	c := dial(t, r.tcp(nil))
	in := bufio.NewReader(c)
	ping := func(s, want string) {
		t.Helper()
		_, err := c.Write([]byte(s + options("TCP", "x", "", "")))
		is.NoErr(t, err)
		b := make([]byte, len(want))
		for i := range b {
			b[i], err = in.ReadByte()
			is.NoErr(t, err)
		}
		is.Equal(t, string(b), want)
		got, err := readResponse(in)
		is.NoErr(t, err)
		is.True(t, strings.HasPrefix(got, "SIP/2.0 200"), got)
		r.next()
	}
	ping("\r\n\r\n", "\r\n")
	ping("\r\n", "")
	ping("\r\n\r\n\r\n\r\n", "\r\n\r\n")
	ping("", "")
	for _, part := range []string{"\r", "\n\r", "\n"} { // however it is cut
		_, err := c.Write([]byte(part))
		is.NoErr(t, err)
		time.Sleep(20 * time.Millisecond)
	}
	b := make([]byte, 2)
	_, err := in.Read(b)
	is.NoErr(t, err)
	is.Equal(t, string(b), "\r\n")
	is.Equal(t, r.Stats().Keepalives, uint64(4))
}

// After these a stream cannot be read on: the answer arrives, then the end.
func TestStreamFraming(t *testing.T) {
	r := newRig(t, Config{})
	addr := r.tcp(nil)
	for _, c := range []struct{ name, text, want string }{
		{"length not a number", strings.Replace(options("TCP", "a", "", ""), "Content-Length: 0", "Content-Length: x", 1), "SIP/2.0 400 "},
		{"negative length", strings.Replace(options("TCP", "a", "", ""), "Content-Length: 0", "Content-Length: -9", 1), "SIP/2.0 400 "},
		{"no length", strings.Replace(options("TCP", "a", "", ""), "Content-Length: 0\r\n", "", 1), "SIP/2.0 400 "},
		{"huge body", strings.Replace(options("TCP", "a", "", ""), "Content-Length: 0", "Content-Length: 2000000", 1), "SIP/2.0 413 "},
		{"huge header", options("TCP", "a", "X: "+strings.Repeat("x", 70000)+"\r\n", ""), "SIP/2.0 513 "},
		{"endless header", strings.TrimSuffix(options("TCP", "a", "", ""), "\r\n") + strings.Repeat("X: y\r\n", 20000), "SIP/2.0 513 "},
		{"a response", "SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP x\r\nContent-Length: x\r\n\r\n", ""},
		{"another protocol", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := dial(t, addr)
			_, err := k.Write([]byte(c.text))
			is.NoErr(t, err)
			got := rest(k)
			is.True(t, strings.HasPrefix(got, c.want) && (c.want != "" || got == ""), "got "+got)
		})
	}
	is.Equal(t, len(r.seen), 0)
	is.True(t, until(func() bool { return r.Stats().Connections == 0 }), "all are gone")
}

// What parses badly but has a known end costs only itself.
func TestStreamBadMessage(t *testing.T) {
	r := newRig(t, Config{})
	r.on(func(m *sip.Message) {
		if string(m.CallID()) == "boom" {
			panic("boom")
		}
		ok(m)
	})
	c := dial(t, r.tcp(nil))
	in := bufio.NewReader(c)
	fmt.Fprint(c, strings.Replace(options("TCP", "a", "", ""), "SIP/2.0\r\n", "SIP/4.0\r\n", 1), options("TCP", "boom", "", ""),
		options("TCP", "good", "", "x"))
	got, err := readResponse(in)
	is.NoErr(t, err)
	is.True(t, strings.HasPrefix(got, "SIP/2.0 505 "), got)
	got, err = readResponse(in)
	is.NoErr(t, err)
	is.True(t, strings.HasPrefix(got, "SIP/2.0 200 ") && strings.Contains(got, "Call-ID: good"), got)
}

// A peer that does not read is cut off; until then nothing is lost and others do not wait.
func TestSlowReader(t *testing.T) {
	r := newRig(t, Config{})
	addr := r.tcp(nil)
	slow := dial(t, addr)
	slow.(*net.TCPConn).SetReadBuffer(4096)
	fmt.Fprint(slow, options("TCP", "slow", "", ""))
	r.next()
	f := r.flow()
	block := []byte(strings.Repeat("x", 10000))
	var err error
	sent := 0
	for begin := time.Now(); err == nil && time.Since(begin) < 5*time.Second; {
		if err = f.Send(block); err == nil {
			sent++
		}
	}
	is.Err(t, err, ErrQueueFull.Error())
	is.True(t, r.Stats().Slow >= 1, "counted")
	is.Equal(t, <-r.gone, f.Link.Info().ID)
	is.Err(t, f.Send(block), ErrClosed.Error())
	is.True(t, until(func() bool { return r.Stats().Queued == 0 }), "nothing waits any more")
}

// A backlog that fits reaches the peer whole and in order.
func TestBacklog(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{Queue: 8 << 20}})
	c := dial(t, r.tcp(nil))
	fmt.Fprint(c, options("TCP", "x", "", ""))
	r.next()
	f := r.flow()
	var wg sync.WaitGroup
	const lines = 100000
	wg.Go(func() {
		for i := range lines {
			if err := f.Send(fmt.Appendf(nil, "%060d\n", i)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	time.Sleep(50 * time.Millisecond)
	in := bufio.NewReader(c)
	for i := range lines {
		s, err := in.ReadString('\n')
		is.NoErr(t, err)
		if s != fmt.Sprintf("%060d\n", i) {
			t.Fatalf("line %d is %q", i, s)
		}
	}
	wg.Wait()
	is.True(t, until(func() bool { return r.Stats().Queued == 0 }), "queue is empty")
}

func TestCaps(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{PerAddress: 3, Connections: 5}})
	addr := r.tcp(nil)
	var open []net.Conn
	for range 3 {
		open = append(open, dial(t, addr))
	}
	is.True(t, until(func() bool { return r.Stats().Connections == 3 }), "three")
	is.Equal(t, rest(dial(t, addr)), "", "the fourth is closed")
	is.Equal(t, r.Stats().TurnedAway, uint64(1))
	open[0].Close()
	is.True(t, until(func() bool { return r.Stats().Connections == 2 }), "two")
	c := dial(t, addr)
	fmt.Fprint(c, options("TCP", "again", "", ""))
	is.Equal(t, r.next(), "again")

	trusting := newRig(t, Config{Limits: Limits{PerAddress: 3, Connections: 5, Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	addr = trusting.tcp(nil)
	for range 5 {
		dial(t, addr)
	}
	is.True(t, until(func() bool { return trusting.Stats().Connections == 5 }), "five")
	is.Equal(t, rest(dial(t, addr)), "", "the sixth is over the total")
}

func TestNeighbourhood(t *testing.T) {
	for _, c := range []struct{ a, want string }{{"192.0.2.1", "192.0.2.1"}, {"::ffff:192.0.2.1", "192.0.2.1"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"}, {"fe80::1%eth0", "fe80::"}} {
		is.Equal(t, neighbourhood(netip.MustParseAddr(c.a)).String(), c.want)
	}
}

// In a bubble, with its own clock: who is cut off when.
func TestDeadlines(t *testing.T) {
	text := options("TCP", "x", "", strings.Repeat("b", 2000))
	head := strings.Index(text, "\r\n\r\n")
	for _, c := range []struct {
		name       string
		first      string        // sent at once
		every      time.Duration // between the octets of more
		more       string
		keep       time.Duration // > 0: marked with that idle time
		least, max time.Duration // when the end comes
	}{
		{"silent", "", 0, "", 0, 30 * time.Second, 32 * time.Second},
		{"header stalls", text[:100], 0, "", 0, 10 * time.Second, 12 * time.Second},
		{"header an octet a second", "", time.Second, text, 0, 10 * time.Second, 13 * time.Second},
		{"body stalls", text[:head+100], 0, "", 0, 30 * time.Second, 32 * time.Second},
		{"body an octet a second", text[:head+4], time.Second, text[head+4:], 0, 30 * time.Second, 32 * time.Second},
		{"pings only", "", 5 * time.Second, strings.Repeat("\r\n", 50), 0, 30 * time.Second, 32 * time.Second},
		{"message, then silence", text, 0, "", 0, 30 * time.Second, 32 * time.Second},
		{"kept and silent", text, 0, "", 5 * time.Minute, 5 * time.Minute, 5*time.Minute + 2*time.Second},
		{"kept and pinging", text, 4 * time.Minute, strings.Repeat("\r\n", 5), 5 * time.Minute, 25 * time.Minute, 25*time.Minute + 2*time.Second},
		{"half a ping", text + "\r", 0, "", 5 * time.Minute, 10 * time.Second, 12 * time.Second},
		{"kept, header stalls", text + text[:100], 0, "", 5 * time.Minute, 10 * time.Second, 12 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l *Layer
				l = New(Config{Receive: func(m *sip.Message) {
					if c.keep > 0 {
						l.Keep(m.Flow.Link.Info().ID, c.keep)
					}
				}})
				ours, theirs := net.Pipe()
				begin := time.Now()
				var wg sync.WaitGroup
				defer wg.Wait()
				wg.Go(func() {
					theirs.Write([]byte(c.first))
					split := "" // by octets, pings whole
					if strings.HasPrefix(c.more, "\r\n") {
						split = "\r\n"
					}
					for _, part := range strings.SplitAfter(c.more, split) {
						time.Sleep(c.every)
						if _, err := theirs.Write([]byte(part)); err != nil {
							return
						}
					}
				})
				go rest(theirs)
				err := l.ServeConn(t.Context(), ours, sip.LinkInfo{Transport: sip.TCP})
				took := time.Since(begin)
				is.Err(t, err, "too")
				is.True(t, took >= c.least && took <= c.max, "ended after "+took.String())
				is.Equal(t, l.Stats().Overdue, uint64(1))
				theirs.Close()
				l.Close()
			})
		})
	}
}

// Slow connections cost little and a good client does not notice them (scaled: an octet each 50 ms instead of a second).
func TestManySlowConnections(t *testing.T) {
	n := 2000
	r := newRig(t, Config{Limits: Limits{PerAddress: 5000, Message: 3 * time.Second}})
	r.on(ok)
	addr := r.tcp(nil)
	text := options("TCP", "slow", "", "")
	slow := make([]net.Conn, n)
	for i := range slow {
		c, err := net.Dial("tcp", addr)
		is.NoErr(t, err)
		slow[i] = c
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for at := 0; ; at++ {
			for _, c := range slow {
				c.Write([]byte{text[at]})
			}
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	good := dial(t, addr)
	in := bufio.NewReader(good)
	var worst time.Duration
	for i := range 200 {
		begin := time.Now()
		fmt.Fprint(good, options("TCP", fmt.Sprint(i), "", ""))
		_, err := readResponse(in)
		is.NoErr(t, err)
		is.Equal(t, r.next(), fmt.Sprint(i))
		worst = max(worst, time.Since(begin))
		time.Sleep(2 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	is.True(t, worst < 3*time.Second, "worst answer took "+worst.String())
	t.Logf("worst of 200 answers beside %d slow connections: %v", n, worst)
	is.True(t, until(func() bool { return r.Stats().Overdue == uint64(n) }), "all the slow ones are cut off")
	for _, c := range slow {
		c.Close()
	}
}

func TestEndAndContext(t *testing.T) {
	r := newRig(t, Config{})
	c := dial(t, r.tcp(nil))
	fmt.Fprint(c, options("TCP", "x", "", ""))
	r.next()
	f, found := r.ByID(r.flow().Link.Info().ID)
	is.True(t, found && f == r.flow(), "by id")
	is.Equal(t, f.Link.Info().Door, "test/tcp")
	r.End(f.Link.Info().ID)
	is.Equal(t, rest(c), "")
	is.Equal(t, <-r.gone, f.Link.Info().ID)
	_, found = r.ByID(f.Link.Info().ID)
	is.True(t, !found, "gone")
}
