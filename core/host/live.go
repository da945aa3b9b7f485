package host

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"fernamt/core/admin"
	"fernamt/core/trace"
)

// traceSIP shows messages until the caller goes.
func (s *server) traceSIP(ctx context.Context, c *admin.Call) error {
	if f := c.Flag("for"); f != "" {
		d, err := time.ParseDuration(f)
		if err != nil || d <= 0 {
			return admin.Usagef("--for %s: must be a duration such as 30s", f)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	ear := s.host.Trace.Listen(c.Arg(0), 256)
	defer ear.Close()
	fmt.Fprintf(c.Err, "listening; Ctrl-C ends it\n")
	var lost uint64
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-ear.C:
			if n := ear.Lost.Load(); n != lost {
				fmt.Fprintf(c.Err, "%d messages were not shown: they came faster than they could be sent here\n", n-lost)
				lost = n
			}
			if err := showMessage(c, &m); err != nil {
				return err
			}
		}
	}
}

func showMessage(c *admin.Call, m *trace.Message) error {
	word, arrow := "in", "<-"
	if m.Out {
		word, arrow = "out", "->"
	}
	if c.Format() == "json" {
		return c.JSON(map[string]any{"time": m.Time, "direction": word, "transport": m.Transport.String(),
			"local": m.Local.String(), "remote": m.Remote.String(), "door": m.Door, "message": string(m.Bytes)})
	}
	_, err := fmt.Fprintf(c.Out, "%s %s %s %s %s %s\n%s\n", m.Time.Format("15:04:05.000000"), word, m.Transport, m.Local, arrow,
		m.Remote, strings.TrimRight(admin.PlainLines(string(m.Bytes)), "\n")+"\n")
	return err
}

func (s *server) dumpMetrics(_ context.Context, c *admin.Call) error {
	all := s.host.Metrics.Samples()
	if c.Format() == "json" {
		return c.JSON(all)
	}
	var rows [][]string
	for _, x := range all {
		name := x.Name
		for k, v := range x.Labels {
			name += " " + k + "=" + v
		}
		mean := ""
		if x.Mean > 0 {
			mean = time.Duration(x.Mean * float64(time.Second)).String()
		}
		rows = append(rows, []string{name, strconv.FormatFloat(x.Value, 'f', -1, 64), mean})
	}
	c.Rows("nothing was counted", []string{"name", "value", "mean"}, rows)
	return nil
}

func (s *server) logLevel(_ context.Context, c *admin.Call) error {
	if l := c.Arg(0); l != "" {
		if err := s.level.Set(l); err != nil {
			return err
		}
	}
	c.Printf("%s\n", s.level)
	return nil
}

// stopServer ends Run as a signal would; the caller is answered first.
func (s *server) stopServer(_ context.Context, c *admin.Call) error {
	s.stopping.Do(func() { close(s.stop) })
	c.Printf("stopping\n")
	return nil
}
