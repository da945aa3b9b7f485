package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"fernamt/core/config"
	"fernamt/core/event"
	"fernamt/core/ident"
	"fernamt/core/listen"
	"fernamt/core/store"
	"fernamt/core/trace"
)

// metrics is short for the table that counters are taken from.
type metrics = *trace.Metrics

// base is what server and offline commands both stand on: store, events, people.
type base struct {
	store  *store.DB
	events *event.Log
	users  *ident.Directory
}

// quiet logs warnings only: for commands, whose output is their own.
func quiet(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// openBase opens the store of these settings and loads the people. Its doors are for
// dialling the database alone.
func (p *Program) openBase(ctx context.Context, s *config.Settings, log *slog.Logger, keepNT bool) (*base, error) {
	doors := listen.New(listen.Config{Network: p.Network, Log: log})
	if err := doors.Declare("host", ownPorts(s)); err != nil {
		return nil, err
	}
	return openOn(ctx, baseConfig{s, p.dataDir(), doors, log, keepNT, nil})
}

// baseConfig is what openOn needs.
type baseConfig struct {
	settings *config.Settings
	data     string
	doors    *listen.Doors
	log      *slog.Logger
	keepNT   bool
	progress func(store.Progress)
}

// storeConfig says where the store is, with its password read and its door.
func storeConfig(c baseConfig) (store.Config, error) {
	password, err := c.settings.Storage.Password.Read(filepath.Dir(c.settings.File))
	if err != nil {
		return store.Config{}, c.settings.Fail("storage.password", err)
	}
	sc := store.Config{Dir: c.data, DSN: c.settings.Storage.DSN, Password: password, Log: c.log, Progress: c.progress}
	if sc.DSN != "" {
		sc.Dial = named(c.doors, doorPostgres)
	}
	return sc, nil
}

func openOn(ctx context.Context, c baseConfig) (*base, error) {
	b := &base{}
	sc, err := storeConfig(c)
	if err != nil {
		return nil, err
	}
	if b.store, err = store.Open(ctx, sc); err != nil {
		return nil, err
	}
	if b.events, err = event.Open(ctx, b.store, event.Config{Log: c.log}); err != nil {
		return nil, errors.Join(err, b.close())
	}
	b.users, err = ident.Open(ctx, b.store, b.events, ident.Config{Domains: c.settings.Domains, KeepNT: c.keepNT, Log: c.log})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open accounts: %w", err), b.close())
	}
	return b, nil
}

// close closes what is open, last first.
func (b *base) close() error {
	var err error
	if b.users != nil {
		err = errors.Join(err, b.users.Close())
	}
	if b.events != nil {
		err = errors.Join(err, b.events.Close())
	}
	if b.store != nil {
		err = errors.Join(err, b.store.Close())
	}
	return err
}
