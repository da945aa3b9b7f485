package ident

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"fernamt/test/is"
)

func TestImport(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		d := w.directory(t, Config{})
		text := "\ufeffaddress, name, password, login, aliases, numbers, home\r\n" +
			"alice@example.test,\"Löwe, Alice\",\"se,\"\"cret\",al,a@example.test 201@example.test,+49 30 1;+49301234;ext=5,pool1\r\n" +
			"\r\n" +
			"Bob@Example.test,Bob,b-pass,,,,\r\n"
		var last ImportProgress
		done, err := d.Import(t.Context(), strings.NewReader(text), Importing{Progress: func(p ImportProgress) { last = p }})
		is.NoErr(t, err)
		is.Equal(t, done.Added, 2)
		is.Equal(t, last, ImportProgress{true, 2, 2})
		for range 2 {
			a := d.ByAddress([]byte("201@example.test"))
			is.Equal(t, a.Name, "Löwe, Alice")
			is.Equal(t, a.Numbers, []string{"+49301", "+49301234;ext=5"})
			is.Equal(t, a.Home+a.Login, "pool1al")
			is.True(t, digestOK(a, "alice", `se,"cret`))
			is.True(t, digestOK(d.ByAddress([]byte("bob@example.test")), "bob", "b-pass"))
			d = w.directory(t, Config{})
		}
		_, err = d.CheckPassword(t.Context(), "bob@example.test", "b-pass")
		is.NoErr(t, err)
	})
}

const badRows = `address,name,password,numbers
good@example.test,Good,hush-1
no-at-sign,X,hush-2
good@example.test,Twice,hush-3
empty@example.test,X,
taken@example.test,X,hush-4
short@example.test
long@example.test,X,hush-5,,,,
number@example.test,X,hush-6,030
fine@example.test,Fine,hush-7
`

func TestImportBad(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		d := w.directory(t, Config{})
		_, err := d.Add(t.Context(), New{Address: "taken@example.test"})
		is.NoErr(t, err)
		done, err := d.Import(t.Context(), strings.NewReader(badRows), Importing{})
		is.True(t, errors.Is(err, ErrRows))
		is.Err(t, err, "7 of 9; the first in line 3")
		is.Equal(t, done.Added, 0)
		is.Equal(t, d.Count(), 1, "all or nothing")
		var lines []int
		all := fmt.Sprint(err)
		for _, b := range done.Bad {
			lines = append(lines, b.Line)
			all += b.Err.Error()
		}
		is.Equal(t, lines, []int{3, 4, 5, 6, 7, 8, 9})
		is.True(t, !strings.Contains(all, "hush"), "a password is in an error", all)
		done, err = d.Import(t.Context(), strings.NewReader(badRows), Importing{SkipBad: true})
		is.NoErr(t, err)
		is.Equal(t, []int{done.Added, done.BadCount, d.Count()}, []int{2, 7, 3})
		for _, text := range []string{"", "address,name\n", "address,name,password,colour\n", "address,name,password,name\n",
			"address,name,password\na@b,\"open,hush-8\n"} {
			_, err := d.Import(t.Context(), strings.NewReader(text), Importing{SkipBad: true})
			is.True(t, err != nil && !strings.Contains(err.Error(), "hush"), fmt.Sprint(err))
		}
	})
}

// TestImportRace has names taken between the check and the storing.
func TestImportRace(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		d, other := w.directory(t, Config{}), w.directory(t, Config{})
		text := csvOf(2500)
		taken := false
		take := func(p ImportProgress) {
			if !p.Storing && !taken {
				taken = true
				_, err := other.Add(t.Context(), New{Address: "user000007@example.test"})
				is.NoErr(t, err)
			}
		}
		// d itself may hear of it in time and find the row bad: both ways nothing is imported.
		done, err := d.Import(t.Context(), strings.NewReader(text), Importing{Progress: take})
		is.True(t, err != nil)
		is.Equal(t, done.Added, 0)
		done, err = d.Import(t.Context(), strings.NewReader(text), Importing{SkipBad: true})
		is.NoErr(t, err)
		is.Equal(t, []int{done.Added, done.BadCount}, []int{2499, 1})
		is.Equal(t, w.directory(t, Config{}).Count(), 2500)
		ctx, cancel := context.WithCancel(t.Context())
		more := strings.ReplaceAll(strings.ReplaceAll(text, "@example", "@second"), "+49", "+43")
		_, err = d.Import(ctx, strings.NewReader(more), Importing{Progress: func(p ImportProgress) {
			if p.Storing {
				cancel()
			}
		}})
		is.True(t, errors.Is(err, context.Canceled), fmt.Sprint(err))
		is.Equal(t, d.Count(), 2500)
	})
}

func TestList(t *testing.T) {
	d := newWorld(t, "").directory(t, Config{})
	_, err := d.Import(t.Context(), strings.NewReader(csvOf(30)), Importing{})
	is.NoErr(t, err)
	is.Equal(t, len(d.List("")), 30)
	is.Equal(t, d.List("NUMBER 7")[0].Address, "user000007@example.test")
	is.Equal(t, len(d.List("user00001")), 10)
	a, err := d.Show("SIP:user000003@example.test")
	is.NoErr(t, err)
	is.Equal(t, a.Name, "User Number 3")
	_, err = d.Show("user@example.test")
	is.True(t, errors.Is(err, ErrUnknown))
}

func FuzzImportRows(f *testing.F) {
	f.Add(badRows)
	f.Add("\ufeffaddress,name,password,login,aliases,numbers,home\n\"a\"\"b@c.d\",,x,l,\"a@b c@d\",\"+1 2 3;ext=4;+49 1\",h\n")
	d := &Directory{}
	for _, x := range []*index{&d.names, &d.logins, &d.numbers, &d.ids} {
		x.init()
	}
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := readRows(strings.NewReader(text), func(ImportProgress) {})
		if err != nil {
			return
		}
		d.prepareRows(rows)
		d.findTwice(rows)
		for _, r := range rows {
			if r.err == nil && r.made == nil {
				t.Errorf("line %d has neither an account nor an error", r.line)
			}
		}
	})
}
