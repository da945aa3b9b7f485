package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fernamt/test/is"
)

func nothing(context.Context, *Call) error { return nil }

// TestTable: a command without help, with a bad line of arguments, twice or without
// something to run does not start.
func TestTable(t *testing.T) {
	good := Command{Name: "user add", Args: "ADDRESS [--name NAME]", Help: "Adds", Run: nothing}
	for _, c := range []struct {
		change func(c *Command)
		want   string
	}{
		{func(c *Command) { c.Help = " " }, "has no help"},
		{func(c *Command) { c.Run = nil }, "does nothing"},
		{func(c *Command) { c.Name = "" }, "name in lower case"},
		{func(c *Command) { c.Name = "User" }, "name in lower case"},
		{func(c *Command) { c.Args = "[A" }, "bracket stays open"},
		{func(c *Command) { c.Args = "[A] B" }, "absent or repeated"},
		{func(c *Command) { c.Args = "A... B" }, "absent or repeated"},
		{func(c *Command) { c.Args = "--flag" }, "in brackets"},
	} {
		bad := good
		c.change(&bad)
		_, err := NewTable(bad)
		is.Err(t, err, c.want)
	}
	_, err := NewTable(good, good)
	is.Err(t, err, "twice")
	_, err = NewTable(good)
	is.NoErr(t, err)
}

// table has one command of each kind; what it was given is said on Out.
func table(t *testing.T) *Table {
	say := func(_ context.Context, c *Call) error {
		c.Printf("%s %q", c.Command, c.Args)
		for _, f := range []string{"name", "format", "live"} {
			if c.Has(f) {
				c.Printf(" %s=%q", f, c.Flag(f))
			}
		}
		return nil
	}
	var tab *Table
	tab, err := NewTable(
		Command{Name: "user add", Args: "ADDRESS [--name NAME] [--live] [--format text|json]", Help: "Adds\n\nMore.", Rights: Change, Where: Either, Run: say},
		Command{Name: "user list", Args: "[PART]", Help: "Lists", Rights: Look, Run: say},
		Command{Name: "user alias", Args: "ADDRESS [ALIAS...]", Help: "Sets", Rights: Change, Run: say},
		Command{Name: "user import", Args: "FILE.csv", Help: "Imports", Rights: Change, Run: say},
		Command{Name: "backup", Args: "PATH [--name NAME]", Help: "Backs up", Rights: Own, Run: say},
		Command{Name: "dump", Args: "calls|rooms", Help: "Dumps", Run: say},
		Help(func() *Table { return tab }),
	)
	is.NoErr(t, err)
	return tab
}

func TestRun(t *testing.T) {
	tab := table(t)
	for _, c := range []struct {
		argv   string
		rights Rights
		out    string
		err    string
		status int
	}{
		{"user add a@b", Own, `user add ["a@b"]`, "", 0},
		{"user add --name=A --live a@b --format json", Own, `user add ["a@b"] name="A" format="json" live=""`, "", 0},
		{"user add --name A -- -b", Change, `user add ["-b"] name="A"`, "", 0},
		{"user add", Own, "", "ADDRESS is missing\nusage: fernamt user add ADDRESS", 2},
		{"user add a b", Own, "", `"b" is one word too many`, 2},
		{"user add a --nmae x", Own, "", "there is no flag --nmae; did you mean --name?", 2},
		{"user add a --name", Own, "", "--name needs a value: NAME", 2},
		{"user add a --live=3", Own, "", "--live takes no value", 2},
		{"user add a --format xml", Own, "", "--format xml: allowed are text, json", 2},
		{"user add a", Look, "", "needs the right to change; tester has the right to look", 1},
		{"user add a", Anyone, "", "needs the right to change", 1},
		{"user list", Look, `user list []`, "", 0},
		{"user alias a b c", Own, `user alias ["a" "b" "c"]`, "", 0},
		{"dump calls", Anyone, `dump ["calls"]`, "", 0},
		{"dump call", Anyone, "", "call is none of calls, rooms; did you mean calls?", 2},
		{"user ad", Own, "", "there is no command user ad; did you mean user add?", 2},
		{"user", Own, "", "user needs one more word: user add, user alias, user import, user list", 2},
		{"bakcup x", Own, "", "there is no command bakcup; did you mean backup?", 2},
		{"zebra", Own, "", "fernamt help lists them", 2},
		{"", Own, "", "say what to do", 2},
	} {
		var out bytes.Buffer
		call := &Call{Caller: Caller{"tester", c.rights}, Out: &out}
		err := tab.Run(t.Context(), strings.Fields(c.argv), call)
		is.Equal(t, out.String(), c.out, c.argv)
		is.Equal(t, Status(err), c.status, c.argv)
		if c.err != "" {
			is.Err(t, err, c.err)
		} else {
			is.NoErr(t, err, c.argv)
		}
	}
}

func TestLocal(t *testing.T) {
	tab := table(t)
	argv, file, err := tab.Local(strings.Fields("user import people.csv"))
	is.NoErr(t, err)
	is.Equal(t, argv, strings.Fields("user import -- people.csv"))
	is.Equal(t, file, "people.csv")
	argv, _, err = tab.Local(strings.Fields("backup --name x here.gz"))
	is.NoErr(t, err)
	is.True(t, len(argv) == 4 && argv[1] == "--name=x" && strings.HasPrefix(argv[3], "/") && strings.HasSuffix(argv[3], "/here.gz"), fmt.Sprint(argv))
	_, _, err = tab.Local(strings.Fields("backup"))
	is.Equal(t, Status(err), 2)
}

func TestHelp(t *testing.T) {
	tab := table(t)
	for _, c := range []struct{ argv, want string }{
		{"help", "  user add     Adds\n"},
		{"help user add", "usage: fernamt user add ADDRESS [--name NAME]"},
		{"help user add", "Works on a running server and on a stopped one. Needs the right to change."},
		{"help user", "usage: fernamt user list [PART]"},
		{"help --format md", "## fernamt user add\n\n```\nfernamt user add ADDRESS"},
	} {
		var out bytes.Buffer
		is.NoErr(t, tab.Run(t.Context(), strings.Fields(c.argv), &Call{Out: &out}))
		is.True(t, strings.Contains(out.String(), c.want), c.want+" not in\n"+out.String())
	}
	err := tab.Run(t.Context(), []string{"help", "usr", "add"}, &Call{Out: io.Discard})
	is.Err(t, err, "did you mean user add?")
}

// ask runs argv through the protocol on a pipe.
func ask(t *testing.T, tab *Table, argv []string, in io.Reader, onFrame func(Progress)) (out, errs string, err error) {
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		defer there.Close()
		_ = tab.Answer(context.Background(), there, &Call{Caller: Caller{"tester", Own}})
	}()
	var o, e bytes.Buffer
	err = Ask(here, Request{Argv: argv, In: in, Out: &o, Err: &e, Report: onFrame})
	return o.String(), e.String(), err
}

func TestProtocol(t *testing.T) {
	big := strings.Repeat("0123456789", 20000)
	tab, err := NewTable(
		Command{Name: "echo", Help: "Echoes", Run: func(_ context.Context, c *Call) error {
			b, err := io.ReadAll(c.In)
			c.Progress(1, 2, "half")
			c.Progress(2, 2, "all")
			fmt.Fprint(c.Err, "warned")
			c.Printf("%s", b)
			return err
		}},
		Command{Name: "fail", Help: "Fails", Run: func(context.Context, *Call) error { return errors.New("no") }},
		Command{Name: "find", Help: "Finds", Run: func(_ context.Context, c *Call) error { c.Printf("found"); return Found() }},
		Command{Name: "break", Help: "Breaks", Run: func(context.Context, *Call) error { panic("oops") }},
	)
	is.NoErr(t, err)
	var seen []Progress
	out, errs, err := ask(t, tab, []string{"echo"}, strings.NewReader(big), func(p Progress) { seen = append(seen, p) })
	is.NoErr(t, err)
	is.True(t, out == big, "what was sent came back")
	is.Equal(t, errs, "warned")
	is.Equal(t, seen, []Progress{{1, 2, "half"}, {2, 2, "all"}})
	for _, c := range []struct {
		argv, out, err string
		status         int
	}{
		{"fail", "", "fail: no", 1}, {"find", "found", "", 1}, {"break", "", "broke inside the server: oops", 1},
		{"fial", "", "did you mean fail?", 2}, {"echo --x", "", "there is no flag --x", 2},
	} {
		out, _, err := ask(t, tab, strings.Fields(c.argv), nil, nil)
		is.Equal(t, out, c.out)
		is.Equal(t, Status(err), c.status)
		is.Err(t, err, c.err)
	}
}

// TestCallerGone: a command whose caller goes away is cancelled.
func TestCallerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		tab, err := NewTable(Command{Name: "wait", Help: "Waits", Run: func(ctx context.Context, c *Call) error {
			<-ctx.Done()
			ended = true
			return nil
		}})
		is.NoErr(t, err)
		here, there := net.Pipe()
		go func() { _ = tab.Answer(context.Background(), there, &Call{}) }()
		is.NoErr(t, writeFrame(here, frame{Argv: []string{"wait"}}))
		synctest.Wait()
		is.True(t, !ended, "ended too early")
		here.Close()
		synctest.Wait()
		is.True(t, ended, "goes on although nobody listens")
		there.Close()
	})
}

// TestBadFrames: nonsense on the socket ends the connection and nothing else.
func TestBadFrames(t *testing.T) {
	tab := table(t)
	for _, b := range []string{"\xff\xff\xff\xff", "\x00\x00\x00\x02{]", "GET / HTTP/1.1\r\n\r\n", ""} {
		here, there := net.Pipe()
		go func() { _, _ = here.Write([]byte(b)); here.Close() }()
		is.True(t, tab.Answer(t.Context(), there, &Call{}) != nil, "took "+b)
		there.Close()
	}
}

func FuzzFrame(f *testing.F) {
	var b bytes.Buffer
	status := 3
	_ = writeFrame(&b, frame{Argv: []string{"a"}, In: []byte("x"), Exit: &status})
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = readFrame(bytes.NewReader(b)) })
}

func TestBar(t *testing.T) {
	var b bytes.Buffer
	bar := NewBar(&b)
	bar.Show(Progress{50000, 100000, "importing"})
	is.Equal(t, b.String(), "\rimporting  50,000 of 100,000  [==========          ] 50%")
	b.Reset()
	bar.Show(Progress{7, 0, "x"})
	is.True(t, strings.HasPrefix(b.String(), "\rx  7   "), "the rest of the longer line is wiped")
	b.Reset()
	bar.Clear()
	bar.Clear()
	is.Equal(t, strings.Count(b.String(), "\r"), 2)
}

// TestProgressRate: as often as one likes, shown ten times a second.
func TestProgressRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := &Call{Report: func(_, _ int64, _ string) { n++ }}
		for i := range int64(1001) {
			c.Progress(i, 1000, "")
			time.Sleep(time.Millisecond)
		}
		is.True(t, n >= 10 && n <= 12, fmt.Sprint(n))
		(&Call{}).Progress(1, 2, "nobody looks")
	})
}

func TestReadPassword(t *testing.T) {
	for _, c := range []struct{ in, want, err string }{
		{"geheim\n", "geheim", ""}, {"two words\r\n", "two words", ""}, {"", "", "no password"}, {"a\nb\n", "", "one line"},
		{strings.Repeat("x", 5000), "", "longer than"}, {"\xff\n", "", "UTF-8"},
	} {
		call := &Call{In: strings.NewReader(c.in), flags: map[string]string{"password-stdin": ""}}
		got, err := call.ReadPassword()
		is.Equal(t, got, c.want)
		if c.err != "" {
			is.Err(t, err, c.err)
		}
	}
	got, err := (&Call{}).ReadPassword()
	is.NoErr(t, err)
	is.Equal(t, got, "")
}
