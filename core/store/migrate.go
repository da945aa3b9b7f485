package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrations embed.FS

// keepBackups is how many automatic backups stay.
const keepBackups = 5

// schema moves one database through the versions of the schema.
type schema struct {
	db   *sql.DB
	goal *goose.Provider
}

func newSchema(e engine) (*schema, error) {
	dialect, folder, db := goose.DialectSQLite3, "migrations/sqlite", (*sql.DB)(nil)
	switch e := e.(type) {
	case *sqliteEngine:
		db = e.write
	case *postgresEngine:
		dialect, folder, db = goose.DialectPostgres, "migrations/postgres", e.db
	}
	files, err := fs.Sub(migrations, folder)
	if err != nil {
		return nil, err
	}
	p, err := goose.NewProvider(dialect, db, files, goose.WithDisableGlobalRegistry(true), goose.WithVerbose(false))
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return &schema{db: db, goal: p}, nil
}

// newest is the version that this binary knows.
func (s *schema) newest() int64 {
	list := s.goal.ListSources()
	return list[len(list)-1].Version
}

// current is the database's version; 0 for a database without tables of ours. It creates nothing.
func (s *schema) current(ctx context.Context) (int64, error) {
	exists := "select count(*) from sqlite_master where name = 'goose_db_version'"
	if s.goal != nil && isPostgres(s.db) {
		exists = `select count(*) from information_schema.tables
			where table_schema = current_schema() and table_name = 'goose_db_version'`
	}
	var n, v int64
	if err := s.db.QueryRowContext(ctx, exists).Scan(&n); err != nil || n == 0 {
		return 0, err
	}
	// goose never deletes rows when going up, and we never go down.
	err := s.db.QueryRowContext(ctx, "select coalesce(max(version_id), 0) from goose_db_version where is_applied").Scan(&v)
	return v, err
}

func isPostgres(db *sql.DB) bool {
	return strings.Contains(fmt.Sprintf("%T", db.Driver()), "stdlib")
}

// bringUpToDate compares the schema with this binary's and migrates.
func (db *DB) bringUpToDate(ctx context.Context) error {
	sc, err := newSchema(db.eng)
	if err != nil {
		return err
	}
	if isPostgres(sc.db) && !db.cfg.ReadOnly {
		unlock, err := lockSchema(ctx, sc.db)
		if err != nil {
			return err
		}
		defer unlock()
	}
	have, err := sc.current(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", db.eng.classify(err))
	}
	want := sc.newest()
	db.version = have
	switch {
	case have == want:
		return nil
	case have > want:
		return fmt.Errorf("the data has schema %d and this fernamt knows up to %d: "+
			"start the newer fernamt, or restore a backup that this one made", have, want)
	case db.cfg.ReadOnly:
		return fmt.Errorf("the data has schema %d and this fernamt needs %d: %w", have, want, ErrOld)
	}
	if have > 0 {
		if err := db.backupBefore(ctx, have, want); err != nil {
			return fmt.Errorf("back up before migration: %w", err)
		}
	}
	if _, err := sc.goal.Up(ctx); err != nil {
		return fmt.Errorf("migrate schema from %d to %d: %w", have, want, db.eng.classify(err))
	}
	db.version = want
	if have > 0 {
		db.log.Info("schema migrated", "from", have, "to", want)
	}
	return nil
}

// lockSchema keeps two servers that start at once from migrating the same database.
func lockSchema(ctx context.Context, db *sql.DB) (unlock func(), err error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := c.ExecContext(ctx, "select pg_advisory_lock($1)", int64(lockMigrate)); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("lock schema: %w", err)
	}
	return func() {
		_, _ = c.ExecContext(context.WithoutCancel(ctx), "select pg_advisory_unlock($1)", int64(lockMigrate))
		_ = c.Close()
	}, nil
}

// backupBefore writes an automatic backup and deletes the oldest beyond keepBackups.
func (db *DB) backupBefore(ctx context.Context, have, want int64) error {
	if db.cfg.Dir == "" {
		return errors.New("no data folder to put it in is set")
	}
	dir, err := BackupDir(db.cfg.Dir)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("auto-%s-schema-%d-to-%d%s", time.Now().UTC().Format("20060102T150405.000"), have, want, dumpSuffix)
	if err := db.backup(ctx, filepath.Join(dir, name), db.cfg.Progress); err != nil {
		return err
	}
	db.log.Info("backup written before migration", "file", filepath.Join(dir, name))
	return pruneBackups(dir)
}

func pruneBackups(dir string) error {
	list, err := filepath.Glob(filepath.Join(dir, "auto-*"+dumpSuffix))
	if err != nil {
		return err
	}
	slices.Sort(list) // names begin with the time
	for len(list) > keepBackups {
		if err := os.Remove(list[0]); err != nil {
			return err
		}
		list = list[1:]
	}
	return nil
}
