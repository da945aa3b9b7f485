package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"fernamt/core/config"
	"fernamt/core/listen"
	"fernamt/core/store"
	"fernamt/core/trace"
	"fernamt/wire/ports"
)

// longestStart is how long roles may take until all their doors are open, and
// longestStop until they have ended.
const (
	longestStart = 30 * time.Second
	longestStop  = 3500 * time.Millisecond
)

// serveOptions say how a server is started.
type serveOptions struct {
	settings *config.Settings
	self     *config.Host
	offset   int
	lab      bool
	log      *slog.Logger
	level    *trace.Level
	ready    func(ctx context.Context, s *server) error // every door is open
}

// server is a running host.
type server struct {
	host   *Host
	base   *base
	slots  []*slot
	health *health
	level  *trace.Level
	failed chan error // a role that could not start
	roles  sync.WaitGroup

	stop     chan struct{} // closed by the command stop
	stopping sync.Once
	waiting  sync.Once
}

// serve runs the host until ctx ends. What is started is ended in the opposite order.
func (p *Program) serve(ctx context.Context, o serveOptions) error {
	s, err := p.build(ctx, o)
	if err != nil {
		return err
	}
	err = s.runUntil(ctx, p, o)
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w (fernamt check says who has it)", err)
	}
	notifyStopping()
	s.health.ready.Store(false)
	return errors.Join(err, s.close())
}

// build opens everything that roles stand on. Doors are declared before the first is
// opened, so that a clash starts nothing.
func (p *Program) build(ctx context.Context, o serveOptions) (*server, error) {
	m := trace.NewMetrics()
	h := &Host{Name: o.self.Name, Version: p.Version, Data: p.dataDir(), Settings: o.settings, Self: o.self,
		Metrics: m, Trace: trace.NewHub(), Log: o.log}
	s := &server{host: h, level: o.level, failed: make(chan error, 1), stop: make(chan struct{})}
	s.slots = p.slots(o.settings, o.self.Roles, m)
	s.health = &health{host: h}
	var err error
	if h.Table, err = p.table(s, s.slots); err != nil {
		return nil, err
	}
	if h.Keys, err = newKeys(o.settings, o.self, h.Data, o.log); err != nil {
		return nil, err
	}
	h.Doors = listen.New(listen.Config{Network: p.Network, Offset: o.offset, Addresses: sides(o.self),
		At: o.self.Addresses, Keys: h.Keys, Log: o.log})
	for _, x := range allPorts(o.settings, s.slots) {
		if err := h.Doors.Declare(x.owner, x.ports); err != nil {
			return nil, err
		}
	}
	if err := checkAt(o.settings, o.self, h.Doors.Declared()); err != nil {
		return nil, err
	}
	progress := p.call()
	s.base, err = openOn(ctx, baseConfig{o.settings, h.Data, h.Doors, o.log, o.lab, func(x store.Progress) {
		progress.Progress(x.Done, x.Total, "backup before migration")
	}})
	if err != nil {
		return nil, errors.Join(err, h.Doors.Close())
	}
	h.Store, h.Events, h.Users = s.base.store, s.base.events, s.base.users
	if h.Route, err = p.newGate(h, o.offset); err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.gauges(m)
	return s, nil
}

// checkAt refuses addresses for a door that is not there.
func checkAt(s *config.Settings, self *config.Host, doors []ports.Port) error {
	names := make([]string, 0, len(doors))
	for _, d := range doors {
		names = append(names, d.Name)
	}
	for name := range self.Addresses {
		found := false
		for _, n := range names {
			found = found || n == name
		}
		if found {
			continue
		}
		for i := range s.Hosts {
			if &s.Hosts[i] == self {
				msg := "this host has no door " + name
				if n := config.Nearest(name, names); n != "" {
					msg += "; did you mean " + n + "?"
				}
				return s.Fail(fmt.Sprintf("host[%d].addresses", i), errors.New(msg+" (fernamt ports lists them)"))
			}
		}
	}
	return nil
}

func (s *server) gauges(m metrics) {
	m.Read("accounts", "Accounts", func() float64 { return float64(s.host.Users.Count()) })
	m.Read("info", "The version, as a label", func() float64 { return 1 }, "version", s.host.Version)
	began := time.Now()
	m.Read("uptime_seconds", "Since the start", func() float64 { return time.Since(began).Seconds() })
	gateMetrics(m, s.host.Route)
	m.Read("sockets", "Sockets open, listening, drawn and dialled", func() float64 { return float64(len(s.host.Doors.Live())) })
}

// runUntil starts what runs, says that it is ready, and waits for ctx or for a role
// that cannot be started.
func (s *server) runUntil(ctx context.Context, p *Program, o serveOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer s.wait()
	defer cancel()
	if err := s.health.serve(ctx); err != nil {
		return err
	}
	if err := s.control(ctx); err != nil {
		return err
	}
	if err := s.export(ctx); err != nil {
		return err
	}
	gate, endGate := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		err := s.host.Route.Run(gate)
		if gate.Err() == nil { // nobody told it to
			select {
			case s.failed <- errors.Join(errors.New("gate ended by itself"), err):
			default:
			}
		}
		ended <- err
	}()
	defer func() { // after the roles, whose last registrations it keeps
		s.wait()
		endGate()
		if err := <-ended; err != nil {
			s.host.Log.Error("gate ended badly", "err", err)
		}
	}()
	defer cancel()
	ready := make(chan struct{})
	for _, r := range s.slots {
		s.roles.Go(func() {
			if err := r.supervise(ctx, s.host, ready); err != nil {
				select {
				case s.failed <- err:
				default:
				}
			}
		})
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	close(ready)
	if o.ready != nil {
		if err := o.ready(ctx, s); err != nil {
			return err
		}
	}
	s.health.ready.Store(true)
	for _, m := range s.host.Doors.Moved() {
		fmt.Fprintf(p.Out, "door %s moved from %d to %d: no right to open ports under 1024\n", m.Door, m.From, m.To)
	}
	s.host.Log.Info("serving", "host", s.host.Name, "roles", o.self.Roles, "version", s.host.Version, "sockets", len(s.host.Doors.Live()))
	fmt.Fprintln(p.Out, "ready")
	notifyReady(os.Getpid())
	go watchdog(ctx, s.health.alive)
	go s.lookAfterKeys(ctx, p.Reload)
	go rest(ctx)
	select {
	case <-ctx.Done():
		s.host.Log.Info("stopping")
		return nil
	case <-s.stop:
		s.host.Log.Info("stopping, as told")
		return nil
	case err := <-s.failed:
		return err
	}
}

// open waits until every declared listening door is open.
func (s *server) open(ctx context.Context) error {
	deadline := time.NewTimer(longestStart)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		missing := s.missing()
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.failed:
			return err
		case <-deadline.C:
			return fmt.Errorf("doors %v are still closed after %v", missing, longestStart)
		case <-tick.C:
		}
	}
}

// missing are the listening doors that are not open.
func (s *server) missing() []string {
	open := map[string]bool{}
	for _, l := range s.host.Doors.Live() {
		for _, d := range l.Doors {
			open[d] = true
		}
	}
	var names []string
	for _, d := range s.host.Doors.Declared() {
		if d.Use == ports.Listen && !open[d.Name] {
			names = append(names, d.Name)
		}
	}
	return names
}

// export sends copies to HOMER when the settings name one.
func (s *server) export(ctx context.Context) error {
	c := s.host.Settings.HEP
	if c.Target == "" {
		return nil
	}
	key, err := c.Password.Read(filepath.Dir(s.host.Settings.File))
	if err != nil {
		return s.host.Settings.Fail("hep.password", err)
	}
	to, err := netip.ParseAddrPort(c.Target)
	if err != nil {
		return s.host.Settings.Fail("hep.target", err)
	}
	conn, err := s.host.Doors.DialPacket(ctx, doorHEP, to)
	if err != nil {
		return err
	}
	m := s.host.Metrics
	s.roles.Go(func() {
		defer conn.Close()
		s.host.Trace.Export(ctx, trace.Export{To: conn, Agent: c.Agent, Node: s.host.Name, Key: key,
			Sent: m.Counter("hep_sent_total", "Messages sent to HOMER"),
			Lost: m.Counter("hep_lost_total", "Messages that did not reach HOMER's socket")})
	})
	return nil
}

// wait waits for the roles' end, as long as is decent, and once: whoever did not end
// then does not later.
func (s *server) wait() { s.waiting.Do(s.waitOnce) }

func (s *server) waitOnce() {
	done := make(chan struct{})
	go func() {
		s.roles.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(longestStop):
		s.host.Log.Warn("a role does not end, leaving without it")
	}
}

func (s *server) close() error {
	err := s.host.Doors.Close()
	return errors.Join(err, s.base.close())
}
