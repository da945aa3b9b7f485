// Package trace is how Fernamt tells what it does: the log, the counters and the
// live protocol trace with its export to a HOMER server (HEP version 3).
//
// The log is slog, to standard error, its level changeable while the server runs.
// Counters are plain atomic words; Prometheus reads them when asked and no type of
// its library leaves this package. The hub hands copies of SIP messages, secrets
// starred, to whoever listens; while nobody does it costs one atomic load.
//
// Goroutines: one per exporter (Export). Locks: Metrics.mu guards the table of
// names, never a counter; Hub.mu guards the list of listeners, which senders read
// through an atomic pointer.
package trace

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Level holds the log's level; Set changes it while the server runs.
type Level struct{ v slog.LevelVar }

// Set takes debug, info, warn or error.
func (l *Level) Set(name string) error {
	var s slog.Level
	switch strings.ToLower(name) {
	case "debug":
		s = slog.LevelDebug
	case "", "info":
		s = slog.LevelInfo
	case "warn":
		s = slog.LevelWarn
	case "error":
		s = slog.LevelError
	default:
		return fmt.Errorf("log level %q: use debug, info, warn or error", name)
	}
	l.v.Set(s)
	return nil
}

// String is the level's name in lower case.
func (l *Level) String() string { return strings.ToLower(l.v.Level().String()) }

// NewLog returns a logger that writes to w as "text" or "json", and the level that
// steers it.
func NewLog(w io.Writer, format, level string) (*slog.Logger, *Level, error) {
	l := &Level{}
	if err := l.Set(level); err != nil {
		return nil, nil, err
	}
	o := &slog.HandlerOptions{Level: &l.v}
	switch format {
	case "", "text":
		return slog.New(slog.NewTextHandler(w, o)), l, nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), l, nil
	}
	return nil, nil, fmt.Errorf("log format %q: use text or json", format)
}
