package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	people    = 20000
	password  = "secret" // of the load's people, on loopback only
	oursPort  = 15060
	kamPort   = 25060
	phonePort = 15070 // where every binding points to
)

type bench struct {
	dir, bin, extra string
	secs            int
}

// server is a server under load.
type server struct {
	cmd    *exec.Cmd
	data   string
	port   int
	filled bool
}

func (s *server) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { s.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(6 * time.Second):
		s.cmd.Process.Kill()
		<-done
	}
}

// users writes sipp's list of people and ours.
func (b *bench) users() error {
	var list, ours bytes.Buffer
	list.WriteString("SEQUENTIAL\n")
	ours.WriteString("address,name,password\n")
	for i := range people {
		fmt.Fprintf(&list, "u%05d;[authentication username=u%05d password=%s]\n", i, i, password)
		fmt.Fprintf(&ours, "u%05d@bar.test,User %d,%s\n", i, i, password)
	}
	fmt.Fprintf(&ours, "caller@bar.test,Caller,%s\n", password)
	if err := os.WriteFile(filepath.Join(b.dir, "users.csv"), list.Bytes(), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.dir, "people.csv"), ours.Bytes(), 0o600)
}

// startOurs makes a fresh data folder for bar.test and serves it on core 0.
func (b *bench) startOurs(auth bool) (*server, error) {
	data, err := os.MkdirTemp(b.dir, "data-")
	if err != nil {
		return nil, err
	}
	if out, err := exec.Command(b.bin, "quickstart", "bar.test", "--data", data, "--address", "127.0.0.1").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("quickstart: %w\n%s", err, out)
	}
	more := "\n" + b.extra + "\n"
	if !auth {
		more += "[frontend]\ntrusted = [\"127.0.0.1\"]\n"
	}
	f, err := os.OpenFile(filepath.Join(data, "fernamt.toml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	fmt.Fprint(f, more)
	if err := f.Close(); err != nil {
		return nil, err
	}
	if out, err := exec.Command(b.bin, "user", "import", filepath.Join(b.dir, "people.csv"), "--data", data).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("user import: %w\n%s", err, out)
	}
	log, err := os.Create(filepath.Join(b.dir, "ours.log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("taskset", "-c", "0", b.bin, "start", "--data", data, "--port-offset", strconv.Itoa(oursPort-5060))
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "ready" {
			go io.Copy(io.Discard, out)
			return &server{cmd: cmd, data: data, port: oursPort}, nil
		}
	}
	cmd.Wait()
	text, _ := os.ReadFile(log.Name())
	return nil, fmt.Errorf("our server did not become ready:\n%s", text)
}

func (b *bench) startKamailio(auth bool) (*server, error) {
	run, err := os.MkdirTemp(b.dir, "kam-")
	if err != nil {
		return nil, err
	}
	args := []string{"-c", "0", "kamailio", "-DD", "-E", "-f", "test/bench/kamailio.cfg", "-l", fmt.Sprintf("udp:127.0.0.1:%d", kamPort),
		"-w", run, "-Y", run, "-b", "4194304", "-m", "1024", "-M", "16", "-n", "2"}
	if auth {
		args = append(args, "-A", "WITH_AUTH")
	}
	cmd := exec.Command("taskset", args...)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	time.Sleep(2 * time.Second)
	return &server{cmd: cmd, port: kamPort}, nil
}

// load runs one load and measures the server's time on the processor meanwhile.
func (b *bench) load(s *server, l load, auth bool) (result, error) {
	scenario := l.name + ".xml"
	if auth && l.name == "register" {
		scenario = "register_auth.xml"
	}
	if l.name == "invite" || l.name == "message" {
		if !s.filled {
			s.filled = true
			if err := b.sipp(s, nil, "-sf", "test/bench/sipp/register.xml", "-r", "10000", "-m", strconv.Itoa(people), "-l", "8000"); err != nil {
				return result{}, err
			}
		}
		scenario = l.name + "_uac.xml"
		phones := exec.Command("taskset", "-c", "1", "sipp", "-sf", "test/bench/sipp/"+l.name+"_uas.xml", "-i", "127.0.0.1", "-p", strconv.Itoa(phonePort),
			"-mp", "37000", "-cp", "18886", "-t", "u1", "-nostdin", "-buff_size", "4000000")
		phones.Dir, phones.Env = "", append(os.Environ(), "TERM=xterm")
		if err := phones.Start(); err != nil {
			return result{}, err
		}
		defer func() { phones.Process.Kill(); phones.Wait() }()
		time.Sleep(time.Second)
	}
	stat, rtt := filepath.Join(b.dir, "stat.csv"), filepath.Join(b.dir, "rtt")
	os.Remove(stat)
	before, start := busy(s.cmd.Process.Pid), time.Now()
	err := b.sipp(s, nil, "-sf", "test/bench/sipp/"+scenario, "-r", strconv.Itoa(l.rate), "-m", strconv.Itoa(l.rate*b.secs), "-l", "8000",
		"-recv_timeout", "4000", "-trace_stat", "-stf", stat, "-fd", "1", "-trace_rtt", "-rtt_freq", "100")
	took := time.Since(start)
	used := busy(s.cmd.Process.Pid) - before
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return result{}, err
	}
	ok, bad, err := counts(stat)
	if err != nil {
		return result{}, err
	}
	r := result{us: used.Seconds() * 1e6 / float64(max(ok, 1)), got: float64(ok) / took.Seconds(), bad: bad}
	r.p50, r.p99 = latency(rtt)
	time.Sleep(500 * time.Millisecond)
	return r, nil
}

// sipp runs the load generator on core 1.
func (b *bench) sipp(s *server, env []string, args ...string) error {
	base := []string{"-c", "1", "sipp", "127.0.0.1:" + strconv.Itoa(s.port), "-inf", filepath.Join(b.dir, "users.csv"), "-i", "127.0.0.1", "-p", "15080",
		"-mp", "36000", "-cp", "18888", "-t", "u1", "-nostdin", "-buff_size", "4000000", "-timeout", strconv.Itoa(4*b.secs+20) + "s"}
	abs, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	for i, a := range args {
		if strings.HasPrefix(a, "test/") {
			args[i] = filepath.Join(abs, a)
		}
	}
	cmd := exec.Command("taskset", append(base, args...)...)
	cmd.Dir = filepath.Join(b.dir, "rtt")
	os.RemoveAll(cmd.Dir)
	if err := os.MkdirAll(cmd.Dir, 0o700); err != nil {
		return err
	}
	cmd.Env = append(append(os.Environ(), "TERM=xterm"), env...)
	return cmd.Run()
}

// busy is the time that a process and its children have had a processor.
func busy(pid int) (sum time.Duration) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, t := range tasks {
		if b, err := os.ReadFile(t + "/schedstat"); err == nil {
			n, _ := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
			sum += time.Duration(n)
		}
		kids, _ := os.ReadFile(t + "/children")
		for _, k := range strings.Fields(string(kids)) {
			n, _ := strconv.Atoi(k)
			sum += busy(n)
		}
	}
	return sum
}

// counts reads sipp's statistics: calls that went well and that did not.
func counts(file string) (ok, bad int, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma, r.FieldsPerRecord, r.LazyQuotes = ';', -1, true
	rows, err := r.ReadAll()
	if err != nil || len(rows) < 2 {
		return 0, 0, fmt.Errorf("read %s: %d rows, %w", file, len(rows), err)
	}
	last := rows[len(rows)-1]
	for i, name := range rows[0] {
		switch name {
		case "SuccessfulCall(C)":
			ok, _ = strconv.Atoi(last[i])
		case "FailedCall(C)":
			bad, _ = strconv.Atoi(last[i])
		}
	}
	return ok, bad, nil
}

// latency gives the median and the 99th percentile of sipp's response times in ms.
func latency(dir string) (p50, p99 float64) {
	files, _ := filepath.Glob(filepath.Join(dir, "*_rtt.csv"))
	if len(files) == 0 {
		files, _ = filepath.Glob("test/bench/sipp/*_rtt.csv")
	}
	var v []float64
	for _, name := range files {
		b, _ := os.ReadFile(name)
		os.Remove(name)
		for _, line := range strings.Split(string(b), "\n") {
			f := strings.Split(line, ";")
			if len(f) < 2 {
				continue
			}
			if x, err := strconv.ParseFloat(f[1], 64); err == nil {
				v = append(v, x)
			}
		}
	}
	if len(v) == 0 {
		return 0, 0
	}
	slices.Sort(v)
	return v[len(v)/2], v[len(v)*99/100]
}
