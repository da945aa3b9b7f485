package host

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"
)

// rest gives memory back to the machine when a rush is over: thousands of handshakes
// leave room behind that the runtime would keep for long.
func rest(ctx context.Context) {
	const much = 32 << 20
	var before, now runtime.MemStats
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(30 * time.Second):
			runtime.ReadMemStats(&now)
			if now.HeapIdle-now.HeapReleased > much && now.TotalAlloc-before.TotalAlloc < much {
				debug.FreeOSMemory() // in a quiet half-minute; who allocates needs the room again
			}
			before = now
		}
	}
}
