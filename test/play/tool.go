package play

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"fernamt/client"
	"fernamt/core/admin"
	"fernamt/core/listen"
	"fernamt/wire/sip"
)

// Commands gives `fernamt play` and `fernamt call`. built are the plays in the binary; run
// performs an operator's command on the lab whose data folder is named.
func Commands(built fs.FS, net listen.Network, run func(ctx context.Context, data string, args []string) (string, error)) []admin.Command {
	p := tool{built: built, net: net, run: run}
	return []admin.Command{
		{Name: "play", Args: "[PLAY...] [--at ADDRESS] [--list]", Where: admin.Here,
			Help: "Performs plays on a running lab: people with phones call and write to each other\n\n" +
				"PLAY is the name of a play in the binary or a file; none: all in the binary. The lab is the one whose " +
				"data folder --data names; --at is its address when it is not 127.0.0.1. --list prints the plays and " +
				"all that can be said in one.", Run: p.play},
		{Name: "call", Args: "ADDRESS [--from USER] [--at ADDRESS] [--transport udp|tcp|tls|ws|wss] [--for DURATION]", Where: admin.Here,
			Help: "Calls somebody on a running lab and tells what happens\n\nThe call has no sound. It ends after --for (10s).", Run: p.call},
	}
}

type tool struct {
	built fs.FS
	net   listen.Network
	run   func(ctx context.Context, data string, args []string) (string, error)
}

func (p *tool) stage(c *admin.Call) (Stage, error) {
	n, err := ReadNote(filepath.Join(c.Data, "lab.json"))
	if err != nil {
		return Stage{}, err
	}
	at := netip.MustParseAddr("127.0.0.1")
	if f := c.Flag("at"); f != "" {
		if at, err = netip.ParseAddr(f); err != nil {
			return Stage{}, admin.Usagef("--at %s: an IP address is needed", f)
		}
	}
	s, err := n.Stage(p.net, at)
	if err == nil && p.run != nil {
		s.Command = func(ctx context.Context, args []string) (string, error) { return p.run(ctx, c.Data, args) }
	}
	return s, err
}

func (p *tool) play(ctx context.Context, c *admin.Call) error {
	list, err := p.plays(c.Args)
	if err != nil {
		return err
	}
	if c.Has("list") {
		for _, x := range list {
			fmt.Fprintf(c.Out, "%-24s %s\n", title(x.File), x.Title)
		}
		fmt.Fprintf(c.Out, "\n%s", Sentences())
		return nil
	}
	s, err := p.stage(c)
	if err != nil {
		return err
	}
	failed, left := 0, 0
	for _, x := range list {
		if why := x.Missing(s); why != "" {
			left++
			fmt.Fprintf(c.Out, "left out  %-24s %s\n", title(x.File), why)
			continue
		}
		began := time.Now()
		if err := x.Run(ctx, s, nil); err != nil {
			failed++
			fmt.Fprintf(c.Out, "FAILED    %-24s %v\n", title(x.File), err)
			continue
		}
		fmt.Fprintf(c.Out, "true      %-24s %s (%v)\n", title(x.File), x.Title, time.Since(began).Round(time.Millisecond))
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d plays failed", failed, len(list)-left)
	}
	return nil
}

// plays reads the plays that are named, from files or from the binary.
func (p *tool) plays(names []string) ([]*Play, error) {
	if len(names) == 0 {
		return All(p.built)
	}
	var list []*Play
	for _, n := range names {
		if strings.HasSuffix(n, ".txt") {
			x, err := ReadFile(n)
			if err != nil {
				return nil, err
			}
			list = append(list, x)
			continue
		}
		b, err := fs.ReadFile(p.built, n+".txt")
		if err != nil {
			return nil, fmt.Errorf("no play %q: see fernamt play --list", n)
		}
		x, err := Read(n+".txt", string(b))
		if err != nil {
			return nil, err
		}
		list = append(list, x)
	}
	return list, nil
}

// All reads every play of a folder.
func All(dir fs.FS) ([]*Play, error) {
	names, err := fs.Glob(dir, "*.txt")
	if err != nil {
		return nil, err
	}
	var list []*Play
	for _, n := range names {
		b, err := fs.ReadFile(dir, n)
		if err != nil {
			return nil, err
		}
		p, err := Read(n, string(b))
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	if list == nil {
		return nil, errors.New("no plays")
	}
	return list, nil
}

// Missing says what a stage lacks that the play needs, "" for nothing.
func (p *Play) Missing(s Stage) string {
	for _, l := range p.lines {
		switch pattern := l.verb.pattern; {
		case strings.HasPrefix(pattern, "admin") && s.Command == nil:
			return "needs an operator"
		case pattern == "server restarts" && s.Restart == nil:
			return "needs a server that may be restarted"
		case pattern == "server crashes" && s.Crash == nil:
			return "needs a server that may be killed"
		case l.args["role"] != "" && s.Server != nil:
			if _, err := s.Server(l.args["role"], sip.TransportOf([]byte(l.args["transport"]))); err != nil {
				return err.Error()
			}
		}
	}
	return ""
}

func (p *tool) call(ctx context.Context, c *admin.Call) error {
	s, err := p.stage(c)
	if err != nil {
		return err
	}
	from := c.Flag("from")
	if from == "" {
		from = "alice"
	}
	long := 10 * time.Second
	if f := c.Flag("for"); f != "" {
		if long, err = time.ParseDuration(f); err != nil {
			return admin.Usagef("--for %s: a time such as 10s is needed", f)
		}
	}
	transport := sip.UDP
	if f := c.Flag("transport"); f != "" {
		if transport = sip.TransportOf([]byte(f)); transport == 0 {
			return admin.Usagef("--transport %s: udp, tcp, tls, ws or wss is needed", f)
		}
	}
	hop, err := s.Server("", transport)
	if err != nil {
		return err
	}
	k, err := client.New(client.Config{Address: from + "@" + s.Domain, Password: s.Password(from), Transport: transport,
		Server: hop, Network: s.Network})
	if err != nil {
		return err
	}
	defer k.Close()
	x := k.Invite(c.Arg(0))
	ctx, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	began, n := time.Now(), 0
	for {
		e, err := k.Wait(ctx, n, func(client.Seen) bool { return true })
		if err != nil {
			x.Hangup()
			time.Sleep(200 * time.Millisecond)
			return nil
		}
		n = e.N + 1
		what := e.String()
		if e.Code != 0 {
			what = e.What + " " + strconv.Itoa(e.Code) + " " + sip.ReasonOf(e.Code)
		}
		fmt.Fprintf(c.Out, "%6.2fs  %s\n", time.Since(began).Seconds(), what)
		switch e.What {
		case "failed":
			return fmt.Errorf("%s did not take the call", c.Arg(0))
		case "ended":
			return nil
		}
	}
}
