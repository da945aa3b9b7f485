package ports

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

// answersTable is the one place where a test is named as the proof of a row. Its columns: row; role that owns it; door
// that answers it or will; tests, separated by blanks, as "test/interop.TestPhones/tls"; how much they prove, "all" or
// "part"; note in English; note in German.
//
//go:embed answers.tsv
var answersTable string

// The states of an answer.
const (
	Works  = "works"
	Partly = "partly"
	NotYet = "not yet"
)

// Answer says what became of a row of the seed.
type Answer struct {
	ID     string `json:"id"`
	Status string `json:"status"` // Works, Partly or NotYet
	Role   string `json:"role"`   // who owns the row, or will
	Door   string `json:"door"`   // the door, or the planned one
	Test   string `json:"test"`   // what proves it; more than one are separated by a blank
	Note   string `json:"note"`
	NoteDE string `json:"-"`
}

// Plan is a line of the table: what a row's answer rests on.
type Plan struct {
	ID, Role, Door string
	Tests          []string // all of them have to pass
	Whole          bool     // they prove the whole row, not a part of it
	Note, NoteDE   string
}

// Plans reads the table: one line per row of the seed, in order.
func Plans() ([]Plan, error) { return parsePlans(answersTable) }

func parsePlans(table string) ([]Plan, error) {
	var plans []Plan
	for i, line := range strings.Split(strings.TrimRight(table, "\n"), "\n") {
		if i == 0 {
			continue
		}
		f := strings.Split(line, "\t")
		want := fmt.Sprintf("R%02d", len(plans)+1)
		switch {
		case len(f) != 7:
			return nil, fmt.Errorf("answers line %d: %d fields, want 7", i+1, len(f))
		case f[0] != want:
			return nil, fmt.Errorf("answers line %d: row %q, want %s", i+1, f[0], want)
		case f[4] != "all" && f[4] != "part":
			return nil, fmt.Errorf("answers line %d: the tests prove %q, want all or part", i+1, f[4])
		case f[1] == "" || f[2] == "":
			return nil, fmt.Errorf("answers line %d: no role or no door", i+1)
		case (f[5] == "") != (f[6] == ""):
			return nil, fmt.Errorf("answers line %d: the note stands in one language", i+1)
		case f[4] == "part" && f[5] == "":
			return nil, fmt.Errorf("answers line %d: what is missing needs a note", i+1)
		}
		plans = append(plans, Plan{f[0], f[1], f[2], strings.Fields(f[3]), f[4] == "all", f[5], f[6]})
	}
	if len(plans) != Rows {
		return nil, fmt.Errorf("answers: %d rows, want %d", len(plans), Rows)
	}
	return plans, nil
}

// Answers answers every row of the seed. doors are those of all roles; proof says whether a test passed when the binary
// was made (Proof.Passed). A row works, or partly does, when a door claims it, tests are named, and all of them passed.
func Answers(doors []Port, proof func(test string) bool) ([]Answer, error) {
	plans, err := Plans()
	if err != nil {
		return nil, err
	}
	return answers(plans, doors, proof), nil
}

func answers(plans []Plan, doors []Port, proof func(test string) bool) []Answer {
	var as []Answer
	for _, p := range plans {
		a := Answer{p.ID, NotYet, p.Role, p.Door, strings.Join(p.Tests, " "), p.Note, p.NoteDE}
		claimed := slices.ContainsFunc(doors, func(d Port) bool { return slices.Contains(d.Seed, p.ID) })
		failed := slices.ContainsFunc(p.Tests, func(t string) bool { return !proof(t) })
		switch {
		case !claimed || failed || len(p.Tests) == 0:
		case p.Whole:
			a.Status = Works
		default:
			a.Status = Partly
		}
		as = append(as, a)
	}
	return as
}
