// Package admin is what an operator can ask: one table of commands, which makes the
// help, doc/COMMANDS.md and, on a running server, what its control socket answers.
//
// A command says what it is called, what it takes, what it does and what right it
// needs; rights and arguments are checked in one place, Table.Run. A command without
// help does not start.
//
// The control socket is DATA/control.sock, for the server's own user and root. The
// protocol is frames of JSON, each behind its length (socket.go); role/manage speaks
// the same over mutual TLS.
//
// Goroutines: one per connection to the control socket and one that reads from it
// while a command runs; both end with the connection. Locks: output.mu, so that
// frames do not interleave.
package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"fernamt/core/config"
)

// Rights are what a caller may do; each includes those before it.
type Rights uint8

// The rights.
const (
	Anyone Rights = iota // help and version
	Look                 // see state
	Change               // accounts, forwarding, policy
	Own                  // everything: backups, memory profiles
)

// String is how messages name a right.
func (r Rights) String() string {
	return [...]string{"anyone", "look", "change", "own"}[min(int(r), 3)]
}

// Where says where a command runs.
type Where uint8

// The places.
const (
	Server  Where = iota // on the running server
	Either               // on the running server; without one, on the store opened here
	Stopped              // on the store, and only while no server runs
	Here                 // in the process that was called
)

// Command is one row of the table.
type Command struct {
	Name   string // "user add"
	Args   string // "ADDRESS [--name NAME] [--password-stdin]"; see usage.go for the grammar
	Help   string // a line, then, after an empty line, more
	Rights Rights
	Where  Where
	Long   bool // tells its progress
	Run    func(ctx context.Context, c *Call) error
}

// Table holds the commands by name.
type Table struct {
	commands []Command // by name
	usages   map[string]usage
}

// NewTable checks the commands: each has a name of its own, help, arguments that can
// be understood, and something to run.
func NewTable(commands ...Command) (*Table, error) {
	t := &Table{commands: slices.Clone(commands), usages: map[string]usage{}}
	slices.SortFunc(t.commands, func(a, b Command) int { return strings.Compare(a.Name, b.Name) })
	for _, c := range t.commands {
		switch {
		case c.Name == "" || c.Name != strings.ToLower(c.Name):
			return nil, fmt.Errorf("command %q: a name in lower case is needed", c.Name)
		case strings.TrimSpace(c.Help) == "":
			return nil, fmt.Errorf("command %q has no help", c.Name)
		case c.Run == nil:
			return nil, fmt.Errorf("command %q does nothing", c.Name)
		}
		if _, ok := t.usages[c.Name]; ok {
			return nil, fmt.Errorf("command %q is there twice", c.Name)
		}
		u, err := parseUsage(c.Args)
		if err != nil {
			return nil, fmt.Errorf("command %q: %w", c.Name, err)
		}
		t.usages[c.Name] = u
	}
	return t, nil
}

// Commands lists the rows by name.
func (t *Table) Commands() []Command { return slices.Clone(t.commands) }

// Find returns the command that argv begins with, the longest name first, and the rest.
func (t *Table) Find(argv []string) (*Command, []string, error) {
	for n := min(3, len(argv)); n > 0; n-- {
		name := strings.Join(argv[:n], " ")
		if i := slices.IndexFunc(t.commands, func(c Command) bool { return c.Name == name }); i >= 0 {
			return &t.commands[i], argv[n:], nil
		}
	}
	return nil, nil, t.unknown(argv)
}

// unknown says what could have been meant.
func (t *Table) unknown(argv []string) error {
	if len(argv) == 0 {
		return Usagef("say what to do; fernamt help lists the commands")
	}
	var below, names []string
	for _, c := range t.commands {
		names = append(names, c.Name)
		if strings.HasPrefix(c.Name, argv[0]+" ") {
			below = append(below, c.Name)
		}
	}
	if len(below) > 0 {
		if len(argv) > 1 {
			if n := config.Nearest(argv[0]+" "+argv[1], below); n != "" {
				return Usagef("there is no command %s %s; did you mean %s?", argv[0], argv[1], n)
			}
		}
		return Usagef("%s needs one more word: %s", argv[0], strings.Join(below, ", "))
	}
	for n := min(2, len(argv)); n > 0; n-- {
		if s := config.Nearest(strings.Join(argv[:n], " "), names); s != "" {
			return Usagef("there is no command %s; did you mean %s?", strings.Join(argv[:n], " "), s)
		}
	}
	return Usagef("there is no command %s; fernamt help lists them", argv[0])
}

// Caller is who asks.
type Caller struct {
	Name   string // "uid 0", or the name in a certificate
	Rights Rights
}

// Run finds argv's command, checks rights and arguments, and runs it. call carries
// input and output; what stands in argv is filled in.
func (t *Table) Run(ctx context.Context, argv []string, call *Call) error {
	c, rest, err := t.Find(argv)
	if err != nil {
		return err
	}
	if c.Rights > call.Caller.Rights {
		return fmt.Errorf("%s: needs the right to %s; %s has the right to %s", c.Name, c.Rights, call.Caller.Name, call.Caller.Rights)
	}
	call.Command = c.Name
	if call.Args, call.flags, err = t.usages[c.Name].parse(rest); err != nil {
		return Usagef("%w\nusage: fernamt %s", err, strings.TrimSpace(c.Name+" "+c.Args))
	}
	call.qualify(t.usages[c.Name])
	if err := c.Run(ctx, call); err != nil {
		return name(c.Name, err)
	}
	return nil
}

// name puts the command before its error once; exit statuses and settings errors
// speak for themselves.
func name(command string, err error) error {
	var exit *Exit
	var settings *config.Error
	last := command[strings.LastIndexByte(command, ' ')+1:]
	if errors.As(err, &exit) || errors.As(err, &settings) || strings.HasPrefix(err.Error(), last+": ") {
		return err
	}
	return fmt.Errorf("%s: %w", command, err)
}

// Exit ends a command with a status. Its text may be empty: everything was said.
type Exit struct {
	Status int
	Err    error
}

// Error is the text, "" when everything was said.
func (e *Exit) Error() string {
	if e.Err == nil {
		return ""
	}
	return e.Err.Error()
}

// Unwrap returns what is behind it.
func (e *Exit) Unwrap() error { return e.Err }

// Usagef is an error in how a command was called, status 2.
func Usagef(format string, args ...any) error {
	return &Exit{Status: 2, Err: fmt.Errorf(format, args...)}
}

// Found ends a command that found something wrong and has said so: status 1.
func Found() error { return &Exit{Status: 1} }

// Status is the exit status for err: 0 for nil, 2 for usage and settings, else 1.
func Status(err error) int {
	var exit *Exit
	var settings *config.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.Status
	case errors.As(err, &settings):
		return 2
	}
	return 1
}
