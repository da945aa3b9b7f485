package listen

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"fernamt/wire/ports"
)

// Socket is an open socket of ours.
type Socket struct {
	Doors     []string        // the doors that share it; none: nobody declared it
	Transport ports.Transport //
	Use       ports.Use       //
	Side      ports.Side      // the first door's
	Protocols []string        // one per door
	Local     netip.AddrPort  // the real address and number
	Remote    netip.AddrPort  // of a dialled one
	Asked     int             // the number of the table; differs from Local's by offset or move; 0 when any would do
}

// String is one line for people: "tcp 127.0.0.1:5060 frontend/sip".
func (s Socket) String() string {
	line := s.Transport.String() + " " + s.Local.String()
	if s.Remote.IsValid() && s.Remote.Port() != 0 {
		line += " to " + s.Remote.String()
	}
	return strings.TrimSpace(line + " " + strings.Join(s.Doors, ", "))
}

// Live lists every socket that is open: listening ones, drawn ones, dialled ones.
func (d *Doors) Live() []Socket {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.liveLocked()
}

func (d *Doors) liveLocked() []Socket {
	var live []Socket
	for _, s := range d.sockets {
		x := Socket{Transport: s.where.transport, Use: ports.Listen, Local: s.local}
		for i, o := range s.opened() {
			if i == 0 {
				x.Side, x.Asked = o.Side, o.From
			}
			x.Doors, x.Protocols = append(x.Doors, o.Name), append(x.Protocols, o.Protocol)
		}
		live = append(live, x)
	}
	for _, m := range d.livingLocked() {
		live = append(live, Socket{
			Doors: []string{m.door.Name}, Transport: ports.UDP, Use: ports.Draw, Side: m.door.Side,
			Protocols: []string{m.door.Protocol}, Local: m.at,
		})
	}
	for o := range d.dialled {
		live = append(live, Socket{
			Doors: []string{o.door.Name}, Transport: o.door.Transport, Use: ports.Dial, Side: o.door.Side,
			Protocols: []string{o.door.Protocol}, Local: addrPort(o.LocalAddr()), Remote: o.to, Asked: o.door.From,
		})
	}
	slices.SortFunc(live, func(a, b Socket) int {
		return cmp.Or(cmp.Compare(a.Use, b.Use), cmp.Compare(a.Local.Port(), b.Local.Port()),
			cmp.Compare(a.Transport, b.Transport), a.Local.Compare(b.Local), a.Remote.Compare(b.Remote))
	})
	return live
}

// Difference is what Live and the kernel say differently.
type Difference struct {
	Missing    []Socket // listed, and the kernel does not have it
	Undeclared []Socket // the kernel has it in this process, and nobody declared it
}

// Same says that there is none.
func (d Difference) Same() bool { return len(d.Missing)+len(d.Undeclared) == 0 }

// String lists the difference, a line each; "" when there is none.
func (d Difference) String() string {
	var b strings.Builder
	for _, s := range d.Missing {
		fmt.Fprintf(&b, "listed but not open: %s\n", s)
	}
	for _, s := range d.Undeclared {
		fmt.Fprintf(&b, "open but not declared: %s\n", s)
	}
	return b.String()
}

// Compare holds Live against the kernel's sockets of this process: all that listen, every UDP socket, and every
// connection that goes out.
func (d *Doors) Compare() (Difference, error) {
	if _, ok := d.c.Network.(kernel); !ok {
		return Difference{}, errors.New("compare with the kernel: these doors are on a simulated network")
	}
	var diff Difference
	for range 3 {
		d.mu.Lock() // no door of ours opens or closes between the two looks
		have, err := ownSockets()
		live := d.liveLocked()
		d.mu.Unlock()
		if err != nil {
			return Difference{}, err
		}
		if diff = compare(live, have); diff.Same() {
			break
		}
		time.Sleep(50 * time.Millisecond) // a dialled one may have been between the kernel and our list
	}
	return diff, nil
}

func ownSockets() ([]kernelSocket, error) {
	mine, err := inodes(os.Getpid())
	if err != nil {
		return nil, err
	}
	all, err := kernelSockets(ports.TCP, ports.UDP)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(s kernelSocket) bool { return !mine[s.inode] }), nil
}

func compare(live []Socket, have []kernelSocket) Difference {
	type end struct {
		transport ports.Transport
		local     netip.AddrPort
	}
	known := map[end]bool{}     // what is listed
	listening := map[end]bool{} // what takes connections, by address and by number alone
	for _, s := range live {
		known[end{s.Transport, s.Local}] = true
		if s.Use == ports.Listen {
			listening[end{s.Transport, s.Local}] = true
		}
	}
	var diff Difference
	seen := map[end]bool{}
	for _, k := range have {
		e := end{k.transport, k.local}
		seen[e] = true
		any := netip.IPv4Unspecified()
		if !k.local.Addr().Is4() {
			any = netip.IPv6Unspecified()
		}
		accepted := k.transport == ports.TCP && k.state != stateListening &&
			(listening[e] || listening[end{k.transport, netip.AddrPortFrom(any, k.local.Port())}])
		closing := k.transport == ports.TCP && k.state != stateListening && k.state != stateEstablished
		if known[e] || accepted || closing {
			continue
		}
		diff.Undeclared = append(diff.Undeclared, Socket{Transport: k.transport, Local: k.local, Remote: k.remote})
	}
	for _, s := range live {
		lost := s.Use == ports.Dial && s.Transport == ports.TCP // its peer reset it, the owner has not noticed yet
		if !seen[end{s.Transport, s.Local}] && !lost {
			diff.Missing = append(diff.Missing, s)
		}
	}
	return diff
}
