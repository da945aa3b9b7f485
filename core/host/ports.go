package host

import (
	"context"
	"errors"
	"fmt"
	"os"

	"fernamt/core/admin"
	"fernamt/wire/ports"
)

// portCommands are about doors. On a server s is it.
func (p *Program) portCommands(s *server) []admin.Command {
	list := []admin.Command{
		{Name: "ports", Args: "[--seed] [--live] [--host NAME] [--format text|md|tsv|json] [--lang en|de]", Where: admin.Here,
			Help: "Lists the doors that this configuration opens and dials\n\n" +
				"Without settings, those of every role. --seed answers the 73 rows of the table that the project began\n" +
				"with. --live holds the list of the running server against the kernel's sockets; exit status 1 when\n" +
				"they differ.",
			Run: p.ports},
		{Name: "status", Args: "[--format text|json]", Where: admin.Server, Rights: admin.Look,
			Help: "Says what the running server is and which doors are open", Run: s.status},
	}
	if s != nil {
		list[0].Run = s.livePorts
		list[0].Rights = admin.Look
	}
	return list
}

// ports prints the table; --live is the server's business.
func (p *Program) ports(ctx context.Context, c *admin.Call) error {
	switch {
	case c.Has("live") && c.Has("seed"):
		return admin.Usagef("--live and --seed do not go together")
	case c.Has("live"):
		return p.askLive(ctx, c)
	case c.Has("seed"):
		answers, err := ports.Answers(p.everyPort(), ports.Recorded().Passed)
		if err != nil {
			return err
		}
		t, err := ports.TableOfAnswers(answers, c.Lang())
		if err != nil {
			return err
		}
		if err := t.Write(c.Out, c.Format()); err != nil {
			return err
		}
		if c.Format() == "text" {
			c.Printf("\n%s\n", ports.Count(answers, c.Lang()))
		}
		return nil
	}
	list, err := p.configuredPorts(c)
	if err != nil {
		return err
	}
	return ports.TableOf(list, c.Lang()).Write(c.Out, c.Format())
}

// everyPort is every door of every role that the binary has.
func (p *Program) everyPort() []ports.Port {
	list := ownPorts(nil)
	for _, k := range p.Kinds {
		list = append(list, k.New().Ports()...)
	}
	return list
}

// configuredPorts are the doors of this host; without settings those of every role.
func (p *Program) configuredPorts(c *admin.Call) ([]ports.Port, error) {
	if _, err := os.Stat(p.settingsPath()); errors.Is(err, os.ErrNotExist) && p.settings == "" && p.data == "" {
		return p.everyPort(), nil
	}
	s, err := p.load()
	if err != nil {
		return nil, err
	}
	self, err := s.Pick(c.Flag("host"), machine())
	if err != nil {
		return nil, err
	}
	var list []ports.Port
	for _, x := range allPorts(s, p.slots(s, self.Roles, nil)) {
		list = append(list, x.ports...)
	}
	return list, nil
}

func machine() string {
	n, _ := os.Hostname()
	return n
}

// askLive has the running server compare.
func (p *Program) askLive(ctx context.Context, c *admin.Call) error {
	conn, err := p.dial(ctx)
	if err != nil {
		return err
	}
	if conn == nil {
		return fmt.Errorf("no server runs on %s, so no door is open", c.Data)
	}
	defer conn.Close()
	return admin.Ask(conn, admin.Request{Argv: []string{"ports", "--live", "--format=" + c.Format(), "--lang=" + c.Lang()},
		Out: c.Out, Err: c.Err})
}

// livePorts prints the open sockets and holds them against the kernel's.
func (s *server) livePorts(_ context.Context, c *admin.Call) error {
	diff, err := s.host.Doors.Compare()
	if err != nil {
		return err
	}
	t := ports.Table{}
	for _, h := range []string{"transport", "address", "use", "side", "door"} {
		t.Heads = append(t.Heads, ports.Word(h, c.Lang()))
	}
	list := []map[string]any{}
	for _, l := range s.host.Doors.Live() {
		door, remote := "", ""
		for i, d := range l.Doors {
			if i > 0 {
				door += ", "
			}
			door += d
		}
		at := l.Local.String()
		if l.Remote.IsValid() {
			remote = l.Remote.String()
			at += " > " + remote
		}
		t.Rows = append(t.Rows, []string{l.Transport.String(), at, ports.Word(l.Use.String(), c.Lang()),
			ports.Word(l.Side.String(), c.Lang()), door})
		list = append(list, map[string]any{"transport": l.Transport.String(), "local": l.Local.String(), "remote": remote,
			"use": l.Use.String(), "side": l.Side.String(), "doors": l.Doors})
	}
	missing, undeclared := []string{}, []string{}
	for _, d := range diff.Missing {
		missing = append(missing, d.String())
	}
	for _, d := range diff.Undeclared {
		undeclared = append(undeclared, d.String())
	}
	t.Data = map[string]any{"sockets": list, "missing": missing, "undeclared": undeclared}
	if err := t.Write(c.Out, c.Format()); err != nil {
		return err
	}
	if !diff.Same() {
		fmt.Fprint(c.Err, diff.String())
		return admin.Found()
	}
	return nil
}

// status says what runs.
func (s *server) status(_ context.Context, c *admin.Call) error {
	type door struct {
		Doors []string `json:"doors"`
		Local string   `json:"local"`
		Over  string   `json:"transport"`
	}
	st := struct {
		PID     int      `json:"pid"`
		Version string   `json:"version"`
		Host    string   `json:"host"`
		Ready   bool     `json:"ready"`
		Roles   []string `json:"roles"`
		Doors   []door   `json:"doors"`
	}{PID: os.Getpid(), Version: s.host.Version, Host: s.host.Name, Ready: s.health.ready.Load(), Roles: s.host.Self.Roles, Doors: []door{}}
	for _, l := range s.host.Doors.Live() {
		if l.Use == ports.Listen {
			st.Doors = append(st.Doors, door{l.Doors, l.Local.String(), l.Transport.String()})
		}
	}
	if c.Format() == "json" {
		return c.JSON(st)
	}
	c.Printf("fernamt %s, host %s, pid %d, roles %v, ready: %v\n", st.Version, st.Host, st.PID, st.Roles, st.Ready)
	var rows [][]string
	for _, d := range st.Doors {
		for _, n := range d.Doors {
			rows = append(rows, []string{n, d.Over, d.Local})
		}
	}
	c.Rows("no doors are open", []string{"door", "transport", "address"}, rows)
	return nil
}
