// Package clock is time as a value: a monotonic reading and a timing wheel.
//
// It does not touch the wall clock, so that a jump of the host's time expires nothing. Everything here rests on
// package time, hence works inside a testing/synctest bubble.
//
// Goroutines: one per Wheel, the caller of Run; timers' functions are called on it, one after the other. Locks: one per
// shard of a Wheel, guarding that shard's slots and the links inside its timers. No lock is held while a function runs.
package clock

import "time"

// start is read once; what counts is its monotonic part.
var start = time.Now()

// base lifts readings above zero inside a synctest bubble too: there the time begins with the year 2000.
var base = max(start.UnixNano()-time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC).UnixNano(), int64(time.Hour))

// Mono gives nanoseconds on this process's monotonic clock, always above zero. Readings may be subtracted and compared,
// nothing else. It never goes back and does not follow the wall clock.
func Mono() int64 { return int64(time.Since(start)) + base }
