package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// newSchemaName is where a restore into PostgreSQL builds its tables, out of everyone's way.
const newSchemaName = "fernamt_restoring"

// restorePostgres builds the tables in a schema of their own and exchanges them for the old
// ones in one transaction. The old ones go to a schema named by the time.
func restorePostgres(ctx context.Context, cfg Config, path string, info BackupInfo, how Restoring) (err error) {
	home, err := newPostgres(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, home.close()) }()
	c, err := home.db.Conn(ctx)
	if err != nil {
		return home.classify(err)
	}
	defer c.Close()
	if err := alone(ctx, home, c); err != nil {
		return err
	}
	rows, err := contents(ctx, home)
	if err != nil {
		return err
	}
	if rows > 0 && !how.Replace {
		return fmt.Errorf("the store holds data (%d rows): say --replace to have the backup in its place", rows)
	}
	// One left behind by a restore that was killed is of no use.
	for _, q := range []string{"drop schema if exists " + newSchemaName + " cascade", "create schema " + newSchemaName} {
		if _, err := c.ExecContext(ctx, q); err != nil {
			return home.classify(err)
		}
	}
	fresh, err := postgresIn(ctx, cfg, newSchemaName)
	if err != nil {
		return err
	}
	err = fill(ctx, fresh, path, info, how)
	if err = errors.Join(err, fresh.close()); err == nil {
		err = exchange(ctx, c)
	}
	if err != nil {
		_, _ = c.ExecContext(context.WithoutCancel(ctx), "drop schema if exists "+newSchemaName+" cascade")
		return home.classify(err)
	}
	return nil
}

// alone takes the lock that says that no server has the database open. A server that has
// just ended is given a moment, since its connections end a little later.
func alone(ctx context.Context, home *postgresEngine, c *sql.Conn) error {
	for range 30 {
		var free bool
		if err := c.QueryRowContext(ctx, "select pg_try_advisory_lock($1)", int64(lockUse)).Scan(&free); err != nil {
			return home.classify(err)
		}
		if free {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("a server has the database open, stop it first: %w", ErrInUse)
}

// exchange moves the tables of the current schema away and those of newSchemaName in.
func exchange(ctx context.Context, c *sql.Conn) error {
	tx, err := c.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // no effect after the commit
	var home string
	if err := tx.QueryRowContext(ctx, "select quote_ident(current_schema())").Scan(&home); err != nil {
		return err
	}
	fresh, err := tableNames(ctx, tx, newSchemaName)
	if err != nil {
		return err
	}
	have, err := tableNames(ctx, tx, "")
	if err != nil {
		return err
	}
	old := "fernamt_replaced_" + strings.ReplaceAll(time.Now().UTC().Format("20060102t150405.000"), ".", "_")
	made := false
	for name := range fresh {
		if have[name] {
			if !made {
				if _, err := tx.ExecContext(ctx, "create schema "+old); err != nil {
					return err
				}
				made = true
			}
			if _, err := tx.ExecContext(ctx, "alter table "+home+"."+name+" set schema "+old); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, "alter table "+newSchemaName+"."+name+" set schema "+home); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, "drop schema "+newSchemaName+" cascade"); err != nil {
		return err
	}
	return tx.Commit()
}

// tableNames lists the tables of a schema, quoted; empty: of the current one.
func tableNames(ctx context.Context, tx *sql.Tx, schema string) (map[string]bool, error) {
	rows, err := tx.QueryContext(ctx, `select quote_ident(table_name) from information_schema.tables
		where table_type = 'BASE TABLE' and table_schema = coalesce(nullif($1, ''), current_schema())`, schema)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names := map[string]bool{}
	for rows.Next() {
		var n string
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		names[n] = true
	}
	return names, rows.Err()
}
