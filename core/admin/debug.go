package admin

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"strings"
	"time"
)

// Debug are the commands that look into the running process.
func Debug() []Command {
	return []Command{
		{Name: "debug pprof", Args: "PROFILE [--seconds N]", Rights: Own, Run: debugPprof,
			Help: "Writes a profile of the server to standard output: cpu, heap, goroutine, allocs, block, mutex, trace\n\n" +
				"cpu and trace run for --seconds (10). For go tool pprof: fernamt debug pprof heap > heap.pb.gz"},
		{Name: "debug vars", Rights: Look, Run: debugVars,
			Help: "Prints memory, goroutines and garbage collection of the server as JSON"},
	}
}

// debugPprof writes a profile in the format of go tool pprof.
func debugPprof(ctx context.Context, c *Call) error {
	seconds := 10
	if f := c.Flag("seconds"); f != "" {
		n, err := strconv.Atoi(f)
		if err != nil || n < 1 || n > 600 {
			return Usagef("--seconds %s: must be from 1 to 600", f)
		}
		seconds = n
	}
	wait := func() {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(seconds) * time.Second):
		}
	}
	switch name := c.Arg(0); name {
	case "cpu":
		if err := pprof.StartCPUProfile(c.Out); err != nil {
			return err
		}
		wait()
		pprof.StopCPUProfile()
		return nil
	case "trace":
		if err := trace.Start(c.Out); err != nil {
			return err
		}
		wait()
		trace.Stop()
		return nil
	default:
		p := pprof.Lookup(name)
		if p == nil {
			var names []string
			for _, x := range pprof.Profiles() {
				names = append(names, x.Name())
			}
			return errors.New("there is no profile " + name + "; known: cpu, trace, " + strings.Join(names, ", "))
		}
		if name == "heap" {
			runtime.GC()
		}
		return p.WriteTo(c.Out, 0)
	}
}

func debugVars(_ context.Context, c *Call) error {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var g debug.GCStats
	debug.ReadGCStats(&g)
	return c.JSON(map[string]any{"goroutines": runtime.NumGoroutine(), "cpus": runtime.NumCPU(),
		"gomaxprocs": runtime.GOMAXPROCS(0), "heap_in_use": m.HeapInuse, "heap_objects": m.HeapObjects,
		"stack_in_use": m.StackInuse, "system": m.Sys, "gc_runs": g.NumGC, "gc_pause_total": g.PauseTotal.String()})
}
