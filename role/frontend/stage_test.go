package frontend

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"fernamt/core/config"
	"fernamt/core/event"
	"fernamt/core/host"
	"fernamt/core/ident"
	"fernamt/core/route"
	"fernamt/core/store"
	"fernamt/test/is"
)

const domain = "bar.test"

// stage is a front end without doors: tests bring it sockets of their own.
type stage struct {
	*role
	users *ident.Directory
	db    *store.DB
	ctx   context.Context
}

// newStage makes a front end with n accounts u00000 … and the password "secret".
func newStage(t testing.TB, n int, set func(*role, *route.Config)) *stage {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	db, err := store.Open(ctx, store.Config{Dir: t.TempDir(), Log: log})
	is.NoErr(t, err)
	events, err := event.Open(ctx, db, event.Config{Log: log})
	is.NoErr(t, err)
	users, err := ident.Open(ctx, db, events, ident.Config{Domains: []string{domain}, Log: log})
	is.NoErr(t, err)
	var csv strings.Builder
	csv.WriteString("address,name,password\n")
	for i := range n {
		fmt.Fprintf(&csv, "u%05d@%s,User %d,secret\n", i, domain, i)
	}
	_, err = users.Import(ctx, strings.NewReader(csv.String()), ident.Importing{})
	is.NoErr(t, err)
	conf := route.Config{Domains: []string{domain}, Users: users, Log: log, Dir: t.TempDir()}
	r := New().(*role)
	if set != nil {
		set(r, &conf)
	}
	g, err := route.New(conf)
	is.NoErr(t, err)
	settings := config.Defaults()
	settings.Domains = []string{domain}
	settings.Hosts = []config.Host{{Name: "fe." + domain, Roles: []string{"frontend"}}}
	h := &host.Host{Name: "fe." + domain, Role: "frontend", Settings: settings, Self: &settings.Hosts[0], Store: db, Events: events,
		Users: users, Route: g, Log: log}
	ran := make(chan error, 1)
	go func() { ran <- g.Run(ctx) }()
	work, err := r.begin(ctx, h)
	is.NoErr(t, err)
	t.Cleanup(func() {
		cancel()
		work.Wait()
		r.deliver.wait()
		is.NoErr(t, <-ran)
		is.NoErr(t, users.Close())
		is.NoErr(t, events.Close())
		is.NoErr(t, db.Close())
	})
	return &stage{r, users, db, ctx}
}

func trust(r *role, _ *route.Config) {
	r.Trusted = []config.Net{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
}

var _ net.PacketConn = (*memory)(nil)
