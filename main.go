// Fernamt is a unified-communications server: one binary that plays one role of the
// suite or all of them. What it can be told: fernamt help.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"fernamt/core/host"
	"fernamt/core/listen"
	"fernamt/test/play"
	"fernamt/test/plays"
)

// version is set when a release is built: -ldflags "-X main.version=1.0".
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	p := host.Program{Kinds: roles(), Version: versionText(), In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Terminal: terminal(os.Stderr), Reload: reload, Tools: play.Commands(plays.Files, listen.Kernel(), operate)}
	status := p.Run(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}

// operate does an operator's command for a play and gives what it said.
func operate(ctx context.Context, data string, args []string) (string, error) {
	var out, errs strings.Builder
	p := host.Program{Kinds: roles(), Version: versionText(), In: strings.NewReader(""), Out: &out, Err: &errs}
	if status := p.Run(ctx, append([]string{"--data", data}, args...)); status != 0 {
		return out.String(), errors.New(strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// versionText is the release's version, or the commit that was built.
func versionText() string {
	if version != "" {
		return version
	}
	commit, dirty := "", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && len(s.Value) >= 12:
				commit = s.Value[:12]
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = "+changes"
			}
		}
	}
	if commit == "" {
		return "development"
	}
	return commit + dirty
}

// terminal says whether somebody looks at f.
func terminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}
