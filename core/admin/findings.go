package admin

import "fmt"

// Finding is one thing that a command which looks for faults has looked at.
type Finding struct {
	Area string `json:"area"` // settings ports certificates clock storage dns
	OK   bool   `json:"ok"`
	What string `json:"what"`
	Mend string `json:"mend,omitempty"` // the one command
	Left bool   `json:"left,omitempty"` // not looked at: OK then says only that nothing was found
}

// Findings gathers them.
type Findings struct{ List []Finding }

// Good notes what is in order.
func (f *Findings) Good(area, format string, args ...any) {
	f.List = append(f.List, Finding{area, true, fmt.Sprintf(format, args...), "", false})
}

// Skip notes what this version does not look at.
func (f *Findings) Skip(area, what string) {
	f.List = append(f.List, Finding{Area: area, OK: true, What: what, Left: true})
}

// Bad notes what is wrong and the one command that mends it.
func (f *Findings) Bad(area, mend, format string, args ...any) {
	f.List = append(f.List, Finding{area, false, fmt.Sprintf(format, args...), mend, false})
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
			switch {
			case !x.OK:
				word = "WRONG"
			case x.Left:
				word = "-    "
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
