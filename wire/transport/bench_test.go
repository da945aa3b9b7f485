//go:build unix

package transport

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

var (
	echoPort = flag.Int("udpecho.port", 0, "serve a UDP echo there until SIGTERM instead of testing, and print its CPU")
	echoPace = flag.Duration("udpecho.pace", 0, "Config.Pace of that echo")
	echoSIP  = flag.Bool("udpecho.sip", false, "that echo parses SIP and answers 200")
)

func TestMain(m *testing.M) {
	flag.Parse()
	switch {
	case *echoPort != 0:
		echo()
	case os.Getenv("FERNAMT_TEST_IDLE") != "":
		idleClients()
	default:
		os.Exit(m.Run())
	}
}

// echo serves until SIGTERM and prints what shared UDP benchmarks print.
func echo() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:"+strconv.Itoa(*echoPort))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	room := make([]byte, 0, 65536)
	l := New(Config{Pace: *echoPace, Receive: func(m *sip.Message) {
		_ = m.Flow.Send(sip.AppendResponse(room, m, 200, []byte("x"), nil))
	}})
	if !*echoSIP {
		l.bare = func(f sip.Flow, b []byte) { _ = f.Send(b) }
	}
	if err := l.ServePacket(ctx, pc, sip.LinkInfo{}); err != nil {
		fmt.Println(err)
	}
	n, cpu := l.Stats().In[sip.UDP], cpuTime()
	fmt.Printf("server packets=%d cpu_s=%.2f cpu_us_per_packet=%.3f\n", n, cpu.Seconds(), float64(cpu.Microseconds())/float64(max(n, 1)))
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchmarkUDP(b *testing.B, text []byte, bare bool) {
	room := make([]byte, 0, 65536)
	l := New(Config{Receive: func(m *sip.Message) {
		_ = m.Flow.Send(sip.AppendResponse(room, m, 200, []byte("x"), nil))
	}})
	if bare {
		l.bare = func(f sip.Flow, d []byte) { _ = f.Send(d) }
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	is.NoErr(b, err)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(b.Context())
	go func() { done <- l.ServePacket(ctx, pc, sip.LinkInfo{}) }()
	c, err := net.Dial("udp", pc.LocalAddr().String())
	is.NoErr(b, err)
	defer c.Close()
	buf := make([]byte, 65536)
	const window = 32
	b.ReportAllocs()
	before := cpuTime()
	for i := 0; i < b.N; i += window {
		for range window {
			c.Write(text)
		}
		for range window {
			c.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := c.Read(buf); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	cancel()
	is.NoErr(b, <-done)
}

// The client's half is in these figures too; the comparison with C is the echo of TestMain.
func BenchmarkUDPEcho(b *testing.B)  { benchmarkUDP(b, make([]byte, 500), true) }
func BenchmarkUDPParse(b *testing.B) { benchmarkUDP(b, []byte(options("UDP", "bench", "", "")), false) }

func BenchmarkTCP(b *testing.B) {
	l := New(Config{Receive: func(m *sip.Message) { _ = m.Flow.Send(sip.AppendResponse(nil, m, 200, []byte("x"), nil)) }})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(b, err)
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	is.NoErr(b, err)
	s, err := ln.Accept()
	is.NoErr(b, err)
	go l.ServeConn(b.Context(), s, sip.LinkInfo{})
	text := []byte(options("TCP", "bench", "", ""))
	buf := make([]byte, 65536)
	b.ReportAllocs()
	for b.Loop() {
		c.Write(text)
		c.Read(buf)
	}
	c.Close()
}
