package ident

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"fernamt/core/event"
	"fernamt/core/store"
	"fernamt/test/is"
	"fernamt/test/postgres"
)

var server postgres.Server

func TestMain(m *testing.M) {
	code := m.Run()
	server.Stop()
	os.Exit(code)
}

// world is a store with its log.
type world struct {
	cfg store.Config
	db  *store.DB
	log *event.Log
}

func newWorld(t testing.TB, dsn string) *world {
	w := &world{cfg: store.Config{Dir: t.TempDir(), DSN: dsn, Dial: postgres.Dial}}
	w.open(t)
	return w
}

func (w *world) open(t testing.TB) {
	t.Helper()
	var err error
	w.db, err = store.Open(t.Context(), w.cfg)
	is.NoErr(t, err)
	w.log, err = event.Open(t.Context(), w.db, event.Config{Poll: 20 * time.Millisecond})
	is.NoErr(t, err)
	db, log := w.db, w.log
	t.Cleanup(func() {
		is.NoErr(t, log.Close())
		is.NoErr(t, db.Close())
	})
}

func (w *world) directory(t testing.TB, cfg Config) *Directory {
	t.Helper()
	d, err := Open(t.Context(), w.db, w.log, cfg)
	is.NoErr(t, err)
	t.Cleanup(func() { is.NoErr(t, d.Close()) })
	return d
}

type runner[T any] interface {
	testing.TB
	Run(string, func(T)) bool
}

// both runs f on each engine.
func both[T runner[T]](t T, f func(t T, w *world)) {
	t.Run("sqlite", func(t T) { f(t, newWorld(t, "")) })
	t.Run("postgres", func(t T) { f(t, newWorld(t, server.DSN(t))) })
}

func alice(t testing.TB, d *Directory) *Account {
	t.Helper()
	a, err := d.Add(t.Context(), New{Address: "sip:Alice@Example.test", Name: "Alice Löwe", Password: "wonderland", Login: "al",
		Aliases: []string{"a.lowe@example.test", "201@example.test"}, Numbers: []string{"+49 (30) 12-34", "tel:+49301235;ext=7"},
		Home: "pool1", Rights: []string{"admin"}})
	is.NoErr(t, err)
	return a
}

func TestAddAndFind(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		d := w.directory(t, Config{Domains: []string{"Example.test"}})
		a := alice(t, d)
		for range 2 { // the second time as loaded from the store
			for _, s := range []string{"alice@example.test", "ALICE@Example.TEST", "a.lowe@example.test", "201@example.test"} {
				is.Equal(t, d.ByAddress([]byte(s)), a, s)
				is.Equal(t, d.ByLogin([]byte(s)), a, s)
			}
			is.Equal(t, d.ByLogin([]byte("Al")), a)
			is.True(t, d.ByAddress([]byte("al")) == nil, "a login is no address")
			is.Equal(t, d.ByNumber([]byte("+49301234")), a)
			is.Equal(t, d.ByNumber([]byte("+49301235;ext=7")), a)
			is.Equal(t, d.ByID(a.ID), a)
			for _, s := range []string{"alice", "AL", "alice@example.test"} {
				is.Equal(t, d.ByUsername([]byte(s), []byte("Example.test")), a, s)
				is.True(t, d.ByUsername([]byte(s), []byte("other.test")) == nil, s)
			}
			is.True(t, d.ByAddress([]byte("bob@example.test")) == nil)
			is.True(t, d.ByAddress([]byte(strings.Repeat("X", 999))) == nil)
			is.True(t, d.ByUsername(make([]byte, 999), make([]byte, 999)) == nil)
			is.Equal(t, d.Count(), 1)
			is.True(t, a.May("anything"))
			d = w.directory(t, Config{})
			again := d.ByID(a.ID)
			is.True(t, again != a)
			is.Equal(t, strip(again), strip(a), "as loaded")
			a = again
		}
		for _, bad := range []New{
			{Address: "alice"}, {Address: "@example.test"}, {Address: "a b@example.test"}, {Address: "a@exa_mple..test"},
			{Address: "b@example.test", Name: "a\nb"}, {Address: "b@example.test", Numbers: []string{"030 1234"}},
			{Address: "b@example.test", Password: "a\x00b"}, {Address: "b@example.test", MaxBindings: 65},
			{Address: "b@example.test", Aliases: []string{"x"}}, {Address: "b@example.test", Login: "a:b"},
		} {
			_, err := d.Add(t.Context(), bad)
			is.True(t, err != nil, fmt.Sprint(bad))
		}
		for _, taken := range []New{
			{Address: "alice@example.test"}, {Address: "201@example.test"}, {Address: "b@example.test", Login: "AL"},
			{Address: "b@example.test", Login: "alice@example.test"}, {Address: "b@example.test", Numbers: []string{"+49301234"}},
			{Address: "b@example.test", Aliases: []string{"Alice@example.test"}},
		} {
			_, err := d.Add(t.Context(), taken)
			is.True(t, errors.Is(err, ErrTaken), fmt.Sprint(taken, err))
		}
		is.Equal(t, d.Count(), 1)
	})
}

// strip leaves out what is equal in value only.
func strip(a *Account) Account {
	b := *a
	b.Created = b.Created.UTC().Round(0)
	b.Credentials = append([]Credential{}, a.Credentials...)
	for i := range b.Credentials {
		b.Credentials[i].Created = b.Credentials[i].Created.UTC().Round(0)
	}
	return b
}

func TestDomains(t *testing.T) {
	d := newWorld(t, "").directory(t, Config{Domains: []string{"example.test", "second.test"}})
	_, err := d.Add(t.Context(), New{Address: "a@other.test"})
	is.Err(t, err, "none of our domains")
	_, err = d.Add(t.Context(), New{Address: "a@example.test", Password: "x1"})
	is.NoErr(t, err)
	b, err := d.Add(t.Context(), New{Address: "a@second.test", Password: "x1"})
	is.NoErr(t, err)
	is.Equal(t, d.ByUsername([]byte("a"), []byte("second.test")), b)
	want := md5.Sum([]byte("a:second.test:x1"))
	is.Equal(t, b.Credentials[0].MD5, want)
}

func TestDigestHashes(t *testing.T) {
	d := newWorld(t, "").directory(t, Config{KeepNT: true})
	a := alice(t, d)
	for _, c := range a.Credentials {
		text := []byte(c.User + ":example.test:wonderland")
		is.Equal(t, c.MD5, md5.Sum(text))
		is.Equal(t, c.SHA256, sha256.Sum256(text))
		is.True(t, c.Initial)
		is.Equal(t, *c.NT, *ntHash("wonderland"))
	}
	is.Equal(t, []string{a.Credentials[0].User, a.Credentials[1].User, a.Credentials[2].User},
		[]string{"alice", "alice@example.test", "al"})
}

// [MS-NLMP] §4.2.2.1.2
func TestNTHash(t *testing.T) {
	is.Equal(t, fmt.Sprintf("%x", *ntHash("Password")), "a4f49c406510bdcab6824ee7c30fd852")
}

func TestChanges(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		d := w.directory(t, Config{})
		a := alice(t, d)
		ctx := t.Context()
		r := w.log.Follow(0)
		is.NoErr(t, d.SetName(ctx, a.Address, "Alice L."))
		is.NoErr(t, d.SetAliases(ctx, a.Address, []string{"al@example.test"}))
		is.True(t, d.ByAddress([]byte("201@example.test")) == nil, "old alias")
		is.NoErr(t, d.SetNumbers(ctx, a.Address, []string{"+1 555 1234"}))
		is.True(t, d.ByNumber([]byte("+49301234")) == nil, "old number")
		is.NoErr(t, d.SetLogin(ctx, "al@example.test", "Lowe"))
		is.True(t, d.ByLogin([]byte("al")) == nil, "old login")
		is.Equal(t, len(d.ByLogin([]byte("lowe")).Credentials), 2, "the hash for the old login name is gone")
		is.NoErr(t, d.SetDisabled(ctx, a.Address, true))
		is.NoErr(t, d.SetMaxBindings(ctx, a.Address, 64))
		is.NoErr(t, d.SetHistory(ctx, a.Address, HistoryOff))
		is.NoErr(t, d.SetRights(ctx, a.Address, []string{"users", "audit", "users"}))
		is.NoErr(t, d.Move(ctx, a.Address, "pool2"))
		is.NoErr(t, d.SetForwarding(ctx, a.Address, Forwarding{Busy: "sip:Bob@example.test", NoAnswer: "+49 30 99", Seconds: 30,
			Ring: []string{"carol@example.test", "carol@example.test", "alice@example.test"}}))
		is.NoErr(t, d.SetDND(ctx, a.Address, true))
		for _, err := range []error{d.SetForwarding(ctx, a.Address, Forwarding{Always: "al@example.test"}),
			d.SetForwarding(ctx, a.Address, Forwarding{Seconds: 1}), d.SetForwarding(ctx, a.Address, Forwarding{Ring: make([]string, 9)}),
			d.SetMaxBindings(ctx, a.Address, 0), d.SetName(ctx, "nobody@example.test", ""), d.SetHistory(ctx, a.Address, 9)} {
			is.True(t, err != nil)
		}
		now := d.ByID(a.ID)
		is.Equal(t, now.Forwarding, Forwarding{Busy: "bob@example.test", NoAnswer: "+493099", Seconds: 30, Ring: []string{"carol@example.test"}, DND: true})
		is.Equal(t, now.Forwarding.RingTime(), 30*time.Second)
		is.True(t, now.Disabled && now.MaxBindings == 64 && now.History == HistoryOff && now.Home == "pool2" && now.Name == "Alice L.")
		is.True(t, now.May("audit") && !now.May("calls"))
		is.Equal(t, a.Name, "Alice Löwe", "a snapshot changed")
		loaded := w.directory(t, Config{}).ByID(a.ID)
		is.Equal(t, strip(loaded), strip(now))
		is.NoErr(t, d.Remove(ctx, a.Address))
		is.True(t, errors.Is(d.Remove(ctx, a.Address), ErrUnknown))
		is.True(t, d.ByAddress([]byte(a.Address)) == nil && d.ByLogin([]byte("lowe")) == nil && d.ByNumber([]byte("+15551234")) == nil)
		is.Equal(t, d.Count(), 0)
		var kinds []string
		for len(kinds) < 13 {
			e, err := r.Next(ctx)
			is.NoErr(t, err)
			if c, ok := event.As[Changed](e); ok {
				kinds = append(kinds, c.What)
			} else {
				kinds = append(kinds, e.Kind)
			}
		}
		is.Equal(t, strings.Join(kinds, " "), "user.Added name aliases numbers login disabled limits history rights user.Moved forwarding forwarding user.Removed")
		b := alice(t, d) // all names are free again, and the number is a new one
		is.True(t, b.ID > a.ID)
	})
}

// TestTwoProcesses changes accounts in one process and sees them in another.
func TestTwoProcesses(t *testing.T) {
	one := newWorld(t, server.DSN(t))
	two := &world{cfg: one.cfg}
	two.open(t)
	here, there := one.directory(t, Config{}), two.directory(t, Config{})
	a := alice(t, here)
	eventually(t, func() bool { return there.ByNumber([]byte("+49301234")) != nil })
	is.NoErr(t, there.SetAliases(t.Context(), a.Address, []string{"there@example.test"}))
	is.True(t, there.ByAddress([]byte("there@example.test")) != nil, "own change at once")
	eventually(t, func() bool { return here.ByAddress([]byte("there@example.test")) != nil })
	is.True(t, here.ByAddress([]byte("201@example.test")) == nil)
	// Both at once: no change is lost.
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() { is.NoErr(t, here.SetName(t.Context(), a.Address, fmt.Sprint("here ", i))) })
		wg.Go(func() { is.NoErr(t, there.Move(t.Context(), a.Address, fmt.Sprint("pool", i))) })
	}
	wg.Wait()
	eventually(t, func() bool { return here.ByID(a.ID).Rev == 42 && there.ByID(a.ID).Rev == 42 })
	is.Equal(t, strip(here.ByID(a.ID)), strip(there.ByID(a.ID)))
	is.NoErr(t, here.Remove(t.Context(), a.Address))
	eventually(t, func() bool { return there.Count() == 0 && there.ByAddress([]byte(a.Address)) == nil })
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	for range 500 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it did not happen within 5 s")
}

func TestSecretsAreNotPrinted(t *testing.T) {
	d := newWorld(t, "").directory(t, Config{})
	a := alice(t, d)
	dev, err := d.AddDevice(t.Context(), a.Address, "desk")
	is.NoErr(t, err)
	a, err = d.CheckPassword(t.Context(), "al", "wonderland")
	is.NoErr(t, err)
	var out bytes.Buffer
	n := New{Address: "x@y.z", Password: "hush"}
	for _, v := range []any{a, a.Credentials[0], a.Credentials, &a.Credentials[0], dev, &dev, n, &n} {
		fmt.Fprintf(&out, "%v %+v %s\n", v, v, v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
	}
	for _, secret := range []string{"argon2id", "hush", dev.Password, "wonderland", fmt.Sprint(a.Credentials[0].MD5[:3])[1:],
		strings.Trim(fmt.Sprint(a.Credentials[0].SHA256[:4]), "[]"), strings.ReplaceAll(strings.Trim(fmt.Sprint(a.Credentials[0].MD5[:4]), "[]"), " ", ",")} {
		is.True(t, !strings.Contains(out.String(), secret), "printed: ", secret, out.String())
	}
}

func TestNoAllocation(t *testing.T) {
	d := newWorld(t, "").directory(t, Config{})
	alice(t, d)
	aor, login, number, upper := []byte("alice@example.test"), []byte("al"), []byte("+49301234"), []byte("ALICE@EXAMPLE.TEST")
	user, realm := []byte("alice"), []byte("example.test")
	n := testing.AllocsPerRun(100, func() {
		if d.ByAddress(aor) == nil || d.ByLogin(login) == nil || d.ByNumber(number) == nil || d.ByAddress(upper) == nil ||
			d.ByUsername(user, realm) == nil || d.ByID(1) == nil {
			t.Error("not found")
		}
		d.Used(1)
	})
	is.Equal(t, n, 0)
}
