package admin

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"fernamt/core/config"
	"fernamt/core/ident"
	"fernamt/core/store"
)

// Call is one use of a command: what was asked, and where the answer goes.
type Call struct {
	Command string   // its name
	Args    []string // its words, without flags
	Caller  Caller
	In      io.Reader
	Out     io.Writer
	Err     io.Writer

	Data     string           // the data folder
	Settings *config.Settings // nil when the command runs Here and no settings were read
	Store    *store.DB        // nil when the command runs Here
	Users    *ident.Directory // nil when the command runs Here

	Report func(done, total int64, what string) // shows progress; may be nil

	flags map[string]string
	mu    sync.Mutex
	next  time.Time // when progress may be shown again
}

// Arg returns the i-th word; "" when it was left out.
func (c *Call) Arg(i int) string {
	if i >= len(c.Args) {
		return ""
	}
	return c.Args[i]
}

// qualify gives an ADDRESS that must be there and has no domain the first of the settings.
func (c *Call) qualify(u usage) {
	if c.Settings == nil {
		return
	}
	for i, w := range u.words {
		if w.name == "ADDRESS" && !w.optional && i < len(c.Args) && c.Args[i] != "" && !strings.Contains(c.Args[i], "@") {
			c.Args[i] += "@" + c.Settings.Domain()
		}
	}
}

// Flag returns a flag's value; "" when it was not given.
func (c *Call) Flag(name string) string { return c.flags[name] }

// Has says whether a flag was given.
func (c *Call) Has(name string) bool { _, ok := c.flags[name]; return ok }

// Format is --format, text when not given.
func (c *Call) Format() string {
	if f := c.Flag("format"); f != "" {
		return f
	}
	return "text"
}

// Lang is --lang, en when not given.
func (c *Call) Lang() string {
	if l := c.Flag("lang"); l != "" {
		return l
	}
	return "en"
}

// Printf writes to the caller.
func (c *Call) Printf(format string, args ...any) { fmt.Fprintf(c.Out, format, args...) }

// JSON writes v, indented.
func (c *Call) JSON(v any) error {
	e := json.NewEncoder(c.Out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// Rows writes lines of columns under a heading; an empty list says so. Cells may hold
// what strangers sent.
func (c *Call) Rows(none string, heading []string, rows [][]string) {
	if len(rows) == 0 {
		c.Printf("%s\n", none)
		return
	}
	w := tabwriter.NewWriter(c.Out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.ToUpper(strings.Join(heading, "\t")))
	for _, r := range rows {
		for i, cell := range r {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, Plain(cell))
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

// Progress shows how far a long piece of work has come; total 0 means that nobody
// knows. It may be called as often as one likes: ten times a second it is shown.
func (c *Call) Progress(done, total int64, what string) {
	if c.Report == nil {
		return
	}
	c.mu.Lock()
	now := time.Now()
	show := now.After(c.next) || done == total
	if show {
		c.next = now.Add(100 * time.Millisecond)
	}
	c.mu.Unlock()
	if show {
		c.Report(done, total, what)
	}
}

// ReadPassword returns what stands on standard input when --password-stdin was given,
// without its line end; "" when it was not.
func (c *Call) ReadPassword() (string, error) {
	if !c.Has("password-stdin") {
		return "", nil
	}
	b, err := io.ReadAll(io.LimitReader(c.In, 4097))
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	p := strings.TrimRight(string(b), "\r\n")
	switch {
	case p == "":
		return "", fmt.Errorf("no password on standard input")
	case len(p) > 4096:
		return "", fmt.Errorf("the password is longer than 4096 octets")
	case strings.ContainsAny(p, "\r\n") || !utf8.ValidString(p):
		return "", fmt.Errorf("the password must be one line of UTF-8")
	}
	return p, nil
}
