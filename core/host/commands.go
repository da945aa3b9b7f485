package host

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"fernamt/core/admin"
	"fernamt/core/config"
)

// table is every command. On a server s is it and slots are its roles; elsewhere both
// are nil and the roles' commands stand there for help and to be sent on.
func (p *Program) table(s *server, slots []*slot) (*admin.Table, error) {
	var t *admin.Table
	all := []admin.Command{admin.Help(func() *admin.Table { return t })}
	all = append(all, p.startCommands()...)
	all = append(all, p.settingsCommands()...)
	all = append(all, p.portCommands(s)...)
	all = append(all, admin.Users()...)
	all = append(all, p.storeCommands()...)
	all = append(all, s.liveCommands()...)
	all = append(all, admin.Debug()...)
	all = append(all, p.Tools...)
	have := map[string]bool{}
	if s == nil {
		for _, k := range p.Kinds {
			for _, c := range k.New().Commands() {
				if !have[c.Name] {
					have[c.Name] = true
					all = append(all, c)
				}
			}
		}
	}
	for _, x := range slots {
		for _, c := range x.commands() {
			if !have[c.Name] { // director and frontend may offer the same
				have[c.Name] = true
				all = append(all, c)
			}
		}
	}
	for _, c := range absent() {
		if !have[c.Name] {
			all = append(all, c)
		}
	}
	var err error
	t, err = admin.NewTable(all...)
	return t, err
}

// absent are commands that people know from the handbook and whose roles are not
// there yet. They say so.
func absent() []admin.Command {
	not := func(name, args, help, why string) admin.Command {
		return admin.Command{Name: name, Args: args, Help: help + "\n\nNot there yet: " + why + ".",
			Where: admin.Here, Run: func(context.Context, *admin.Call) error {
				return errors.New("not there yet: " + why)
			}}
	}
	return []admin.Command{
		not("turn credentials", "ADDRESS [--format text|json]", "Makes time-limited credentials for the media relay",
			"there is no media relay (role edge) in this version"),
		not("dump registrations", "[--format text|json]", "Lists who is registered, from where",
			"no role of this version keeps registrations"),
		not("dump dialogs", "[--format text|json]", "Lists calls under way",
			"no role of this version keeps calls"),
		not("dump presence", "[--format text|json]", "Lists who is available",
			"this version keeps no presence"),
		not("dump conferences", "[--format text|json]", "Lists conferences",
			"this version holds no conferences"),
	}
}

// startCommands begin something.
func (p *Program) startCommands() []admin.Command {
	return []admin.Command{
		{Name: "version", Help: "Says which version this is", Where: admin.Here,
			Run: func(_ context.Context, c *admin.Call) error {
				c.Printf("fernamt %s %s %s/%s\n", p.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
				return nil
			}},
		{Name: "start", Args: "[--host NAME] [--port-offset N]", Where: admin.Here,
			Help: "Serves the roles that the settings give this host\n\n" +
				"Without --host it is the only host of the settings, or the one named as this machine. Prints ready\n" +
				"when every door is open. SIGTERM ends it within 5 s, SIGHUP has it read its certificates again.\n" +
				"--port-offset is added to every fixed listening number.",
			Run: p.start},
		{Name: "lab", Args: "[--port-offset N]", Where: admin.Here,
			Help: "Runs the whole suite on loopback: domain example.test, accounts alice, bob, carol, dave\n\n" +
				"A fresh data folder (./data-lab unless --data names one) is filled, a filled one is used again.\n" +
				"Port numbers and the password stand in DIR/lab.json.",
			Run: p.lab},
		{Name: "quickstart", Args: "DOMAIN [--address IP]", Where: admin.Here,
			Help: "Writes settings, an authority, certificates and an administrator for a domain\n\n" +
				"Prints the DNS records that the domain needs, and the next step. Never writes over anything.",
			Run: p.quickstart},
		{Name: "check", Args: "[--host NAME] [--port-offset N] [--format text|json]", Where: admin.Here,
			Help: "Looks for what is wrong: settings, ports, certificates, clock, storage, DNS\n\n" +
				"Each finding names the one command that mends it. Exit status 1 when something is wrong.",
			Run: p.check},
		{Name: "systemd", Where: admin.Here, Help: "Prints a systemd unit with readiness and watchdog",
			Run: func(_ context.Context, c *admin.Call) error {
				c.Printf("%s", unit)
				return nil
			}},
	}
}

// settingsCommands are about fernamt.toml.
func (p *Program) settingsCommands() []admin.Command {
	return []admin.Command{
		{Name: "config describe", Where: admin.Here, Help: "Prints a commented settings file with every default",
			Run: func(_ context.Context, c *admin.Call) error { return config.Describe(c.Out, p.roles()) }},
		{Name: "config check", Where: admin.Here, Help: "Reads the settings and says what is wrong with them",
			Run: func(_ context.Context, c *admin.Call) error {
				s, err := p.load()
				if err != nil {
					return err
				}
				c.Printf("%s is in order: %d hosts, %d domains\n", s.File, len(s.Hosts), len(s.Domains))
				return nil
			}},
		{Name: "config export", Args: "HOST [--output DIR]", Where: admin.Here, Rights: admin.Own,
			Help: "Writes what one host needs: its part of the settings and its certificate\n\n" +
				"Into DIR (./HOST unless named), which must not be there. The authority's key never leaves, nor\n" +
				"do secrets that the host's roles do not need.",
			Run: p.export},
		{Name: "config dns", Args: "[--address IP]", Where: admin.Here,
			Help: "Prints the DNS records that the settings' domains need", Run: p.dns},
	}
}

// liveCommands ask a running server; s is nil where none runs.
func (s *server) liveCommands() []admin.Command {
	list := []admin.Command{
		{Name: "trace sip", Args: "[ADDRESS] [--format text|json] [--for DURATION]", Rights: admin.Own,
			Help: "Shows SIP messages as they pass, secrets as stars\n\n" +
				"ADDRESS narrows it down: a person (alice, alice@example.test), a peer's IP address with or without\n" +
				"its port, or a Call-ID. Ends with Ctrl-C, or after --for (30s).",
			Run: s.traceSIP},
		{Name: "dump metrics", Args: "[--format text|json]", Rights: admin.Look, Help: "Prints the server's own figures",
			Run: s.dumpMetrics},
		{Name: "log level", Args: "[debug|info|warn|error]", Rights: admin.Change,
			Help: "Sets what is logged until the next start, or says what is", Run: s.logLevel},
		{Name: "stop", Rights: admin.Own, Help: "Ends the server, as SIGTERM does", Run: s.stopServer},
	}
	if s == nil {
		for i := range list {
			list[i].Run = func(context.Context, *admin.Call) error { return fmt.Errorf("no server runs") }
		}
	}
	return list
}
