package ident

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"

	"fernamt/core/store"
)

// Importing says how to import.
type Importing struct {
	SkipBad  bool                 // import the good rows; otherwise one bad row stops all
	Progress func(ImportProgress) // called every 1000 rows, on one goroutine; may be nil
}

// ImportProgress is how far an import has come.
type ImportProgress struct {
	Storing bool // false: reading and checking
	Done    int  // rows
	Total   int  // rows; 0 while reading, since it is not known yet
}

// BadRow is a row that cannot be imported.
type BadRow struct {
	Line int
	Err  error
}

// Imported is what an import did.
type Imported struct {
	Added    int
	Bad      []BadRow // at most maxBad
	BadCount int
}

// ErrRows says that rows are bad and nothing was imported.
var ErrRows = errors.New("nothing was imported: there are bad rows")

const (
	maxBad     = 1000
	importStep = 1000
	maxImport  = 2_000_000 // rows of one file
)

// row is one line of the file.
type row struct {
	line int
	new  New
	made *Account
	err  error
}

// Import adds accounts from CSV (RFC 4180) in UTF-8. The first line names the columns:
// address, name and password, and if wanted login, aliases, numbers (several are parted by
// blanks or ";") and home. Passwords are initial ones. All rows go into the store in one
// transaction, unless SkipBad is set: then in steps, so that others may write in between.
// Errors name lines and never hold a password.
func (d *Directory) Import(ctx context.Context, in io.Reader, how Importing) (Imported, error) {
	tell := how.Progress
	if tell == nil {
		tell = func(ImportProgress) {}
	}
	rows, err := readRows(in, tell)
	if err != nil {
		return Imported{}, fmt.Errorf("import: %w", err)
	}
	d.prepareRows(rows)
	d.findTwice(rows)
	var result Imported
	good := make([]*Account, 0, len(rows))
	for i := range rows {
		r := &rows[i]
		if r.err != nil {
			result.bad(r.line, r.err)
		} else {
			good = append(good, r.made)
		}
	}
	if result.BadCount > 0 && !how.SkipBad {
		return result, fmt.Errorf("import: %w (%d of %d; the first in line %d: %w)", ErrRows, result.BadCount, len(rows),
			result.Bad[0].Line, result.Bad[0].Err)
	}
	if how.SkipBad {
		err = d.storeSteps(ctx, good, rows, &result, tell)
	} else {
		err = d.storeAll(ctx, good, &result, tell)
	}
	if err != nil {
		return result, fmt.Errorf("import: %w", err)
	}
	return result, nil
}

func (r *Imported) bad(line int, err error) {
	r.BadCount++
	if len(r.Bad) < maxBad {
		r.Bad = append(r.Bad, BadRow{line, err})
	}
}

func readRows(in io.Reader, tell func(ImportProgress)) ([]row, error) {
	r := csv.NewReader(in)
	r.FieldsPerRecord = -1
	r.TrimLeadingSpace = true
	r.ReuseRecord = true
	head, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("the first line, address,name,password, cannot be read: %w", err)
	}
	head = slices.Clone(head)
	column, err := columns(head)
	if err != nil {
		return nil, err
	}
	var rows []row
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if len(rows) >= maxImport {
			return nil, fmt.Errorf("more than %d rows: part the file", maxImport)
		}
		var pe *csv.ParseError
		if errors.As(err, &pe) {
			// Where quotes are wrong, nobody knows where the next row begins.
			return nil, fmt.Errorf("line %d cannot be read: %w", pe.Line, pe.Err)
		}
		if err != nil {
			return nil, err
		}
		line, _ := r.FieldPos(0)
		rows = append(rows, row{line: line})
		if r := &rows[len(rows)-1]; len(record) > len(head) {
			r.err = errors.New("more fields than columns")
		} else {
			fill(r, record, column)
		}
		if len(rows)%importStep == 0 {
			tell(ImportProgress{Done: len(rows)})
		}
	}
}

var importColumns = []string{"address", "name", "password", "login", "aliases", "numbers", "home"}

// columns gives for each of importColumns where it stands, -1: nowhere.
func columns(head []string) ([]int, error) {
	at := slices.Repeat([]int{-1}, len(importColumns))
	for i, name := range head {
		name = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(name, "\ufeff"))) // Excel's byte order mark
		n := slices.Index(importColumns, name)
		if n < 0 {
			return nil, fmt.Errorf("line 1: column %q is unknown (known: %s)", name, strings.Join(importColumns, ", "))
		}
		if at[n] >= 0 {
			return nil, fmt.Errorf("line 1: column %q is there twice", name)
		}
		at[n] = i
	}
	for n := range 3 {
		if at[n] < 0 {
			return nil, fmt.Errorf("line 1: column %q is missing", importColumns[n])
		}
	}
	return at, nil
}

func fill(r *row, record []string, column []int) {
	field := func(n int) string {
		if i := column[n]; i >= 0 && i < len(record) {
			return record[i]
		}
		return ""
	}
	list := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ';' })
	}
	if column[2] >= len(record) {
		r.err = errors.New("fewer fields than columns")
		return
	}
	r.new = New{Address: field(0), Name: field(1), Password: field(2), Login: field(3), Aliases: list(field(4)), Home: field(6)}
	// Numbers may hold blanks, so only ";" parts them; but ";ext=" belongs to its number.
	for s := range strings.SplitSeq(strings.ReplaceAll(field(5), ";ext=", "\x00"), ";") {
		r.new.Numbers = append(r.new.Numbers, strings.ReplaceAll(s, "\x00", ";ext="))
	}
	if r.new.Password == "" {
		r.err = errors.New("password is empty")
	}
}

// prepareRows checks the rows and computes their hashes on all processors.
func (d *Directory) prepareRows(rows []row) {
	var wg sync.WaitGroup
	for part := range slices.Chunk(rows, max(1, (len(rows)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))) {
		wg.Go(func() {
			for i := range part {
				r := &part[i]
				if r.err == nil {
					r.made, r.err = d.account(r.new)
				}
				if r.err == nil {
					r.made.Credentials = r.made.withPassword(
						Credential{Kind: Initial, Name: "initial", Created: r.made.Created}, r.new.Password, d.cfg.KeepNT)
				}
				r.new = New{} // the password is not needed any more
			}
		})
	}
	wg.Wait()
}

// findTwice marks rows whose names are in an earlier row or in an account.
func (d *Directory) findTwice(rows []row) {
	type owner struct{ kind, value string }
	seen := make(map[owner]int, 2*len(rows))
	for i := range rows {
		r := &rows[i]
		if r.err != nil {
			continue
		}
		if s := d.clash(r.made); s != "" {
			r.err = fmt.Errorf("%s is %w", s, ErrTaken)
			continue
		}
		names, numbers := r.made.keys()
		for k, list := range [][]string{names, numbers} {
			kind := [...]string{"name", "number"}[k]
			for _, s := range list {
				if line, ok := seen[owner{kind, s}]; ok && r.err == nil {
					r.err = fmt.Errorf("%s is in line %d already", s, line)
				}
			}
		}
		if r.err != nil {
			continue
		}
		for _, s := range names {
			seen[owner{"name", s}] = r.line
		}
		for _, s := range numbers {
			seen[owner{"number", s}] = r.line
		}
	}
}

// storeAll stores everything or nothing.
func (d *Directory) storeAll(ctx context.Context, list []*Account, result *Imported, tell func(ImportProgress)) error {
	total, done := len(list), 0
	err := d.db.Write(ctx, func(tx *store.Tx) error {
		return d.insert(tx, list, importStep, func(n int) error {
			done += n
			tell(ImportProgress{true, done, total})
			return ctx.Err() // the writer is ours for seconds: whoever asked may have gone meanwhile
		})
	})
	if err == nil {
		result.Added = total
	}
	return err
}

// storeSteps stores step by step; a step that fails is tried again row by row, so that only
// the bad row is left out.
func (d *Directory) storeSteps(ctx context.Context, list []*Account, rows []row, result *Imported, tell func(ImportProgress)) error {
	line := make(map[*Account]int, len(rows))
	for i := range rows {
		line[rows[i].made] = rows[i].line
	}
	done := 0
	for part := range slices.Chunk(list, importStep) {
		err := d.db.Write(ctx, func(tx *store.Tx) error { return d.insert(tx, part, importStep, nil) })
		switch {
		case err == nil:
			result.Added += len(part)
		case errors.Is(err, store.ErrExists):
			for _, a := range part {
				err := d.db.Write(ctx, func(tx *store.Tx) error { return d.insert(tx, []*Account{a}, 1, nil) })
				if errors.Is(err, store.ErrExists) {
					result.bad(line[a], d.taken(a, err))
				} else if err != nil {
					return err
				} else {
					result.Added++
				}
			}
		default:
			return err
		}
		done += len(part)
		tell(ImportProgress{true, done, len(list)})
	}
	return nil
}
