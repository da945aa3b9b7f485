package host

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"
)

// health answers GET /healthz, /readyz and /metrics.
type health struct {
	ready atomic.Bool
	host  *Host
}

// handler: /healthz says that the process works, /readyz that people may be sent here.
func (x *health) handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, x.alive()) })
	m.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		err := x.alive()
		if err == nil && !x.ready.Load() {
			err = errors.New("starting or stopping")
		}
		say(w, err)
	})
	m.Handle("GET /metrics", x.host.Metrics.Handler())
	return m
}

func (x *health) alive() error {
	if err := x.host.Store.Broken(); err != nil {
		return err
	}
	return nil
}

func say(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(err.Error() + "\n"))
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

// serve answers at the door until ctx ends.
func (x *health) serve(ctx context.Context) error {
	d, err := x.host.Doors.Open(doorHealth)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: x.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	go func() {
		<-ctx.Done()
		_ = s.Close()
	}()
	go func() {
		if err := s.Serve(d.Listener()); err != nil && ctx.Err() == nil {
			x.host.Log.Error("health door ended", "err", err)
		}
	}()
	return nil
}
