package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// idle opens n TLS connections to our server, asks one thing on each, and prints what
// the server's memory grew by. The server is another process, so that each has its
// descriptors for itself.
func (b *bench) idle(n int) error {
	b.extra += fmt.Sprintf("\n[limits]\nconnections = %d\nconnections_per_address = %d\nidle_time = \"10m\"\n", n+100, n+100)
	s, err := b.startOurs(true)
	if err != nil {
		return err
	}
	defer s.stop()
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(s.data, "certs", "ca.pem"))
	if err != nil {
		return err
	}
	pool.AppendCertsFromPEM(ca)
	config := &tls.Config{RootCAs: pool, ServerName: "sip.bar.test"}
	before := rss(s.cmd.Process.Pid)
	conns := make([]*tls.Conn, n)
	work, errs := make(chan int), make(chan error, 8)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for i := range work {
				c, err := ask(config, i)
				if err != nil {
					select {
					case errs <- err:
					default:
					}
				}
				conns[i] = c
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	group.Wait()
	select {
	case err := <-errs:
		return fmt.Errorf("open connections: %w", err)
	default:
	}
	peak := rss(s.cmd.Process.Pid)
	time.Sleep(130 * time.Second) // the runtime collects at least every two minutes
	after := rss(s.cmd.Process.Pid)
	for _, c := range conns {
		if err := c.Close(); err != nil {
			return fmt.Errorf("a connection did not last: %w", err)
		}
	}
	fmt.Printf("%d idle TLS connections: %.1f KiB each after opening, %.1f KiB each two minutes later (server's resident memory)\n",
		n, float64(peak-before)/float64(n), float64(after-before)/float64(n))
	return nil
}

// ask opens one connection and has an OPTIONS answered on it.
func ask(config *tls.Config, i int) (*tls.Conn, error) {
	c, err := tls.Dial("tcp", "127.0.0.1:"+strconv.Itoa(oursPort+1), config)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(c, "OPTIONS sip:bar.test SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1:9;branch=z9hG4bK-%d\r\nMax-Forwards: 70\r\n"+
		"From: <sip:a@bar.test>;tag=%d\r\nTo: <sip:bar.test>\r\nCall-ID: idle-%d\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", i, i, i); err != nil {
		return nil, err
	}
	line, err := bufio.NewReaderSize(c, 2048).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "SIP/2.0 200") {
		return nil, fmt.Errorf("OPTIONS: %q %w", line, err)
	}
	return c, nil
}

// rss is a process's resident memory in KiB.
func rss(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for _, line := range strings.Split(string(b), "\n") {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.Atoi(strings.Fields(v)[0])
			return n
		}
	}
	return 0
}
