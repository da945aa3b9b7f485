package location

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

// machine is a clock for restarts: the same boot while boot stays.
type machine struct {
	boot string
	up   time.Duration
	wall time.Time
}

func (m *machine) read() (string, time.Duration, time.Time) { return m.boot, m.up, m.wall }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func reopen(t *testing.T, dir string, h *hand, m *machine) *Table {
	t.Helper()
	tab, err := Open(Config{Dir: dir, Now: h.read, Stat: m.read, Log: quiet(), Key: []byte("0123456789abcdef")})
	is.NoErr(t, err)
	return tab
}

func left(tab *Table, aor string, now int64) time.Duration {
	bs := tab.Lookup([]byte(aor), now, nil)
	if len(bs) != 1 {
		return -1
	}
	return time.Duration(bs[0].Expires - now).Round(time.Second)
}

func TestRestart(t *testing.T) {
	for _, c := range []struct {
		name    string
		restart func(m *machine)
		want    time.Duration
	}{
		{"10 s later", func(m *machine) { m.up += 10 * time.Second; m.wall = m.wall.Add(10 * time.Second) }, 90 * time.Second},
		{"clock an hour ahead", func(m *machine) { m.up += 10 * time.Second; m.wall = m.wall.Add(time.Hour) }, 90 * time.Second},
		{"clock an hour back", func(m *machine) { m.up += 10 * time.Second; m.wall = m.wall.Add(-time.Hour) }, 90 * time.Second},
		{"another boot", func(m *machine) { m.boot, m.up, m.wall = "b2", time.Second, m.wall.Add(30*time.Second) }, 70 * time.Second},
		{"another boot, clock back", func(m *machine) { m.boot, m.up, m.wall = "b2", time.Second, m.wall.Add(-time.Hour) }, 100 * time.Second},
		{"too late", func(m *machine) { m.up += 101 * time.Second }, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, m, h := t.TempDir(), &machine{"b1", time.Hour, time.Unix(1e9, 0)}, &hand{now: 77}
			tab := reopen(t, dir, h, m)
			_, _, err := tab.Register(h.update("a@x", "c", 1, contact("sip:a@192.0.2.1", 50)), nil, 0)
			is.NoErr(t, err)
			is.NoErr(t, tab.Flush())
			_, _, err = tab.Register(h.update("a@x", "c", 2, contact("sip:a@192.0.2.1", 100)), nil, 0)
			is.NoErr(t, err)
			is.NoErr(t, tab.Flush()) // and no Close: kill -9
			c.restart(m)
			h2 := &hand{now: 12345}
			tab = reopen(t, dir, h2, m)
			is.Equal(t, left(tab, "a@x", h2.now), c.want)
			if c.want < 0 {
				is.Equal(t, tab.Count(), 0)
				return
			}
			_, _, err = tab.Register(h2.update("a@x", "c", 1, contact("sip:a@192.0.2.1", 100)), nil, 0)
			is.Equal(t, err, ErrOrder, "call-id and cseq came back too")
			b := tab.Lookup([]byte("a@x"), h2.now, nil)[0]
			is.Equal(t, b.Flow.Remote, udp.Remote)
			_, out, err := tab.Register(h2.update("a@x", "d", 1, contact("sip:a@192.0.2.1", 0)), nil, 0)
			is.NoErr(t, err)
			is.Equal(t, out.Removed, 1)
			is.NoErr(t, tab.Close())
			is.Equal(t, reopen(t, dir, h2, m).Count(), 0, "removed stays removed")
		})
	}
}

// What lived on a connection is kept only where it can be reached without it.
func TestRestartOfConnections(t *testing.T) {
	dir, m, h := t.TempDir(), &machine{"b1", time.Hour, time.Unix(1e9, 0)}, &hand{now: 77}
	tab := reopen(t, dir, h, m)
	for i, c := range []struct {
		contact string
		over    sip.Transport
		path    string
	}{
		{"sip:k0@192.0.2.9:5061", sip.TLS, ""},                // listens where it lives: kept
		{"sip:d1@192.0.2.9:33333;transport=tcp", sip.TCP, ""}, // the port it called from
		{"sip:d2@10.0.0.1:5060;transport=tcp", sip.TCP, ""},   // behind a NAT
		{"sip:d3@q.invalid;transport=ws", sip.WSS, ""},
		{"sip:k4@10.0.0.1", sip.TLS, "<sip:edge.x;lr>"},
		{"sip:k5@10.0.0.1", sip.UDP, ""},
		{"sip:d6@192.0.2.9:5061;maddr=10.0.0.1", sip.TCP, ""}, // would lead to who did not register
	} {
		at := contact(c.contact, 100)
		at.Flow = flowOf(uint64(50+i), c.over, "192.0.2.9:33333")
		u := h.update(fmt.Sprintf("u%d@x", i), "c", 1, at)
		u.Path = []byte(c.path)
		_, _, err := tab.Register(u, nil, 0)
		is.NoErr(t, err)
	}
	is.NoErr(t, tab.Close())
	tab = reopen(t, dir, h, m)
	var kept []string
	for _, b := range tab.All(h.now) {
		kept = append(kept, string(b.AOR))
	}
	is.Equal(t, kept, []string{"u0@x", "u4@x", "u5@x"})
}

// A journal cut at any octet gives what was flushed before, whole records only.
func TestTornTail(t *testing.T) {
	dir, m, h := t.TempDir(), &machine{"b1", time.Hour, time.Unix(1e9, 0)}, &hand{now: 77}
	tab := reopen(t, dir, h, m)
	var ends []int64
	for i := range 4 {
		_, _, err := tab.Register(h.update(fmt.Sprintf("u%d@x", i), "c", 1, contact("sip:u@192.0.2.1", 100)), nil, 0)
		is.NoErr(t, err)
		is.NoErr(t, tab.Flush())
		ends = append(ends, tab.file.size)
	}
	is.NoErr(t, tab.Close())
	whole, err := os.ReadFile(filepath.Join(dir, journalName))
	is.NoErr(t, err)
	is.Equal(t, int64(len(whole)), ends[3])
	cut := t.TempDir()
	name := filepath.Join(cut, journalName)
	for n := range len(whole) + 1 {
		is.NoErr(t, os.WriteFile(name, whole[:n], 0o600))
		tab := reopen(t, cut, h, m)
		want := 0
		for _, e := range ends {
			if int64(n) >= e {
				want++
			}
		}
		if tab.Count() != want {
			t.Fatalf("cut at %d: %d bindings, want %d", n, tab.Count(), want)
		}
		_, _, err := tab.Register(h.update("new@x", "c", 1, contact("sip:n@192.0.2.1", 100)), nil, 0)
		is.NoErr(t, err)
		is.NoErr(t, tab.Close())
		tab = reopen(t, cut, h, m)
		is.Equal(t, tab.Count(), want+1, "written after the cut")
		is.NoErr(t, tab.Close())
	}
}

// A flipped bit costs the record it is in, is noticed, and no other.
func TestFlippedBits(t *testing.T) {
	dir, m, h := t.TempDir(), &machine{"b1", time.Hour, time.Unix(1e9, 0)}, &hand{now: 77}
	tab := reopen(t, dir, h, m)
	const n = 8
	for i := range n {
		_, _, err := tab.Register(h.update(fmt.Sprintf("u%d@x", i), "c", 1, contact("sip:u@192.0.2.1", 100)), nil, 0)
		is.NoErr(t, err)
	}
	is.NoErr(t, tab.Close())
	whole, err := os.ReadFile(filepath.Join(dir, journalName))
	is.NoErr(t, err)
	first := bytes.Index(whole[2:], recMark[:]) + 2 // behind the time
	bad := t.TempDir()
	for at := first; at < len(whole); at++ {
		b := bytes.Clone(whole)
		b[at] ^= 1 << (at % 8)
		is.NoErr(t, os.WriteFile(filepath.Join(bad, journalName), b, 0o600))
		tab := reopen(t, bad, h, m)
		if tab.Count() != n-1 {
			t.Fatalf("octet %d: %d bindings, want %d", at, tab.Count(), n-1)
		}
		is.NoErr(t, tab.Close())
	}
}

func TestCompaction(t *testing.T) {
	dir, m, h := t.TempDir(), &machine{"b1", time.Hour, time.Unix(1e9, 0)}, &hand{now: 77}
	tab := reopen(t, dir, h, m)
	for round := range 3 {
		for i := range 50 {
			_, _, err := tab.Register(h.update(fmt.Sprintf("u%d@x", i), fmt.Sprint("c", round), 1, contact("sip:u@192.0.2.1", 100)), nil, 0)
			is.NoErr(t, err)
		}
		is.NoErr(t, tab.Flush())
	}
	before := tab.file.size
	is.Equal(t, tab.RemoveAll([]byte("u7@x")), 1)
	is.NoErr(t, tab.compact())
	is.True(t, tab.file.size < before, "smaller")
	_, _, err := tab.Register(h.update("late@x", "c", 1, contact("sip:u@192.0.2.1", 100)), nil, 0)
	is.NoErr(t, err)
	is.NoErr(t, tab.Close())
	tab = reopen(t, dir, h, m)
	is.Equal(t, tab.Count(), 50)
	is.Equal(t, left(tab, "late@x", h.now), 100*time.Second)
	is.Equal(t, left(tab, "u7@x", h.now), -1)
}

// A write that fails loses nothing: the next flush writes all anew.
func TestFailedWrite(t *testing.T) {
	dir, m, h := t.TempDir(), &machine{"b1", time.Hour, time.Unix(1e9, 0)}, &hand{now: 77}
	tab := reopen(t, dir, h, m)
	_, _, err := tab.Register(h.update("a@x", "c", 1, contact("sip:u@192.0.2.1", 100)), nil, 0)
	is.NoErr(t, err)
	is.NoErr(t, tab.file.file.Close()) // as a disk that is gone
	is.Err(t, tab.Flush(), journalName)
	is.Equal(t, contacts(tab, "a@x", h.now), "sip:u@192.0.2.1", "signalling goes on")
	is.NoErr(t, tab.Flush())
	is.Equal(t, reopen(t, dir, h, m).Count(), 1)
}
