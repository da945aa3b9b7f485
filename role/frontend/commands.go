package frontend

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"fernamt/core/admin"
	"fernamt/core/ident"
	"fernamt/core/location"
)

func (f *role) commands() []admin.Command {
	return []admin.Command{
		{Name: "dump registrations", Args: "[--format text|json]", Rights: admin.Look, Run: f.dumpRegistrations,
			Help: "Lists who is registered, from where\n\nOne line per phone: address, contact, transport, where it is reached, seconds left, User-Agent."},
		{Name: "dump dialogs", Args: "[--format text|json]", Rights: admin.Look, Run: f.dumpDialogs,
			Help: "Lists calls that ring or go on"},
		{Name: "registration drop", Args: "ADDRESS", Rights: admin.Change, Run: f.dropRegistrations,
			Help: "Ends all registrations of a person\n\nThe phones may register again at once; user disable keeps them out."},
		{Name: "forward show", Args: "ADDRESS", Rights: admin.Look, Where: admin.Either, Run: showForward,
			Help: "Shows where a person's calls go"},
		{Name: "forward set", Args: "ADDRESS always|busy|no-answer|offline TARGET [--seconds N]", Rights: admin.Change, Where: admin.Either, Run: setForward,
			Help: "Forwards a person's calls to an address or a number\n\nalways: at once. busy: when the phone is busy or do-not-disturb is on. no-answer: after --seconds\nof ringing (5 to 180, else 20). offline: when no phone is registered."},
		{Name: "forward clear", Args: "ADDRESS [always|busy|no-answer|offline]", Rights: admin.Change, Where: admin.Either, Run: clearForward,
			Help: "Ends a forwarding, or all of them"},
		{Name: "dnd", Args: "on|off ADDRESS", Rights: admin.Change, Where: admin.Either, Run: setDND,
			Help: "Turns do-not-disturb on or off: calls then count as busy"},
		{Name: "simring", Args: "add|remove ADDRESS TARGET", Rights: admin.Change, Where: admin.Either, Run: setRing,
			Help: "Has another address or number ring along with a person's phones, or ends that"},
	}
}

// registered is a binding as dump shows it.
type registered struct {
	Address   string `json:"address"`
	Contact   string `json:"contact"`
	Transport string `json:"transport"`
	Peer      string `json:"peer,omitempty"`
	Path      string `json:"path,omitempty"`
	Seconds   int    `json:"seconds"`
	Q         string `json:"q"`
	Agent     string `json:"agent,omitempty"`
	Instance  string `json:"instance,omitempty"`
}

func show(b *location.Binding, now int64) registered {
	x := registered{Address: string(b.AOR), Contact: string(b.Contact), Transport: b.Over.String(), Path: string(b.Path),
		Seconds: int((b.Expires - now) / int64(time.Second)), Q: strconv.FormatFloat(float64(b.Q)/1000, 'f', -1, 64),
		Agent: string(b.Agent), Instance: string(b.Instance())}
	if b.Flow.Remote.IsValid() {
		x.Peer = b.Flow.Remote.String()
	}
	return x
}

func (f *role) dumpRegistrations(_ context.Context, c *admin.Call) error {
	now := f.gate.Now()
	list := []registered{}
	for _, b := range f.gate.Locations().All(now) {
		list = append(list, show(&b, now))
	}
	if c.Format() == "json" {
		return c.JSON(map[string]any{"registrations": list})
	}
	var rows [][]string
	for _, x := range list {
		rows = append(rows, []string{x.Address, x.Contact, x.Transport, x.Peer, fmt.Sprint(x.Seconds, "s"), x.Agent})
	}
	c.Rows("nobody is registered", []string{"address", "contact", "transport", "peer", "left", "agent"}, rows)
	return nil
}

func (f *role) dumpDialogs(_ context.Context, c *admin.Call) error {
	list := f.calls.list()
	if c.Format() == "json" {
		return c.JSON(map[string]any{"dialogs": list})
	}
	var rows [][]string
	for _, x := range list {
		rows = append(rows, []string{x.From, x.To, x.State, fmt.Sprint(x.Seconds, "s"), x.Call})
	}
	c.Rows("no calls", []string{"from", "to", "state", "talk", "call"}, rows)
	return nil
}

func (f *role) dropRegistrations(_ context.Context, c *admin.Call) error {
	a, err := f.h.Users.Show(c.Arg(0))
	if err != nil {
		return err
	}
	c.Printf("%d registrations of %s ended\n", f.gate.Locations().RemoveAll([]byte(a.Address)), a.Address)
	return nil
}

func showForward(_ context.Context, c *admin.Call) error {
	a, err := c.Users.Show(c.Arg(0))
	if err != nil {
		return err
	}
	w := a.Forwarding
	var rows [][]string
	for _, x := range [][]string{{"always", w.Always}, {"busy", w.Busy}, {"no-answer", w.NoAnswer}, {"offline", w.Offline}} {
		if x[1] != "" {
			rows = append(rows, x)
		}
	}
	if w.NoAnswer != "" {
		rows = append(rows, []string{"ringing", w.RingTime().String()})
	}
	for _, x := range w.Ring {
		rows = append(rows, []string{"rings along", x})
	}
	if w.DND {
		rows = append(rows, []string{"do-not-disturb", "on"})
	}
	c.Rows("calls to "+a.Address+" ring the phones", []string{"when", "to"}, rows)
	return nil
}

// place is the setting that a word names.
func place(w *ident.Forwarding, when string) *string {
	switch when {
	case "always":
		return &w.Always
	case "busy":
		return &w.Busy
	case "no-answer":
		return &w.NoAnswer
	}
	return &w.Offline
}

// edit changes a person's forwarding.
func edit(ctx context.Context, c *admin.Call, address string, change func(w *ident.Forwarding) error) error {
	a, err := c.Users.Show(address)
	if err != nil {
		return err
	}
	w := a.Forwarding
	w.Ring = slices.Clone(w.Ring)
	if err := change(&w); err != nil {
		return err
	}
	return c.Users.SetForwarding(ctx, a.Address, w)
}

func setForward(ctx context.Context, c *admin.Call) error {
	return edit(ctx, c, c.Arg(0), func(w *ident.Forwarding) error {
		*place(w, c.Arg(1)) = c.Arg(2)
		if c.Has("seconds") {
			n, err := strconv.Atoi(c.Flag("seconds"))
			if err != nil || n < 5 || n > 180 {
				return admin.Usagef("--seconds must be a number from 5 to 180")
			}
			w.Seconds = n
		}
		return nil
	})
}

func clearForward(ctx context.Context, c *admin.Call) error {
	return edit(ctx, c, c.Arg(0), func(w *ident.Forwarding) error {
		if c.Arg(1) != "" {
			*place(w, c.Arg(1)) = ""
			return nil
		}
		w.Always, w.Busy, w.NoAnswer, w.Offline = "", "", "", ""
		return nil
	})
}

func setDND(ctx context.Context, c *admin.Call) error {
	return c.Users.SetDND(ctx, c.Arg(1), c.Arg(0) == "on")
}

func setRing(ctx context.Context, c *admin.Call) error {
	return edit(ctx, c, c.Arg(1), func(w *ident.Forwarding) error {
		i := slices.Index(w.Ring, c.Arg(2))
		switch {
		case c.Arg(0) == "add" && i < 0:
			w.Ring = append(w.Ring, c.Arg(2))
		case c.Arg(0) == "remove" && i < 0:
			return fmt.Errorf("%s does not ring along", c.Arg(2))
		case c.Arg(0) == "remove":
			w.Ring = slices.Delete(w.Ring, i, i+1)
		}
		return nil
	})
}
