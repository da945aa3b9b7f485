package ports

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Formats are the ways to print a table.
var formats = []string{"text", "md", "tsv", "json"}

// Words of the tables, English first.
var words = map[string]string{
	"door": "Tür", "number": "Nummer", "transport": "Transport", "protocol": "Protokoll", "tls": "TLS", "side": "Seite",
	"use": "Art", "seed": "Urtabelle", "purpose": "Zweck", "spec": "Norm", "address": "Adresse",
	"row": "Zeile", "status": "Stand", "role": "Rolle", "test": "Prüfung", "note": "Anmerkung",
	"component": "Komponente", "ports": "Ports",
	"none": "ohne", "server": "Server", "mutual": "beidseitig", "internal": "innen", "external": "außen", "loopback": "lokal",
	"listen": "lauscht", "dial": "ruft an", "draw": "Vorrat", Works: "geht", Partly: "teilweise", NotYet: "noch nicht",
}

// Table is rows of text under headings, in one language.
type Table struct {
	Heads []string
	Rows  [][]string
	Data  any // what JSON prints
}

// Word gives an English word of the tables in lang, "en" or "de".
func Word(word, lang string) string {
	if de, ok := words[word]; ok && lang == "de" {
		return de
	}
	return word
}

// Wordwise translates each.
func wordwise(lang string, ws ...string) []string {
	out := make([]string, len(ws))
	for i, w := range ws {
		out[i] = Word(w, lang)
	}
	return out
}

// port as JSON has it.
type portJSON struct {
	Door      string   `json:"door"`
	From      int      `json:"from"`
	To        int      `json:"to"`
	Transport string   `json:"transport"`
	Protocol  string   `json:"protocol"`
	TLS       string   `json:"tls"`
	Side      string   `json:"side"`
	Use       string   `json:"use"`
	Names     []string `json:"names,omitempty"`
	Seed      []string `json:"seed"`
	Purpose   string   `json:"purpose"`
	Spec      string   `json:"spec,omitempty"`
}

// TableOf lists doors in lang. JSON is {"doors":[…]}; its keys and fixed values are English always.
func TableOf(ps []Port, lang string) Table {
	t := Table{Heads: wordwise(lang, "door", "number", "transport", "protocol", "tls", "side", "use", "seed", "purpose", "spec")}
	list := []portJSON{}
	for _, p := range ps {
		purpose := p.Purpose
		if lang == "de" {
			purpose = p.Zweck
		}
		w := wordwise(lang, p.TLS.String(), p.Side.String(), p.Use.String())
		t.Rows = append(t.Rows, []string{
			p.Name, p.Number(), p.Transport.String(), p.Protocol, w[0], w[1], w[2], strings.Join(p.Seed, " "), purpose, p.Spec,
		})
		seed := p.Seed
		if seed == nil {
			seed = []string{}
		}
		list = append(list, portJSON{p.Name, p.From, p.Last(), p.Transport.String(), p.Protocol, p.TLS.String(),
			p.Side.String(), p.Use.String(), p.Names, seed, purpose, p.Spec})
	}
	t.Data = map[string]any{"doors": list}
	return t
}

// TableOfAnswers lists the seed's rows with their answers in lang. JSON is {"rows":[…]}.
func TableOfAnswers(as []Answer, lang string) (Table, error) {
	rows, err := Seed()
	if err != nil {
		return Table{}, err
	}
	seed := map[string]Row{}
	for _, r := range rows {
		seed[r.ID] = r
	}
	t := Table{Heads: wordwise(lang, "row", "component", "ports", "protocol", "status", "role", "door", "test", "note")}
	list := []Answer{}
	for _, a := range as {
		r := seed[a.ID]
		component := r.Component
		if lang == "de" {
			component, a.Note = r.Komponente, a.NoteDE
		}
		t.Rows = append(t.Rows, []string{
			a.ID, component, r.Ports, r.Protocol, Word(a.Status, lang), a.Role, a.Door, a.Test, a.Note,
		})
		list = append(list, a)
	}
	t.Data = map[string]any{"rows": list}
	return t, nil
}

// Count tells in a sentence how many rows work, partly do, or do not yet.
func Count(as []Answer, lang string) string {
	n := map[string]int{}
	for _, a := range as {
		n[a.Status]++
	}
	return fmt.Sprintf("%d %s, %d %s, %d %s", n[Works], Word(Works, lang), n[Partly], Word(Partly, lang), n[NotYet], Word(NotYet, lang))
}

// Write prints the table as "text", "md", "tsv" or "json".
func (t Table) Write(w io.Writer, format string) error {
	switch format {
	case "text", "":
		return t.text(w)
	case "md":
		return t.markdown(w)
	case "tsv":
		return t.tsv(w)
	case "json":
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(t.Data)
	}
	return fmt.Errorf("format %q is not one of %s", format, strings.Join(formats, ", "))
}

func (t Table) text(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, r := range append([][]string{upper(t.Heads)}, t.Rows...) {
		fmt.Fprintln(tw, strings.TrimRight(strings.Join(r, "\t"), "\t"))
	}
	return tw.Flush()
}

func (t Table) markdown(w io.Writer) error {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.Heads)
	rule := make([]string, len(t.Heads))
	for i := range rule {
		rule[i] = "---"
	}
	line(rule)
	for _, r := range t.Rows {
		cells := make([]string, len(r))
		for i, c := range r {
			cells[i] = strings.ReplaceAll(c, "|", "\\|")
		}
		line(cells)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t Table) tsv(w io.Writer) error {
	var b strings.Builder
	for _, r := range append([][]string{t.Heads}, t.Rows...) {
		cells := make([]string, len(r))
		for i, c := range r {
			cells[i] = strings.NewReplacer("\t", " ", "\n", " ").Replace(c)
		}
		b.WriteString(strings.Join(cells, "\t") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func upper(ws []string) []string {
	out := make([]string, len(ws))
	for i, w := range ws {
		out[i] = strings.ToUpper(w)
	}
	return out
}
