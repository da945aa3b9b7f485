package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"fernamt/core/config"
	"fernamt/core/ident"
)

// Users are the commands about accounts; they work on a running server and on a stopped one.
func Users() []Command {
	list := []Command{
		{Name: "user add", Args: "ADDRESS [--name NAME] [--password-stdin] [--login NAME] [--number NUMBER] [--alias ADDRESS]",
			Rights: Change, Run: userAdd,
			Help: "Makes an account with an initial password\n\n" +
				"The initial password is for phones (SIP Digest) and for the first sign-in on the web. It comes from\n" +
				"standard input, or is drawn and printed."},
		{Name: "user import", Args: "FILE.csv [--skip-bad]", Rights: Change, Long: true, Run: userImport,
			Help: "Makes accounts from a file with the header address,name,password\n\n" +
				"Further columns may be login, aliases, numbers and home. All rows or none, unless --skip-bad leaves bad\n" +
				"ones out. - reads standard input. Passwords are initial ones."},
		{Name: "user list", Args: "[PART] [--format text|json]", Rights: Look, Run: userList,
			Help: "Lists accounts, all or those whose address, name, login or number contains PART"},
		{Name: "user show", Args: "ADDRESS [--format text|json]", Rights: Look, Run: userShow,
			Help: "Shows an account"},
		{Name: "user remove", Args: "ADDRESS", Rights: Change, Run: userRemove, Help: "Removes an account"},
		{Name: "user password", Args: "ADDRESS [--password-stdin]", Rights: Change, Run: userPassword,
			Help: "Sets the account password, for the web\n\n" +
				"The initial password ends with it: phones sign in with device passwords from then on. It comes from\n" +
				"standard input, or is drawn and printed."},
		{Name: "user device", Args: "ADDRESS [--name NAME] [--list] [--revoke DEVICE] [--format text|json]",
			Rights: Change, Run: userDevice,
			Help: "Makes a password for one phone and prints it: it cannot be shown again\n\n" +
				"--list shows the device passwords of the account, --revoke ends one, by name or number."},
		{Name: "user enable", Args: "ADDRESS", Rights: Change, Help: "Readmits an account",
			Run: func(ctx context.Context, c *Call) error {
				return done(c, c.Users.SetDisabled(ctx, c.Arg(0), false), "is readmitted")
			}},
		{Name: "user disable", Args: "ADDRESS", Rights: Change, Help: "Bars an account: it cannot sign in nor be called",
			Run: func(ctx context.Context, c *Call) error {
				return done(c, c.Users.SetDisabled(ctx, c.Arg(0), true), "is barred")
			}},
		{Name: "user alias", Args: "ADDRESS [ALIAS...]", Rights: Change,
			Help: "Sets the further addresses of an account; without any, removes them",
			Run: func(ctx context.Context, c *Call) error {
				return done(c, c.Users.SetAliases(ctx, c.Arg(0), c.Args[1:]), "has "+count(len(c.Args)-1, "alias", "aliases"))
			}},
		{Name: "user number", Args: "ADDRESS [NUMBER...]", Rights: Change,
			Help: "Sets the telephone numbers of an account (+4930123456); without any, removes them",
			Run: func(ctx context.Context, c *Call) error {
				return done(c, c.Users.SetNumbers(ctx, c.Arg(0), c.Args[1:]), "has "+count(len(c.Args)-1, "number", "numbers"))
			}},
		{Name: "user login", Args: "ADDRESS NAME", Rights: Change,
			Help: "Sets the name that a person signs in with, apart from the address",
			Run: func(ctx context.Context, c *Call) error {
				return done(c, c.Users.SetLogin(ctx, c.Arg(0), c.Arg(1)), "signs in as "+c.Arg(1))
			}},
		{Name: "user move", Args: "ADDRESS POOL", Rights: Change, Help: "Gives an account to another pool", Run: userMove},
		{Name: "user limit", Args: "ADDRESS PHONES", Rights: Change,
			Help: "Sets how many phones may be registered at once, 1 to 64", Run: userLimit},
	}
	for i := range list {
		list[i].Where = Either
	}
	return list
}

// password is what stands on standard input, or a drawn one, which is printed.
func password(c *Call) (p string, drawn bool, err error) {
	if p, err = c.ReadPassword(); err != nil || p != "" {
		return p, false, err
	}
	return strings.ToLower(rand.Text()[:20]), true, nil
}

// split cuts a flag's comma-separated list.
func split(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func userAdd(ctx context.Context, c *Call) error {
	p, drawn, err := password(c)
	if err != nil {
		return err
	}
	a, err := c.Users.Add(ctx, ident.New{Address: c.Arg(0), Name: c.Flag("name"), Password: p, Login: c.Flag("login"),
		Numbers: split(c.Flag("number")), Aliases: split(c.Flag("alias"))})
	if err != nil {
		return err
	}
	c.Printf("%s is there\n", a.Address)
	if drawn {
		c.Printf("initial password: %s\n", p)
	}
	return nil
}

func userImport(ctx context.Context, c *Call) error {
	began := time.Now()
	done, err := c.Users.Import(ctx, c.In, ident.Importing{SkipBad: c.Has("skip-bad"), Progress: func(x ident.ImportProgress) {
		what := "reading accounts"
		if x.Storing {
			what = "storing accounts"
		}
		c.Progress(int64(x.Done), int64(x.Total), what)
	}})
	for i, b := range done.Bad {
		if i == 10 && done.BadCount > 11 {
			fmt.Fprintf(c.Err, "and %d more\n", done.BadCount-i)
			break
		}
		fmt.Fprintf(c.Err, "line %d: %v\n", b.Line, b.Err)
	}
	if err != nil {
		return err
	}
	c.Printf("%d accounts in %.1f s\n", done.Added, time.Since(began).Seconds())
	if done.BadCount > 0 {
		return fmt.Errorf("%d rows were left out", done.BadCount)
	}
	return nil
}

// account is what list and show print.
type account struct {
	Address  string   `json:"address"`
	Name     string   `json:"name,omitempty"`
	Login    string   `json:"login"`
	Aliases  []string `json:"aliases,omitempty"`
	Numbers  []string `json:"numbers,omitempty"`
	Pool     string   `json:"pool,omitempty"`
	Disabled bool     `json:"disabled,omitempty"`
	Phones   int      `json:"max_bindings"`
	Rights   []string `json:"rights,omitempty"`
	Password string   `json:"password"` // account, initial, none; never the password
	Devices  int      `json:"devices"`
	Created  string   `json:"created"`
}

func shown(u *ident.Directory, a *ident.Account) account {
	x := account{a.Address, a.Name, a.Login, a.Aliases, a.Numbers, a.Home, a.Disabled, a.MaxBindings, a.Rights, "none", 0,
		a.Created.UTC().Format(time.RFC3339)}
	devices, _ := u.ListDevices(a.Address)
	for _, d := range devices {
		if d.Initial {
			x.Password = "initial"
		} else {
			x.Devices++
		}
	}
	if a.HasPassword() {
		x.Password = "account"
	}
	return x
}

func userList(_ context.Context, c *Call) error {
	list := c.Users.List(c.Arg(0))
	if c.Format() == "json" {
		out := make([]account, 0, len(list))
		for _, a := range list {
			out = append(out, shown(c.Users, a))
		}
		return c.JSON(out)
	}
	var rows [][]string
	for _, a := range list {
		state := ""
		if a.Disabled {
			state = "disabled"
		}
		rows = append(rows, []string{a.Address, a.Name, strings.Join(a.Numbers, " "), state})
	}
	none := "no accounts; fernamt user add ADDRESS makes one"
	if c.Arg(0) != "" {
		none = "no account contains " + c.Arg(0)
	}
	c.Rows(none, []string{"address", "name", "numbers", "state"}, rows)
	return nil
}

func userShow(_ context.Context, c *Call) error {
	a, err := c.Users.Show(c.Arg(0))
	if err != nil {
		return suggest(c, err)
	}
	x := shown(c.Users, a)
	if c.Format() == "json" {
		return c.JSON(x)
	}
	rows := [][2]string{{"address", x.Address}, {"name", x.Name}, {"login", x.Login}, {"aliases", strings.Join(x.Aliases, " ")},
		{"numbers", strings.Join(x.Numbers, " ")}, {"pool", x.Pool}, {"rights", strings.Join(x.Rights, " ")},
		{"password", x.Password}, {"device passwords", fmt.Sprint(x.Devices)}, {"phones at once", fmt.Sprint(x.Phones)},
		{"disabled", fmt.Sprint(x.Disabled)}, {"forwarding", forwarding(a.Forwarding)}, {"created", x.Created}}
	for _, r := range rows {
		c.Printf("%-17s %s\n", r[0]+":", r[1])
	}
	return nil
}

func forwarding(f ident.Forwarding) string {
	var parts []string
	for _, p := range []struct{ word, to string }{{"always", f.Always}, {"busy", f.Busy}, {"no answer", f.NoAnswer},
		{"not registered", f.Offline}, {"also rings", strings.Join(f.Ring, " ")}} {
		if p.to != "" {
			parts = append(parts, p.word+": "+p.to)
		}
	}
	if f.DND {
		parts = append(parts, "do not disturb")
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// suggest names an account that was probably meant.
func suggest(c *Call, err error) error {
	if !errors.Is(err, ident.ErrUnknown) {
		return err
	}
	var known []string
	for _, a := range c.Users.List("") {
		if known = append(known, a.Address); len(known) == 2000 {
			break // beyond, looking takes longer than it helps
		}
	}
	if n := config.Nearest(c.Arg(0), known); n != "" {
		return fmt.Errorf("%w; did you mean %s?", err, n)
	}
	return err
}

func userRemove(ctx context.Context, c *Call) error {
	return done(c, c.Users.Remove(ctx, c.Arg(0)), "is removed")
}

// done says what was done to an account, or why it was not.
func done(c *Call, err error, what string) error {
	if err != nil {
		return suggest(c, err)
	}
	c.Printf("%s %s\n", c.Arg(0), what)
	return nil
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}

func userPassword(ctx context.Context, c *Call) error {
	p, drawn, err := password(c)
	if err != nil {
		return err
	}
	initial := false
	if a, err := c.Users.Show(c.Arg(0)); err == nil {
		initial = shown(c.Users, a).Password == "initial"
	}
	if err := c.Users.SetPassword(ctx, c.Arg(0), p); err != nil {
		return suggest(c, err)
	}
	if initial {
		fmt.Fprintf(c.Err, "the initial password has ended: phones that used it need one of their own, from fernamt user device %s\n", c.Arg(0))
	}
	if drawn {
		c.Printf("password: %s\n", p)
	} else {
		c.Printf("the password of %s is set\n", c.Arg(0))
	}
	return nil
}

func userDevice(ctx context.Context, c *Call) error {
	switch {
	case c.Has("list"):
		return userDevices(c)
	case c.Has("revoke"):
		if err := c.Users.RevokeDevice(ctx, c.Arg(0), c.Flag("revoke")); err != nil {
			return suggest(c, err)
		}
		c.Printf("%s is revoked\n", c.Flag("revoke"))
		return nil
	}
	d, err := c.Users.AddDevice(ctx, c.Arg(0), c.Flag("name"))
	if err != nil {
		return suggest(c, err)
	}
	if c.Format() == "json" {
		return c.JSON(map[string]string{"name": d.Name, "user": d.User, "password": d.Password})
	}
	c.Printf("device:   %s\nuser:     %s\npassword: %s\n", d.Name, d.User, d.Password)
	return nil
}

func userDevices(c *Call) error {
	list, err := c.Users.ListDevices(c.Arg(0))
	if err != nil {
		return suggest(c, err)
	}
	if c.Format() == "json" {
		return c.JSON(list)
	}
	var rows [][]string
	for _, d := range list {
		used := "never"
		if !d.Used.IsZero() {
			used = d.Used.Format(time.DateTime)
		}
		rows = append(rows, []string{fmt.Sprint(d.ID), d.Name, d.Created.Format(time.DateTime), used})
	}
	c.Rows("no device passwords", []string{"number", "name", "made", "last used"}, rows)
	return nil
}

func userMove(ctx context.Context, c *Call) error {
	var known []string
	for _, p := range c.Settings.Pools {
		known = append(known, p.Name)
		if p.Name == c.Arg(1) {
			if err := c.Users.Move(ctx, c.Arg(0), p.Name); err != nil {
				return suggest(c, err)
			}
			c.Printf("%s lives on %s\n", c.Arg(0), p.Name)
			return nil
		}
	}
	return fmt.Errorf("there is no pool %s (known: %s)", c.Arg(1), strings.Join(known, ", "))
}

func userLimit(ctx context.Context, c *Call) error {
	var n int
	if _, err := fmt.Sscanf(c.Arg(1), "%d", &n); err != nil {
		return Usagef("%s is not a number", c.Arg(1))
	}
	return done(c, c.Users.SetMaxBindings(ctx, c.Arg(0), n), "may have "+count(n, "phone", "phones")+" registered")
}
