// Package host says what a role is and what it is handed, and runs the roles of one
// host: store, events, people, certificates, doors, route, roles, in that order, and
// back. It also holds the commands that no role owns (lab, quickstart, start, check,
// ports, user, config …) and declares the doors that no role owns: health and
// metrics, and those that are dialled to PostgreSQL, name servers and HOMER.
//
// Doors: host/health (9061, loopback), host/dns, host/postgres, host/hep.
//
// Goroutines: one root goroutine per role, which recovers, logs, counts and starts
// the role again after a pause; one for the control socket and one per connection to
// it; the health server's; one that looks after certificates; one for systemd's
// watchdog; one for the export to HOMER. All end with Run. Locks: slot.mu guards a
// role's present instance, Host.doors.mu the doors that it has opened; both leaves.
package host

import (
	"context"
	"log/slog"
	"sync"

	"fernamt/core/admin"
	"fernamt/core/config"
	"fernamt/core/event"
	"fernamt/core/ident"
	"fernamt/core/listen"
	"fernamt/core/route"
	"fernamt/core/store"
	"fernamt/core/trace"
	"fernamt/wire/ports"
)

// Role is one server of the suite. Its exported fields are its settings: config fills
// them from the table of the role's name before Ports is called.
type Role interface {
	Ports() []ports.Port                    // the doors it needs; pure, callable before Run
	Commands() []admin.Command              // what an operator can ask of it
	Run(ctx context.Context, h *Host) error // serve until ctx ends
}

// Kind is a role that this binary has: a line of roles.go.
type Kind struct {
	Name string      // as in a host's roles = [ … ]
	New  func() Role // with its defaults
}

// Host is what a role is handed. It takes what it needs from it once, in Run.
type Host struct {
	Name     string // of this host in the settings
	Role     string // of the role that was handed it
	Version  string
	Data     string           // data folder
	Settings *config.Settings // the same on every host
	Self     *config.Host     // this host's part
	Store    *store.DB
	Events   *event.Log
	Users    *ident.Directory
	Route    *route.Gate // every SIP request passes it
	Doors    *listen.Doors
	Metrics  *trace.Metrics
	Trace    *trace.Hub
	Log      *slog.Logger // with the role's name
	Keys     *ident.Keys  // certificates, ours and the authority's
	Table    *admin.Table // every command of this server; role/manage answers from it

	doors *opened
}

// opened are the doors that one run of a role has opened.
type opened struct {
	mu   sync.Mutex
	list []*listen.Door
}

// Listen opens a door that the role declared in Ports. It is closed when Run returns.
func (h *Host) Listen(name string) (*listen.Door, error) {
	d, err := h.Doors.Open(name)
	if err != nil {
		return nil, err
	}
	h.doors.mu.Lock()
	h.doors.list = append(h.doors.list, d)
	h.doors.mu.Unlock()
	return d, nil
}

// Call is what a command works on here, for admin.Table's Answer and Run.
func (h *Host) Call(who admin.Caller) *admin.Call {
	return &admin.Call{Caller: who, Data: h.Data, Settings: h.Settings, Store: h.Store, Users: h.Users}
}

// forRole is the host as one run of a role sees it.
func (h *Host) forRole(name string) *Host {
	c := *h
	c.Role, c.Log, c.doors = name, h.Log.With("role", name), &opened{}
	return &c
}

// shut closes what a run has left open.
func (h *Host) shut() {
	h.doors.mu.Lock()
	defer h.doors.mu.Unlock()
	for _, d := range h.doors.list {
		d.Close()
	}
	h.doors.list = nil
}
