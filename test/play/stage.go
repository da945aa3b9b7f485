package play

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"fernamt/client"
	"fernamt/wire/clock"
	"fernamt/wire/dialog"
	"fernamt/wire/sip"
)

// Stage is where a play is performed: a running server and the way to it.
type Stage struct {
	Domain   string                   // of the people, "example.test"
	Password func(user string) string // the password of "alice"
	// Server gives the hop to a server for a transport; role is "" or, say, "director". nil:
	// there is no server, the actors reach each other directly.
	Server func(role string, t sip.Transport) (sip.Hop, error)
	// Patience is how long sentences may take that name no time; zero: 5 s.
	Patience time.Duration
	// Network opens sockets for the actors.
	Network client.Network
	// Command runs an operator's command and gives what it prints; nil: plays that need
	// one fail.
	Command func(ctx context.Context, args []string) (string, error)
	// Restart stops the server in good order and starts it again, Crash kills it first. nil:
	// not on this stage.
	Restart, Crash func(ctx context.Context) error
}

// troupe is the actors of one performance.
type troupe struct {
	Stage
	actors map[string]*actor
	order  []*actor
	wheel  *clock.Wheel
	stop   context.CancelFunc
}

// actor is a person's device.
type actor struct {
	t       *troupe
	name    string // "bob/desk"
	person  string // "bob"
	conf    client.Config
	role    string
	k       *client.Client
	at      netip.AddrPort // its UDP socket
	used    map[int]bool   // what was seen and has been expected
	subs    []interface{ End() }
	started bool
}

func newTroupe(s Stage) *troupe {
	ctx, stop := context.WithCancel(context.Background())
	t := &troupe{Stage: s, actors: map[string]*actor{}, wheel: clock.NewWheel(), stop: stop}
	go t.wheel.Run(ctx)
	return t
}

// actor finds or makes an actor. Whoever was not introduced has a phone on UDP.
func (t *troupe) actor(name string) (*actor, error) {
	if a := t.actors[name]; a != nil {
		return a, nil
	}
	person, _, _ := strings.Cut(name, "/")
	if strings.ToLower(person) != person || strings.ContainsAny(person, "<>\"@:") {
		return nil, fmt.Errorf("%q is no actor: people have lower-case names", name)
	}
	a := &actor{t: t, name: name, person: person, used: map[int]bool{}}
	a.conf = client.Config{Address: person + "@" + t.Domain, Transport: sip.UDP, Network: t.Network, Wheel: t.wheel}
	if t.Password != nil {
		a.conf.Password = t.Password(person)
	}
	t.actors[name] = a
	t.order = append(t.order, a)
	return a, nil
}

// phone gives the actor's client and makes it when it is needed first.
func (a *actor) phone() (*client.Client, error) {
	if a.k != nil {
		return a.k, nil
	}
	c := a.conf
	if a.t.Server != nil {
		hop, err := a.t.Server(a.role, c.Transport)
		if err != nil {
			return nil, err
		}
		c.Server = hop
	}
	listen := c.Network.ListenPacket
	c.Network.ListenPacket = func(ctx context.Context) (net.PacketConn, error) {
		pc, err := listen(ctx)
		if err == nil {
			a.at, _ = netip.ParseAddrPort(pc.LocalAddr().String())
		}
		return pc, err
	}
	if c.Transport != sip.UDP && a.t.Server != nil {
		c.Network.ListenPacket = nil
	}
	var err error
	if a.k, err = client.New(c); err != nil {
		return nil, err
	}
	a.used = map[int]bool{}
	return a.k, nil
}

// uri gives the URI under which somebody is reached: a name, an address or a URI.
func (t *troupe) uri(who string) (string, error) {
	switch {
	case strings.Contains(who, ":"):
		return who, nil
	case strings.Contains(who, "@"):
		return "sip:" + who, nil
	case t.Server != nil:
		person, _, _ := strings.Cut(who, "/")
		return "sip:" + person + "@" + t.Domain, nil
	}
	a, err := t.actor(who)
	if err != nil {
		return "", err
	}
	if _, err := a.phone(); err != nil {
		return "", err
	}
	return "sip:" + a.person + "@" + a.at.String(), nil
}

// leave ends calls and takes bindings back, then closes the clients.
func (t *troupe) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, a := range t.order {
		if a.k == nil {
			continue
		}
		for _, s := range a.subs {
			s.End()
		}
		for _, c := range a.k.Calls() {
			c.Hangup()
		}
		if a.started && t.Server != nil { // as the person who it really is
			a.k.SetAddress(a.person + "@" + t.Domain)
			if t.Password != nil {
				a.k.SetPassword(t.Password(a.person))
			}
			a.k.UnregisterAll(ctx)
		}
	}
	for _, a := range t.order {
		if a.k != nil {
			a.k.Close()
		}
	}
	t.stop()
}

// call gives the actor's newest call, or the newest with somebody.
func (a *actor) call(with string) (*dialog.Call, error) {
	k, err := a.phone()
	if err != nil {
		return nil, err
	}
	calls := k.Calls()
	for i := len(calls) - 1; i >= 0; i-- {
		if with == "" || a.peer(calls[i]) == with {
			return calls[i], nil
		}
	}
	if with != "" {
		return nil, fmt.Errorf("%s has no call with %s", a.name, with)
	}
	return nil, fmt.Errorf("%s has no call", a.name)
}

// peer gives the person at the other end.
func (a *actor) peer(c *dialog.Call) string {
	ad, err := sip.ParseAddress([]byte(c.Info().Remote))
	if err != nil {
		return ""
	}
	return string(ad.URI.User)
}
