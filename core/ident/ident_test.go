package ident

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"fernamt/core/event"
	"fernamt/core/store"
	"fernamt/test/is"
)

func TestSmoke(t *testing.T) {
	ctx := context.Background()
	db, err := store.Open(ctx, store.Config{Dir: t.TempDir()})
	is.NoErr(t, err)
	log, err := event.Open(ctx, db, event.Config{})
	is.NoErr(t, err)
	d, err := Open(ctx, db, log, Config{})
	is.NoErr(t, err)
	a, err := d.Add(ctx, New{Address: "sip:Alice@Example.test", Name: "Alice", Password: "wonder", Login: "al", Numbers: []string{"+49 30 123"}})
	is.NoErr(t, err)
	fmt.Println(a, d.ByAddress([]byte("ALICE@example.test")) == a, d.ByUsername([]byte("AL"), []byte("example.test")) == a)
	_, err = d.Add(ctx, New{Address: "al@example.test", Login: "al"})
	is.True(t, errors.Is(err, ErrTaken))
	fmt.Println(err)
	dev, err := d.AddDevice(ctx, "alice@example.test", "")
	is.NoErr(t, err)
	fmt.Println(dev, d.Count())
	b, err := d.CheckPassword(ctx, "al", "wonder")
	is.NoErr(t, err)
	fmt.Println(b.HasPassword(), len(b.Credentials))
	_, err = d.CheckPassword(ctx, "al", "wonderx")
	is.True(t, errors.Is(err, ErrPassword))
	is.NoErr(t, d.Close())
	is.NoErr(t, log.Close())
	is.NoErr(t, db.Close())
}
