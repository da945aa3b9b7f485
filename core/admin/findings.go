package admin

import "fmt"

// Finding is one thing that a command which looks for faults has looked at.
type Finding struct {
	Area string `json:"area"` // settings ports certificates clock storage dns
	OK   bool   `json:"ok"`
	What string `json:"what"`
	Mend string `json:"mend,omitempty"` // the one command
}

// Findings gathers them.
type Findings struct{ List []Finding }

// Good notes what is in order.
func (f *Findings) Good(area, format string, args ...any) {
	f.List = append(f.List, Finding{area, true, fmt.Sprintf(format, args...), ""})
}

// Bad notes what is wrong and the one command that mends it.
func (f *Findings) Bad(area, mend, format string, args ...any) {
	f.List = append(f.List, Finding{area, false, fmt.Sprintf(format, args...), mend})
}

// Tell prints them, as text or JSON. The error is Found when something is wrong.
func (f *Findings) Tell(c *Call) error {
	wrong := 0
	for _, x := range f.List {
		if !x.OK {
			wrong++
		}
	}
	if c.Format() == "json" {
		if err := c.JSON(map[string]any{"ok": wrong == 0, "findings": f.List}); err != nil {
			return err
		}
	} else {
		for _, x := range f.List {
			word := "ok   "
			if !x.OK {
				word = "WRONG"
			}
			c.Printf("%s  %-12s  %s\n", word, x.Area, Plain(x.What))
			if x.Mend != "" {
				c.Printf("                     mend: %s\n", Plain(x.Mend))
			}
		}
	}
	if wrong > 0 {
		return Found()
	}
	return nil
}
