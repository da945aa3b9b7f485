package store

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
	"unicode/utf8"
)

// dumpSuffix ends the names of backups.
const dumpSuffix = ".fernamt.gz"

// Progress is how far a long piece of work has come, in rows.
type Progress struct {
	Table string
	Done  int64
	Total int64
}

// A dump is gzip'ed text, one JSON value a line, the same for both engines:
//
//	{"fernamt":"dump","format":1,"schema":2,"engine":"sqlite","made":"2026-11-22T10:00:00Z","rows":3}
//	{"table":"number","columns":["name","last"]}
//	["account",2]
//	{"end":true,"rows":3,"sha256":"…"}        over every line before this one
//
// In a row a blob is {"b":"base64"} and a fraction {"f":0.5}; all else is itself.
type dumpHead struct {
	Fernamt string    `json:"fernamt"`
	Format  int       `json:"format"`
	Schema  int64     `json:"schema"`
	Engine  string    `json:"engine"`
	Made    time.Time `json:"made"`
	Rows    int64     `json:"rows"`
}

type dumpLine struct {
	Table   string   `json:"table,omitempty"`
	Columns []string `json:"columns,omitempty"`
	End     bool     `json:"end,omitempty"`
	Rows    int64    `json:"rows,omitempty"`
	SHA256  string   `json:"sha256,omitempty"`
}

const dumpFormat = 1

// Backup writes everything to a new file while the server goes on, as it was at one moment.
// The file is readable by its owner only and can be restored into either engine. progress,
// which may be nil, is called about every thousand rows.
func (db *DB) Backup(ctx context.Context, path string, progress func(Progress)) error {
	if err := db.backup(ctx, path, progress); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

func (db *DB) backup(ctx context.Context, path string, progress func(Progress)) (err error) {
	s, err := db.eng.connect(ctx, forReading)
	if err != nil {
		return err
	}
	defer s.close()
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("%s exists already", path)
	}
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(part)
		}
	}()
	if err := s.begin(ctx); err != nil {
		return s.fail(err)
	}
	defer func() { _, _ = s.c.ExecContext(context.WithoutCancel(ctx), "rollback") }()
	if err := db.dump(ctx, s, f, progress); err != nil {
		return err
	}
	// A name appears only when the whole file is on the disk.
	if err := f.Sync(); err != nil {
		return err
	}
	if err := belong(filepath.Dir(path), part); err != nil {
		return err
	}
	if err := os.Rename(part, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

type dumper struct {
	w        io.Writer
	sum      hash.Hash
	line     []byte
	progress func(Progress)
	at       Progress
}

func (db *DB) dump(ctx context.Context, s *session, out io.Writer, progress func(Progress)) error {
	tables, err := db.eng.tables(ctx, s)
	if err != nil {
		return err
	}
	zip, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return err
	}
	buf := bufio.NewWriterSize(zip, 1<<16)
	d := &dumper{w: buf, sum: sha256.New(), progress: progress}
	for _, t := range tables {
		var n int64
		if err := s.c.QueryRowContext(ctx, "select count(*) from "+t.name).Scan(&n); err != nil {
			return s.fail(err)
		}
		d.at.Total += n
	}
	head := dumpHead{"dump", dumpFormat, db.version, db.Engine(), time.Now().UTC(), d.at.Total}
	if err := d.put(head); err != nil {
		return err
	}
	for _, t := range tables {
		if err := d.table(ctx, s, t); err != nil {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
	}
	if err := d.put(dumpLine{End: true, Rows: d.at.Done, SHA256: hex.EncodeToString(d.sum.Sum(nil))}); err != nil {
		return err
	}
	d.tell()
	return errors.Join(buf.Flush(), zip.Close())
}

func (d *dumper) tell() {
	if d.progress != nil {
		d.progress(d.at)
	}
}

func (d *dumper) put(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return d.write(append(b, '\n'))
}

func (d *dumper) write(b []byte) error {
	d.sum.Write(b)
	_, err := d.w.Write(b)
	return err
}

func (d *dumper) table(ctx context.Context, s *session, t table) error {
	if err := d.put(dumpLine{Table: t.name, Columns: t.columns}); err != nil {
		return err
	}
	d.at.Table = t.name
	query := "select "
	for i, c := range t.columns {
		if i > 0 {
			query += ", "
		}
		query += c
	}
	rows, err := s.query(ctx, query+" from "+t.name, nil)
	if err != nil {
		return err
	}
	defer rows.Close()
	values := make([]any, len(t.columns))
	into := make([]any, len(values))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return s.fail(err)
		}
		if err := d.row(values); err != nil {
			return err
		}
		if d.at.Done++; d.at.Done%1000 == 0 {
			d.tell()
		}
	}
	return s.fail(rows.Err())
}

func (d *dumper) row(values []any) error {
	b := append(d.line[:0], '[')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		switch v := v.(type) {
		case nil:
			b = append(b, "null"...)
		case int64:
			b = strconv.AppendInt(b, v, 10)
		case float64:
			b = append(strconv.AppendFloat(append(b, `{"f":`...), v, 'g', -1, 64), '}')
		case []byte:
			b = append(base64.StdEncoding.AppendEncode(append(b, `{"b":"`...), v), `"}`...)
		case string:
			if !utf8.ValidString(v) {
				return fmt.Errorf("text that is not UTF-8 in column %d", i+1)
			}
			text, err := json.Marshal(v)
			if err != nil {
				return err
			}
			b = append(b, text...)
		default:
			return fmt.Errorf("column %d has the type %T that a dump does not know", i+1, v)
		}
	}
	b = append(b, ']', '\n')
	d.line = b
	return d.write(b)
}
