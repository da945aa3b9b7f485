package host

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"sync"
	"time"

	"fernamt/core/admin"
	"fernamt/core/trace"
)

// slot is a role of this host: its kind, its settings and the instance that runs.
type slot struct {
	kind   Kind
	filled Role // with the settings; never run, so that every run begins afresh
	mu     sync.Mutex
	now    Role // the instance that runs
	panics *trace.Counter
	starts *trace.Counter
	up     *trace.Gauge
}

func newSlot(k Kind, filled Role, m *trace.Metrics) *slot {
	return &slot{kind: k, filled: filled, now: filled,
		panics: m.Counter("role_panics_total", "Times that a role broke and was started again", "role", k.Name),
		starts: m.Counter("role_starts_total", "Times that a role was started", "role", k.Name),
		up:     m.Gauge("role_up", "1 while the role runs", "role", k.Name)}
}

// fresh makes an instance with the settings of the filled one.
func (s *slot) fresh() Role {
	r := s.kind.New()
	to, from := reflect.ValueOf(r), reflect.ValueOf(s.filled)
	if to.Kind() == reflect.Pointer && to.Elem().Kind() == reflect.Struct && to.Type() == from.Type() {
		for i := range to.Elem().NumField() {
			if f := to.Elem().Type().Field(i); f.IsExported() {
				to.Elem().Field(i).Set(from.Elem().Field(i))
			}
		}
	}
	s.mu.Lock()
	s.now = r
	s.mu.Unlock()
	return r
}

// commands are the role's, each bound to whichever instance runs when it is asked.
func (s *slot) commands() []admin.Command {
	list := s.filled.Commands()
	for i := range list {
		name := list[i].Name
		list[i].Run = func(ctx context.Context, c *admin.Call) error {
			s.mu.Lock()
			r := s.now
			s.mu.Unlock()
			for _, x := range r.Commands() {
				if x.Name == name {
					return x.Run(ctx, c)
				}
			}
			return fmt.Errorf("the role %s does not know it just now", s.kind.Name)
		}
	}
	return list
}

// Pauses between starts of a role that breaks: doubled up to the longest, and back to
// the shortest once it has run for a while.
const (
	shortestPause = 100 * time.Millisecond
	longestPause  = 10 * time.Second
	goodRun       = time.Minute
)

// supervise runs the role until ctx ends. Before ready is closed an error ends it all:
// better no server than half of one. Afterwards the role is started again.
func (s *slot) supervise(ctx context.Context, h *Host, ready <-chan struct{}) error {
	pause := shortestPause
	for {
		began := time.Now()
		err := s.once(ctx, h)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		select {
		case <-ready:
		default:
			return fmt.Errorf("%s: %w", s.kind.Name, err)
		}
		if time.Since(began) > goodRun {
			pause = shortestPause
		}
		h.Log.Error("role ended, starting it again", "role", s.kind.Name, "err", err, "pause", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

// once is one run, from start to end or panic.
func (s *slot) once(ctx context.Context, h *Host) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	mine := h.forRole(s.kind.Name)
	s.starts.Inc()
	s.up.Set(1)
	defer func() {
		s.up.Set(0)
		if p := recover(); p != nil {
			s.panics.Inc()
			mine.Log.Error("role broke", "err", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("broke: %v", p)
		}
		mine.shut()
	}()
	return s.fresh().Run(ctx, mine)
}
