package listen

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"fernamt/wire/ports"
)

// State is what a try at a fixed number found.
type State uint8

// The states. Moves: there is no right to open the number, so the door would go up by 10000.
const (
	Free State = iota
	Ours
	Taken
	Moves
	Broken
)

// String gives the state's name.
func (s State) String() string {
	return [...]string{"free", "ours", "taken", "moves", "broken"}[min(s, Broken)]
}

// Probe is one fixed number, tried.
type Probe struct {
	Door      string
	Transport ports.Transport
	At        netip.AddrPort // offset included
	State     State
	By        Process // of Taken
	Err       error   // of Broken
}

// String is one line for people.
func (p Probe) String() string {
	line := fmt.Sprintf("%s %s %s: %s", p.Door, p.Transport, p.At, p.State)
	switch p.State {
	case Taken:
		return line + " by " + p.By.String()
	case Moves:
		return fmt.Sprintf("%s to %d", line, int(p.At.Port())+moveBy)
	case Broken:
		return line + ": " + p.Err.Error()
	}
	return line
}

// Try tries every fixed number of the declared doors for a moment and tells whether it is free, ours, or whose it is.
// pid is the running server, 0 when none runs; this process counts as ours too.
func (d *Doors) Try(ctx context.Context, pid int) []Probe {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found []Probe
	done := map[place]bool{}
	for _, p := range d.declared {
		if p.Use != ports.Listen {
			continue
		}
		for _, addr := range d.addresses(p.Port) {
			at := netip.AddrPortFrom(addr, uint16(p.From+d.c.Offset))
			where := place{p.Transport, at}
			if done[where] {
				continue
			}
			done[where] = true
			one := Probe{Door: p.Name, Transport: p.Transport, At: at}
			if d.sockets[where] != nil {
				one.State = Ours
			} else if skip := d.try(ctx, p.Port, &one, pid); skip {
				continue
			}
			found = append(found, one)
		}
	}
	return found
}

// try opens the number and closes it again. It says whether the machine has no such address family, which is no fault.
func (d *Doors) try(ctx context.Context, p ports.Port, one *Probe, pid int) (skip bool) {
	err := d.touch(ctx, one.Transport, one.At)
	switch {
	case err == nil:
		one.State = Free
	case !d.chosen(p) && noFamily(err):
		return true
	case errors.Is(err, syscall.EADDRINUSE):
		one.State = Taken
		one.By = d.holder(one.Transport, one.At)
		if one.By.PID != 0 && (one.By.PID == pid || one.By.PID == os.Getpid()) {
			one.State = Ours
		}
	case errors.Is(err, syscall.EACCES) && one.At.Port() < lowest:
		one.State = Moves
	default:
		one.State, one.Err = Broken, err
	}
	return false
}

func (d *Doors) touch(ctx context.Context, t ports.Transport, at netip.AddrPort) error {
	if t == ports.UDP {
		pc, err := d.c.Network.ListenPacket(ctx, at)
		if err == nil {
			err = pc.Close()
		}
		return err
	}
	l, err := d.c.Network.Listen(ctx, at)
	if err == nil {
		err = l.Close()
	}
	return err
}

// holder asks the network who has the number; the zero Process when it cannot tell.
func (d *Doors) holder(t ports.Transport, at netip.AddrPort) Process {
	h, ok := d.c.Network.(interface {
		Holder(t ports.Transport, at netip.AddrPort) (Process, error)
	})
	if !ok {
		return Process{}
	}
	p, err := h.Holder(t, at)
	if err != nil {
		return Process{}
	}
	return p
}
