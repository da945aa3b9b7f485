package clock

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fernamt/test/is"
)

// run gives a wheel that runs until the test's bubble ends.
func run(t *testing.T) *Wheel {
	w := NewWheel()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { w.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return w
}

func TestNeverEarlyAtMostATickLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t)
		rng := rand.New(rand.NewPCG(1, 2))
		type alarm struct {
			Timer
			at, fired int64
		}
		alarms := make([]alarm, 5000)
		for i := range alarms {
			a := &alarms[i]
			d := time.Duration(rng.Int64N(int64(100 * time.Second)))
			if i%10 == 0 {
				d = time.Duration(rng.Int64N(int64(30 * time.Millisecond)))
			}
			a.at = Mono() + int64(d)
			w.Set(&a.Timer, d, func(*Timer) { a.fired = Mono() })
			if i%100 == 0 {
				time.Sleep(3 * time.Millisecond)
			}
		}
		time.Sleep(101 * time.Second)
		synctest.Wait()
		for i := range alarms {
			a := &alarms[i]
			if a.fired < a.at || a.fired > a.at+int64(Tick) {
				t.Fatalf("alarm %d fired %v after its moment", i, time.Duration(a.fired-a.at))
			}
		}
		is.Equal(t, w.Len(), 0)
	})
}

func TestIdleWheelSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t)
		synctest.Wait()
		is.Equal(t, w.plan.Load(), int64(never))
		var timer Timer
		fired := Mono() * 0
		w.Set(&timer, 24*time.Hour, func(*Timer) { fired = Mono() })
		begin := Mono()
		time.Sleep(25 * time.Hour) // a bubble's clock stands still unless everyone sleeps
		synctest.Wait()
		is.True(t, time.Duration(fired-begin) >= 24*time.Hour, "not early after a day")
		is.True(t, time.Duration(fired-begin) <= 24*time.Hour+Tick, "not late after a day")
		is.Equal(t, w.plan.Load(), int64(never))
	})
}

func TestStopAndMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t)
		var a, b, c Timer
		var order []string
		w.Set(&a, 20*time.Millisecond, func(*Timer) { order = append(order, "a") })
		w.Set(&b, 30*time.Millisecond, func(*Timer) { order = append(order, "b") })
		w.Set(&c, 5*time.Second, func(*Timer) { order = append(order, "c") })
		is.True(t, w.Stop(&a), "a was set")
		is.True(t, !w.Stop(&a), "a is not set any more")
		w.Set(&c, 15*time.Millisecond, func(*Timer) { order = append(order, "c moved") })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		is.Equal(t, order, []string{"c moved", "b"})
		is.True(t, !w.Stop(&b), "b has fired")
	})
}

// A function may set its own timer again, stop one that is due in the same tick, and set one with no delay at all.
func TestFromInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t)
		n := 0
		var a Timer
		var again func(x *Timer)
		again = func(x *Timer) {
			if n++; n < 5 {
				w.Set(x, 0, again)
			}
		}
		w.Set(&a, 0, again)
		pair := make([]Timer, 64)
		left := 0
		for i := range pair {
			w.Set(&pair[i], 50*time.Millisecond, func(*Timer) {
				left++
				for k := range pair {
					w.Stop(&pair[k])
				}
			})
		}
		time.Sleep(time.Second)
		synctest.Wait()
		is.Equal(t, n, 5)
		is.Equal(t, left, 1, "the first one stopped the others")
		is.Equal(t, w.Len(), 0)
	})
}

func TestPanicEndsOnlyItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWheel()
		var got any
		w.Panicked = func(v any) { got = v }
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { w.Run(ctx) })
		var a, b Timer
		fired := false
		w.Set(&a, 10*time.Millisecond, func(*Timer) { panic("boom") })
		w.Set(&b, 20*time.Millisecond, func(*Timer) { fired = true })
		time.Sleep(time.Second)
		synctest.Wait()
		is.Equal(t, got, any("boom"))
		is.True(t, fired, "the next timer fired")
		cancel()
		wg.Wait()
	})
}

func TestManyGoroutines(t *testing.T) {
	w := run(t)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 9))
			mine := make([]Timer, 100)
			for range 20000 {
				x := &mine[rng.IntN(len(mine))]
				if rng.IntN(3) == 0 {
					w.Stop(x)
				} else {
					w.Set(x, time.Duration(rng.IntN(40))*time.Millisecond, func(*Timer) {})
				}
			}
			for i := range mine {
				w.Stop(&mine[i])
			}
		})
	}
	wg.Wait()
	is.Equal(t, w.Len(), 0)
}

func TestNoAllocation(t *testing.T) {
	w := run(t)
	x := new(Timer)
	f := func(*Timer) {}
	is.Equal(t, testing.AllocsPerRun(1000, func() { w.Set(x, time.Second, f); w.Stop(x) }), 0)
}

func BenchmarkSetStop(b *testing.B) {
	w := NewWheel()
	x := make([]Timer, 4096)
	f := func(*Timer) {}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		w.Set(&x[i%4096], 32*time.Second, f)
	}
}

func BenchmarkMono(b *testing.B) {
	for b.Loop() {
		Mono()
	}
}
