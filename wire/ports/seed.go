package ports

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
)

//go:embed seed.tsv
var seedTable string

// Row is a line of the table that the project was created from: what the original suite used each port for.
type Row struct {
	ID                     string // R01 to R73
	Component, Komponente  string // in English and German
	Ports, Protocol        string // as the seed writes them, slips included
	Purpose, DirectionPeer string //
	Line                   int    // in the seed
}

// Seed reads the embedded table: 73 rows in order.
func Seed() ([]Row, error) { return ParseSeed(seedTable) }

// ParseSeed reads the table from tab-separated text with one heading line.
func ParseSeed(text string) ([]Row, error) {
	var rows []Row
	for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if i == 0 {
			continue
		}
		f := strings.Split(strings.TrimRight(line, "\r"), "\t")
		if len(f) != 8 {
			return nil, fmt.Errorf("seed line %d: %d fields, want 8", i+1, len(f))
		}
		n, err := strconv.Atoi(f[7])
		if err != nil {
			return nil, fmt.Errorf("seed line %d: %w", i+1, err)
		}
		if want := fmt.Sprintf("R%02d", len(rows)+1); f[0] != want {
			return nil, fmt.Errorf("seed line %d: row %q, want %s", i+1, f[0], want)
		}
		rows = append(rows, Row{f[0], f[1], f[2], f[3], f[4], f[5], f[6], n})
	}
	if len(rows) != Rows {
		return nil, fmt.Errorf("the seed has %d rows, want %d", len(rows), Rows)
	}
	return rows, nil
}
