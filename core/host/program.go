package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"fernamt/core/admin"
	"fernamt/core/config"
	"fernamt/core/listen"
	"fernamt/core/trace"
)

// Program is the binary: what roles it has, and what it talks to.
type Program struct {
	Kinds    []Kind
	Version  string
	In       io.Reader
	Out, Err io.Writer
	Terminal bool             // Err is a terminal: progress is drawn
	Reload   <-chan os.Signal // SIGHUP: certificates are read again
	Network  listen.Network   // nil: the kernel's
	Tools    []admin.Command  // commands that main brings along: play, call

	data, settings string // --data and --config, "" when not given
}

// controlSocket is the control socket's name in the data folder.
const controlSocket = "control.sock"

// settingsFile is the settings' name in the data folder.
const settingsFile = "fernamt.toml"

// Run does what argv says and returns the exit status.
func (p Program) Run(ctx context.Context, argv []string) int {
	err := p.run(ctx, argv)
	if err != nil && err.Error() != "" {
		fmt.Fprintf(p.Err, "fernamt: %v\n", err)
	}
	return admin.Status(err)
}

func (p *Program) run(ctx context.Context, argv []string) error {
	argv, err := p.globals(argv)
	if err != nil {
		return err
	}
	if len(argv) == 0 || argv[0] == "--help" || argv[0] == "-h" {
		argv = []string{"help"}
	}
	if argv[0] == "--version" {
		argv = []string{"version"}
	}
	table, err := p.table(nil, nil)
	if err != nil {
		return err
	}
	if n := len(argv); argv[n-1] == "--help" || argv[n-1] == "-h" {
		argv = append([]string{"help"}, argv[:n-1]...)
	}
	cmd, _, err := table.Find(argv)
	if err != nil {
		return err
	}
	switch cmd.Where {
	case admin.Server, admin.Either:
		return p.ask(ctx, table, cmd, argv)
	case admin.Stopped:
		return p.stopped(ctx, table, argv)
	}
	return table.Run(ctx, argv, p.call())
}

// globals takes --data DIR and --config FILE out of argv.
func (p *Program) globals(argv []string) ([]string, error) {
	var rest []string
	for i := 0; i < len(argv); i++ {
		name, value, has := strings.Cut(argv[i], "=")
		var into *string
		switch name {
		case "--data":
			into = &p.data
		case "--config":
			into = &p.settings
		case "--":
			return append(rest, argv[i:]...), nil
		}
		if into == nil {
			rest = append(rest, argv[i])
			continue
		}
		if !has {
			if i++; i >= len(argv) {
				return nil, admin.Usagef("%s needs a value", name)
			}
			value = argv[i]
		}
		if value == "" {
			return nil, admin.Usagef("%s needs a value", name)
		}
		*into = value
	}
	return rest, nil
}

// dataDir is the data folder: what --data says, $FERNAMT_DATA, the folder of --config,
// or the first with settings of ./data, ./data-lab and, for root, /var/lib/fernamt.
func (p *Program) dataDir() string {
	if p.data != "" {
		return p.data
	}
	if d := os.Getenv("FERNAMT_DATA"); d != "" {
		return d
	}
	if p.settings != "" {
		return filepath.Dir(p.settings)
	}
	try := []string{"data", "data-lab"}
	if os.Getuid() == 0 {
		try = append(try, "/var/lib/fernamt")
	}
	for _, d := range try {
		if _, err := os.Stat(filepath.Join(d, settingsFile)); err == nil {
			return d
		}
	}
	return "data"
}

func (p *Program) settingsPath() string {
	if p.settings != "" {
		return p.settings
	}
	return filepath.Join(p.dataDir(), settingsFile)
}

// roles are fresh instances of every role, for settings to be filled into.
func (p *Program) roles() map[string]any {
	m := map[string]any{}
	for _, k := range p.Kinds {
		m[k.Name] = k.New()
	}
	return m
}

// load reads the settings.
func (p *Program) load() (*config.Settings, error) {
	return config.Load(p.settingsPath(), p.roles())
}

// slots are the roles of a host with their settings, in the order of roles.go.
func (p *Program) slots(s *config.Settings, names []string, m metrics) []*slot {
	var list []*slot
	if m == nil {
		m = trace.NewMetrics()
	}
	for _, k := range p.Kinds {
		if r, ok := s.Roles[k.Name].(Role); ok && slices.Contains(names, k.Name) {
			list = append(list, newSlot(k, r, m))
		}
	}
	return list
}

// call is what a command gets that runs in this process.
func (p *Program) call() *admin.Call {
	c := &admin.Call{Caller: admin.Caller{Name: fmt.Sprintf("uid %d", os.Getuid()), Rights: admin.Own},
		In: p.In, Out: p.Out, Err: p.Err, Data: p.dataDir()}
	if p.Terminal {
		b := admin.NewBar(p.Err)
		c.Report = func(done, total int64, what string) {
			b.Show(admin.Progress{Done: done, Total: total, What: what})
			if done == total {
				b.Clear()
			}
		}
	}
	return c
}

// dial connects to the running server; nil when none runs.
func (p *Program) dial(ctx context.Context) (net.Conn, error) {
	c, err := listen.DialUnix(ctx, filepath.Join(p.dataDir(), controlSocket))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("the server in %s belongs to another user: %w", p.dataDir(), err)
	}
	return c, err
}

// ask has the running server do it, or, where that is possible, does it without one.
func (p *Program) ask(ctx context.Context, table *admin.Table, cmd *admin.Command, argv []string) error {
	argv, file, err := table.Local(argv)
	if err != nil {
		return err
	}
	in := p.In
	if !slices.Contains(argv, "--password-stdin") {
		in = nil
	}
	if file == "-" {
		in = p.In
	} else if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	conn, err := p.dial(ctx)
	if err != nil {
		return err
	}
	if conn == nil {
		if cmd.Where == admin.Server {
			return fmt.Errorf("%s: no server runs on %s; start it with fernamt start --data %s", cmd.Name, p.dataDir(), p.dataDir())
		}
		return p.alone(ctx, table, argv, in)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	q := admin.Request{Argv: argv, In: in, Out: p.Out, Err: p.Err}
	bar := admin.NewBar(p.Err)
	if p.Terminal {
		q.Report = bar.Show
	}
	err = admin.Ask(conn, q)
	bar.Clear()
	if ctx.Err() != nil {
		return nil // interrupted on purpose: how a trace ends
	}
	return err
}

// stopped does a command for which no server may run.
func (p *Program) stopped(ctx context.Context, table *admin.Table, argv []string) error {
	argv, _, err := table.Local(argv)
	if err != nil {
		return err
	}
	conn, err := p.dial(ctx)
	if err != nil {
		return err
	}
	if conn != nil {
		conn.Close()
		return fmt.Errorf("a server runs on %s; stop it first", p.dataDir())
	}
	return table.Run(ctx, argv, p.call())
}

// alone opens the store and does the command here.
func (p *Program) alone(ctx context.Context, table *admin.Table, argv []string, in io.Reader) error {
	s, err := p.load()
	if err != nil {
		return err
	}
	base, err := p.openBase(ctx, s, quiet(p.Err), false)
	if err != nil {
		return err
	}
	call := p.call()
	call.Settings, call.Store, call.Users = s, base.store, base.users
	if in != nil {
		call.In = in
	} else {
		call.In = strings.NewReader("")
	}
	return errors.Join(table.Run(ctx, argv, call), base.close())
}
