package test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fernamt/client"
	"fernamt/test/is"
	"fernamt/test/play"
	"fernamt/wire/clock"
	"fernamt/wire/dialog"
	"fernamt/wire/sip"
)

const (
	crowd       = 48 // people
	callsEach   = 4  // calls that each makes, one after the other
	writesEach  = 4  // messages that each writes between the calls
	crowdPasswd = "in the crowd 7"
)

// TestCrowd has many people on all transports call and write to each other at once. Each
// call is answered and ended, each message arrives once, and nothing is left at the server.
func TestCrowd(t *testing.T) {
	s := newSuite(t)
	st := s.stage()
	file := filepath.Join(s.dir, "crowd.csv")
	is.NoErr(t, os.WriteFile(file, crowdList(t), 0o600))
	_, err := s.command(t.Context(), []string{"user", "import", file})
	is.NoErr(t, err)
	wheel := clock.NewWheel()
	go wheel.Run(t.Context())
	people := make([]*client.Client, crowd)
	transports := []sip.Transport{sip.UDP, sip.TCP, sip.TLS, sip.WS, sip.WSS}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	each(func(i int) {
		people[i] = member(t, st, i, transports[i%len(transports)], wheel)
		code, err := people[i].Register(ctx)
		if err != nil || code != 200 {
			t.Errorf("person %d registers: %d %v", i, code, err)
		}
	})
	if t.Failed() {
		return
	}
	var answered atomic.Int64
	each(func(i int) {
		for n := range callsEach {
			if err := chat(ctx, people[i], (i+1+n*7)%crowd, n); err != nil {
				t.Errorf("person %d: %v", i, err)
				return
			}
			answered.Add(1)
		}
	})
	is.Equal(t, answered.Load(), int64(crowd*callsEach))
	each(func(i int) { arrived(t, people[i]) })
	idle(t, s)
	each(func(i int) { people[i].Close() })
}

func crowdList(t *testing.T) []byte {
	var b safeBuffer
	w := csv.NewWriter(&b)
	w.Write([]string{"address", "name", "password"})
	for i := range crowd {
		w.Write([]string{fmt.Sprintf("p%d@example.test", i), fmt.Sprintf("Person %d", i), crowdPasswd})
	}
	w.Flush()
	is.NoErr(t, w.Error())
	return []byte(b.String())
}

// each runs f for everybody at once.
func each(f func(i int)) {
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// member makes a client that answers every call.
func member(t *testing.T, st play.Stage, i int, tr sip.Transport, wheel *clock.Wheel) *client.Client {
	hop, err := st.Server("", tr)
	is.NoErr(t, err)
	c := client.Config{Address: fmt.Sprintf("p%d@example.test", i), Password: crowdPasswd, Transport: tr, Server: hop,
		Network: st.Network, Wheel: wheel}
	if tr != sip.UDP {
		c.Network.ListenPacket = nil
	}
	var k *client.Client
	var ready sync.WaitGroup
	ready.Add(1)
	c.Incoming = func(x *dialog.Call) {
		ready.Wait()
		x.Ring(180, nil)
		k.Answer(x)
	}
	k, err = client.New(c)
	ready.Done()
	is.NoErr(t, err)
	return k
}

// chat calls somebody, writes to them, and hangs up.
func chat(ctx context.Context, k *client.Client, whom, n int) error {
	from := k.Mark()
	to := fmt.Sprintf("p%d", whom)
	x := k.Invite(to)
	s, err := k.Wait(ctx, from, func(s client.Seen) bool { return s.Call == x && (s.What == "answered" || s.What == "failed") })
	if err != nil || s.What == "failed" {
		return fmt.Errorf("call %d to %s: %v %w", n, to, s, err)
	}
	for range writesEach / callsEach {
		code, err := k.Message(ctx, to, fmt.Sprintf("%s says %d", k.Address(), n))
		if err != nil || code != 200 {
			return fmt.Errorf("message %d to %s: %d %w", n, to, code, err)
		}
	}
	x.Hangup()
	_, err = k.Wait(ctx, from, func(s client.Seen) bool { return s.Call == x && s.What == "ended" })
	return err
}

// arrived checks that what came came once.
func arrived(t *testing.T, k *client.Client) {
	got := map[string]int{}
	for _, s := range k.Since(0) {
		if s.What == "message" {
			got[s.Text]++
		}
	}
	if len(got) != writesEach {
		t.Errorf("%s got %d messages, want %d", k.Address(), len(got), writesEach)
	}
	for text, n := range got {
		if n != 1 {
			t.Errorf("%s got %q %d times", k.Address(), text, n)
		}
	}
}

// idle waits until the server holds no call any more.
func idle(t *testing.T, s *suite) {
	t.Helper()
	var out string
	for range 500 {
		var err error
		out, err = s.command(t.Context(), []string{"dump", "dialogs", "--format", "json"})
		is.NoErr(t, err)
		var d struct{ Dialogs []any }
		is.NoErr(t, json.Unmarshal([]byte(out), &d))
		if len(d.Dialogs) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("calls are left at the server: %s", out)
}
