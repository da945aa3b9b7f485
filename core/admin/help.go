package admin

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Help returns the help command for a table that is not complete before the command
// itself is in it.
func Help(table func() *Table) Command {
	return Command{
		Name: "help", Args: "[COMMAND...] [--format text|md]", Where: Here,
		Help: "Lists the commands, or tells about one",
		Run: func(_ context.Context, c *Call) error {
			t := table()
			if c.Format() == "md" {
				return t.Markdown(c.Out)
			}
			if len(c.Args) == 0 {
				return t.list(c.Out)
			}
			cmd, _, err := t.Find(c.Args)
			if err == nil {
				return t.one(c.Out, cmd)
			}
			found := false
			for i := range t.commands {
				if x := &t.commands[i]; strings.HasPrefix(x.Name, c.Args[0]+" ") {
					if err := t.one(c.Out, x); err != nil {
						return err
					}
					found = true
				}
			}
			if !found {
				return err
			}
			return nil
		},
	}
}

func (t *Table) list(w io.Writer) error {
	fmt.Fprint(w, "Fernamt, a telephone exchange and all that belongs to it.\n\nusage: fernamt COMMAND [ARGUMENT...]\n\n")
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, c := range t.commands {
		fmt.Fprintf(tw, "  %s\t%s\n", c.Name, firstLine(c.Help))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprint(w, "\nEvery command also takes --data DIR and --config FILE.\n"+
		"fernamt help COMMAND tells more. A newcomer begins with fernamt lab.\n")
	return err
}

func (t *Table) one(w io.Writer, c *Command) error {
	_, err := fmt.Fprintf(w, "usage: fernamt %s\n\n%s\n%s\n", strings.TrimSpace(c.Name+" "+c.Args), c.Help, c.place())
	return err
}

// place says in a sentence where a command runs and who may use it.
func (c *Command) place() string {
	s := map[Where]string{
		Server:  "Asks the running server.",
		Either:  "Works on a running server and on a stopped one.",
		Stopped: "Works while no server runs.",
		Here:    "",
	}[c.Where]
	if c.Long {
		s += " Shows its progress."
	}
	if c.Rights > Anyone && c.Where != Here {
		s += fmt.Sprintf(" Needs the right to %s.", c.Rights)
	}
	if s == "" {
		return ""
	}
	return "\n" + s + "\n"
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// Markdown writes doc/COMMANDS.md.
func (t *Table) Markdown(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# Commands\n\nWhat `fernamt` can be asked; printed from the command table.\n\n" +
		"Every command also takes `--data DIR` (the data folder; `$FERNAMT_DATA`, else the folder of `--config`,\n" +
		"else the first of `./data`, `./data-lab` and, for root, `/var/lib/fernamt` that holds settings) and `--config FILE`\n" +
		"(the settings; `DIR/fernamt.toml`).\n" +
		"Exit status: 0 done, 1 something is wrong, 2 called wrongly or bad settings.\n")
	for _, c := range t.commands {
		fmt.Fprintf(&b, "\n## fernamt %s\n\n```\nfernamt %s\n```\n\n%s\n%s", c.Name,
			strings.TrimSpace(c.Name+" "+c.Args), c.Help, c.place())
	}
	_, err := io.WriteString(w, b.String())
	return err
}
