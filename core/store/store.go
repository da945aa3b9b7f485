// Package store hides two database engines behind plain functions: SQLite in the data
// folder, which is the default, and PostgreSQL when the settings name one.
//
// Every change goes through [DB.Write]. One goroutine owns the writing connection and
// commits up to 64 changes in one transaction, each in a savepoint of its own, so that
// one sync of the disk serves them all and a change that fails spoils none of its
// neighbours. A caller is answered after COMMIT is durable, never before: SQLite runs in
// WAL mode with synchronous=FULL, PostgreSQL with synchronous_commit=on. On PostgreSQL a
// transaction lock lets one process commit at a time, so what is numbered in order becomes
// visible in order, whichever process wrote it.
//
// [DB.Read] runs on a small pool of connections and sees one unchanging snapshot.
//
// SQL is written once, with ? for arguments and whole numbers, text and blobs for columns;
// times are nanoseconds since 1970 and truth values 0 or 1. Schemas are in migrations/,
// one folder per engine, one numbered file per owning package.
//
// Goroutines: the writer, from Open to Close. Locks: DB.mu guards the signal list.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// What can go wrong with a store, to be tested for with errors.Is.
var (
	// ErrNone says that no row answers a query.
	ErrNone = errors.New("no such row")
	// ErrExists says that a row with this key is there already.
	ErrExists = errors.New("exists already")
	// ErrFull says that the disk is full. Nothing was stored; it works again when space returns.
	ErrFull = errors.New("disk full: nothing was stored; free some space and it goes on by itself")
	// ErrBroken says that the disk failed. Nothing more is acknowledged until a restart.
	ErrBroken = errors.New("storage failed and takes no more writes: look at the disk and the kernel log, " +
		"restart, run 'fernamt check', restore the last backup if damage is found")
	// ErrUnavailable says that the database server cannot be reached; whether the last write was kept is unknown.
	ErrUnavailable = errors.New("database server cannot be reached")
	// ErrLogin says that the database server refuses user or password.
	ErrLogin = errors.New("database server refuses user or password")
	// ErrOld says that the data waits for a migration, which nobody makes who only reads.
	ErrOld = errors.New("start the server once to bring it up to date")
	// ErrInUse says that another process has the store open.
	ErrInUse = errors.New("in use")
	// ErrReadOnly says that the store, or this transaction, may only be read.
	ErrReadOnly = errors.New("opened for reading only")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("store is closed")
)

// Config says where the data is.
type Config struct {
	Dir      string // data folder: SQLite's file, locks and automatic backups
	DSN      string // PostgreSQL connection string; empty means SQLite in Dir
	Password string // PostgreSQL password from a file of its own; empty: as the DSN says
	ReadOnly bool   // for tools beside a running server: no lock, no migration, no writes
	// Dial opens the connection to PostgreSQL; name and port are handed over unresolved.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Progress is told about an automatic backup before a migration; may be nil.
	Progress func(Progress)
	Log      *slog.Logger // nil: slog.Default()
}

// DB is an open store. All its methods may be used by many goroutines.
type DB struct {
	cfg     Config
	eng     engine
	lock    *os.File
	version int64
	log     *slog.Logger

	queue   chan *write
	closing chan struct{}
	ended   chan struct{}
	closer  sync.Once
	broken  atomic.Pointer[error]
	readers chan *session // idle reading connections; nil stands for one not opened yet

	commits atomic.Int64
	writes  atomic.Int64

	mu      sync.Mutex
	signals []*func()
}

// engine is what the two databases do differently.
type engine interface {
	// connect opens one connection.
	connect(ctx context.Context, mode mode) (*session, error)
	// classify gives a driver's error the meaning of this package.
	classify(err error) error
	// tables lists our tables and their columns.
	tables(ctx context.Context, s *session) ([]table, error)
	// close ends what all connections share.
	close() error
}

type mode uint8

const (
	forWriting mode = iota
	forReading
	forTools   // reading by a tool beside a server: nothing is created
	forLoading // writing by a restore, which holds the store's locks already
)

type table struct {
	name    string
	columns []string
}

const readerCount = 4

// Open opens the store, brings its schema up to date and starts the writer. A schema newer
// than this binary's is refused. Before the schema of a store that holds data is changed,
// a backup goes to Dir/backups.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	db, err := open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return db, nil
}

func open(ctx context.Context, cfg Config) (*DB, error) {
	db := &DB{cfg: cfg, log: cfg.Log}
	err := db.prepare(ctx)
	if err == nil {
		err = db.bringUpToDate(ctx)
	}
	if err != nil {
		db.release()
		return nil, err
	}
	if err := db.start(ctx); err != nil {
		db.release()
		return nil, err
	}
	return db, nil
}

// prepare takes the lock and chooses the engine.
func (db *DB) prepare(ctx context.Context) (err error) {
	cfg := db.cfg
	if cfg.Dir == "" && cfg.DSN == "" {
		return errors.New("neither a data folder nor a database server is named")
	}
	if cfg.Dir != "" && !cfg.ReadOnly {
		if err = os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return fmt.Errorf("make data folder: %w", err)
		}
	}
	if cfg.DSN != "" {
		e, err := newPostgres(ctx, cfg)
		if err == nil {
			db.eng = e
		}
		return err
	}
	if !cfg.ReadOnly {
		if db.lock, err = lockDir(cfg.Dir); err != nil {
			return err
		}
	}
	e, err := newSQLite(filepath.Join(cfg.Dir, sqliteFile), cfg.ReadOnly)
	if err == nil {
		db.eng = e
	}
	return err
}

func (db *DB) start(ctx context.Context) error {
	db.queue = make(chan *write, 2*batchSize)
	db.closing = make(chan struct{})
	db.ended = make(chan struct{})
	db.readers = make(chan *session, readerCount)
	for range readerCount {
		db.readers <- nil
	}
	if db.cfg.ReadOnly {
		close(db.ended)
		return nil
	}
	// The connection is made now, for on PostgreSQL it also says that the store is in use.
	s, err := db.eng.connect(ctx, forWriting)
	if err != nil {
		return err
	}
	go db.writeLoop(s)
	return nil
}

// Close waits for the writes under way, then closes the store.
func (db *DB) Close() error {
	var err error
	db.closer.Do(func() {
		close(db.closing)
		<-db.ended
		for range readerCount {
			if s := <-db.readers; s != nil {
				s.close()
			}
		}
		err = db.release()
	})
	return err
}

func (db *DB) release() error {
	var err error
	if db.eng != nil {
		err = db.eng.close()
	}
	if db.lock != nil {
		err = errors.Join(err, unlockDir(db.lock))
	}
	return err
}

// Engine names the database engine: "sqlite" or "postgres".
func (db *DB) Engine() string {
	if db.cfg.DSN != "" {
		return "postgres"
	}
	return "sqlite"
}

// Schema is the version of the schema that the store has.
func (db *DB) Schema() int64 { return db.version }

// Dir is the data folder; empty when there is none.
func (db *DB) Dir() string { return db.cfg.Dir }

// Broken gives the failure that ended writing, nil while all is well.
func (db *DB) Broken() error {
	if p := db.broken.Load(); p != nil {
		return *p
	}
	return nil
}

// Stats counts what a store has done since it was opened.
type Stats struct {
	Writes  int64 // changes that are durable
	Commits int64 // transactions that carried them
	Waiting int   // changes that wait for their turn now
}

// Stats tells how busy the store is.
func (db *DB) Stats() Stats { return Stats{db.writes.Load(), db.commits.Load(), len(db.queue)} }

// OnSignal has f called after each commit in which a change called [Tx.Signal]. f runs on
// the writer's goroutine and must be quick. stop ends it.
func (db *DB) OnSignal(f func()) (stop func()) {
	p := &f
	db.mu.Lock()
	db.signals = append(append([]*func(){}, db.signals...), p)
	db.mu.Unlock()
	return func() {
		db.mu.Lock()
		defer db.mu.Unlock()
		var rest []*func()
		for _, q := range db.signals {
			if q != p {
				rest = append(rest, q)
			}
		}
		db.signals = rest
	}
}

func (db *DB) signal() {
	db.mu.Lock()
	list := db.signals // never changed in place
	db.mu.Unlock()
	for _, f := range list {
		(*f)()
	}
}

// Now is the time as rows carry it: nanoseconds since 1970.
func Now() int64 { return time.Now().UnixNano() }
