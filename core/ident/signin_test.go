package ident

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"fernamt/test/is"
)

// digestOK says whether a phone could sign in with that user name and password.
func digestOK(a *Account, user, password string) bool {
	m, s := digest(user, a.Domain(), password)
	for _, c := range a.Credentials {
		if c.User == user && c.MD5 == m && c.SHA256 == s {
			return true
		}
	}
	return false
}

func TestPasswords(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		d := w.directory(t, Config{})
		a := alice(t, d)
		ctx := t.Context()
		refused := func(name, password string) {
			t.Helper()
			_, err := d.CheckPassword(ctx, name, password)
			is.True(t, errors.Is(err, ErrPassword), fmt.Sprint(err))
			is.True(t, !strings.Contains(fmt.Sprint(err), password))
		}
		signsIn := func(name, password string) {
			t.Helper()
			got, err := d.CheckPassword(ctx, name, password)
			is.NoErr(t, err)
			is.Equal(t, got, d.ByID(a.ID))
			is.True(t, got.HasPassword())
		}
		refused("al", "wrong-one")
		refused("nobody@example.test", "wonderland")
		is.True(t, !d.ByID(a.ID).HasPassword(), "a wrong password was stored")
		signsIn("AL", "wonderland") // the first: from HA1, then argon2id
		signsIn("alice@example.test", "wonderland")
		refused("al", "wrong-one")
		is.True(t, digestOK(d.ByID(a.ID), "alice", "wonderland"), "phones go on with the initial password")
		d = w.directory(t, Config{})
		signsIn("al", "wonderland")

		dev, err := d.AddDevice(ctx, a.Address, "desk")
		is.NoErr(t, err)
		is.NoErr(t, d.SetPassword(ctx, a.Address, "looking-glass"))
		signsIn("al", "looking-glass")
		refused("al", "wonderland")
		now := d.ByID(a.ID)
		is.True(t, !digestOK(now, "alice", "wonderland"), "the old password is still good for phones")
		is.True(t, digestOK(now, "alice", dev.Password) && digestOK(now, a.Address, dev.Password) && digestOK(now, "al", dev.Password))
		refused("al", dev.Password) // a device password does not open the web

		is.NoErr(t, d.SetInitial(ctx, a.Address, "third"))
		refused("al", "looking-glass")
		is.True(t, digestOK(d.ByID(a.ID), "alice", "third") && digestOK(d.ByID(a.ID), "alice", dev.Password))
		signsIn("al", "third")
		is.NoErr(t, d.SetDisabled(ctx, a.Address, true))
		_, err = d.CheckPassword(ctx, "al", "third")
		is.True(t, errors.Is(err, ErrDisabled))
		refused("al", "wrong-one")
		for _, bad := range []string{"", "a\nb", strings.Repeat("x", 257)} {
			is.True(t, d.SetPassword(ctx, a.Address, bad) != nil)
		}
		_, err = d.Add(ctx, New{Address: "none@example.test"})
		is.NoErr(t, err)
		refused("none@example.test", "-")
	})
}

func TestFirstSignInTwice(t *testing.T) {
	d := newWorld(t, "").directory(t, Config{})
	a := alice(t, d)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			_, err := d.CheckPassword(context.Background(), "al", "wonderland")
			is.NoErr(t, err)
		})
	}
	wg.Wait()
	is.Equal(t, d.ByID(a.ID).Rev, a.Rev+1, "stored once")
}

func TestArgon(t *testing.T) {
	h := argon("secret")
	ok, err := argonMatches(h, "secret")
	is.True(t, ok && err == nil)
	ok, err = argonMatches(h, "Secret")
	is.True(t, !ok && err == nil)
	is.True(t, h != argon("secret"), "no salt")
	ok, err = argonMatches(absent, "secret")
	is.True(t, !ok && err == nil, "the stand-in for unknown names must be computable")
	// From RFC 9106's reference program: printf password | argon2 somesalt -id -t 2 -k 65536 -p 4.
	ok, err = argonMatches("$argon2id$v=19$m=65536,t=2,p=4$c29tc2FsdA$IMit9qkFULCMA/ViizL57cnTLOa5DiVM9eMwpAvPwr4", "wrong")
	is.True(t, !ok && err == nil)
	for _, bad := range []string{"", "$argon2id$", "$argon2i$v=19$m=8,t=1,p=1$AAAA$AAAA", "$argon2id$v=19$m=99999999,t=1,p=1$AAAA$AAAA",
		"$argon2id$v=19$m=8,t=0,p=1$AAAA$AAAA", "$argon2id$v=19$m=8,t=1,p=1$?$AAAA", "$argon2id$v=19$m=8,t=1,p=1$AAAA$"} {
		ok, err := argonMatches(bad, "x")
		is.True(t, !ok && err != nil, bad)
	}
}

func TestDevices(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		d := w.directory(t, Config{})
		a := alice(t, d)
		ctx := t.Context()
		one, err := d.AddDevice(ctx, a.Address, "")
		is.NoErr(t, err)
		two, err := d.AddDevice(ctx, a.Address, "Kitchen")
		is.NoErr(t, err)
		three, err := d.AddDevice(ctx, a.Address, "")
		is.NoErr(t, err)
		is.Equal(t, []string{one.Name, two.Name, three.Name}, []string{"phone 1", "Kitchen", "phone 2"})
		is.True(t, one.Password != two.Password)
		_, err = d.AddDevice(ctx, a.Address, "Kitchen")
		is.Err(t, err, "there already")
		d.Used(two.ID)
		list, err := d.ListDevices(a.Address)
		is.NoErr(t, err)
		is.Equal(t, len(list), 4)
		is.True(t, list[0].Initial && list[2].Name == "Kitchen" && !list[2].Used.IsZero() && list[1].Used.IsZero())
		is.NoErr(t, d.RevokeDevice(ctx, a.Address, "Kitchen"))
		is.NoErr(t, d.RevokeDevice(ctx, a.Address, fmt.Sprint(one.ID)))
		err = d.RevokeDevice(ctx, a.Address, "Kitchen")
		is.True(t, errors.Is(err, ErrDevice))
		err = d.RevokeDevice(ctx, a.Address, "initial")
		is.True(t, errors.Is(err, ErrDevice), "the initial password is no device")
		now := d.ByID(a.ID)
		is.True(t, !digestOK(now, "alice", two.Password) && digestOK(now, "alice", three.Password) && digestOK(now, "alice", "wonderland"))
		d.Used(three.ID)
		is.NoErr(t, d.Close())
		d = w.directory(t, Config{})
		list, err = d.ListDevices(a.Address)
		is.NoErr(t, err)
		is.Equal(t, len(list), 2)
		is.True(t, time.Since(list[1].Used) < time.Minute, "the last use was not stored")
		for range maxDevices - 1 {
			_, err = d.AddDevice(ctx, a.Address, "")
			is.NoErr(t, err)
		}
		_, err = d.AddDevice(ctx, a.Address, "")
		is.Err(t, err, "revoke one first")
	})
}

func TestGenerate(t *testing.T) {
	seen := map[rune]bool{}
	for range 500 {
		p := generate()
		is.Equal(t, len(p), 19)
		is.Equal(t, strings.Count(p, "-"), 3)
		for _, r := range p {
			seen[r] = true
		}
	}
	is.Equal(t, len(seen), 33, "32 letters and the dash")
}

func TestNumbers(t *testing.T) {
	for in, want := range map[string]string{
		"+49 30 1234": "+49301234", "tel:+1-555-0100": "+15550100", "+49(30)12/34": "+49301234", " +4930 ": "+4930",
		"+49301234;ext=12": "+49301234;ext=12",
		"030 1234":         "", "+": "", "+0301234": "", "+1234567890123456": "", "+49x": "", "49301234": "", "+4930;ext=": "", "+49;ext=a": "", "": "",
	} {
		got, err := Number(in)
		is.Equal(t, got, want, in)
		is.Equal(t, err == nil, want != "", in)
	}
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"alice@example.test", "SIP:A@b", "sips:ü@x.y", "a@@b", ":@", "@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Address(s)
		if err != nil {
			return
		}
		again, err := Address(a)
		if err != nil || again != a {
			t.Errorf("%q gives %q, and that %q, %v", s, a, again, err)
		}
	})
}
