package listen

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"fernamt/wire/ports"
)

// Process holds a socket.
type Process struct {
	PID  int    // 0: not to be seen from here
	Name string // as the kernel knows it
	UID  int    // whose it is
}

// String names the process as errors do: "kamailio (pid 812)".
func (p Process) String() string {
	if p == (Process{}) {
		return "another process"
	}
	if p.PID == 0 {
		return fmt.Sprintf("a process of user id %d", p.UID)
	}
	return fmt.Sprintf("%s (pid %d)", p.Name, p.PID)
}

// States of a socket as /proc/net writes them: the TCP numbers of the kernel, used for UDP too.
const (
	stateEstablished = 0x01
	stateUnconnected = 0x07 // UDP without a peer
	stateListening   = 0x0a
)

// kernelSocket is a line of /proc/net/tcp and its like.
type kernelSocket struct {
	transport     ports.Transport
	local, remote netip.AddrPort
	state, uid    int
	inode         uint64
}

// kernelSockets reads the tables of this network namespace. A missing one (no IPv6) is empty.
func kernelSockets(ts ...ports.Transport) ([]kernelSocket, error) {
	var all []kernelSocket
	for _, t := range ts {
		for _, six := range []string{"", "6"} {
			f, err := os.Open("/proc/net/" + t.String() + six)
			if errors.Is(err, os.ErrNotExist) && six != "" {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("read the kernel's sockets: %w", err)
			}
			lines := bufio.NewScanner(f)
			lines.Scan() // the heading
			for lines.Scan() {
				if s, ok := parseSocket(lines.Text()); ok {
					s.transport = t
					all = append(all, s)
				}
			}
			f.Close()
			if err := lines.Err(); err != nil {
				return nil, fmt.Errorf("read the kernel's sockets: %w", err)
			}
		}
	}
	return all, nil
}

// parseSocket reads "sl: local remote state tx:rx tr:when retransmits uid timeout inode …".
func parseSocket(line string) (s kernelSocket, ok bool) {
	f := strings.Fields(line)
	if len(f) < 10 {
		return s, false
	}
	state, err1 := strconv.ParseUint(f[3], 16, 8)
	uid, err2 := strconv.Atoi(f[7])
	inode, err3 := strconv.ParseUint(f[9], 10, 64)
	local, err4 := parseAddress(f[1])
	remote, err5 := parseAddress(f[2])
	return kernelSocket{0, local, remote, int(state), uid, inode}, errors.Join(err1, err2, err3, err4, err5) == nil
}

// parseAddress reads "0100007F:13C4": 32-bit words in the machine's own order, the number as one writes it.
func parseAddress(s string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	b, err := hex.DecodeString(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for i := 0; i+4 <= len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("address of %d octets", len(b))
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

// inodes are the sockets that a process has open.
func inodes(pid int) (map[uint64]bool, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	fds, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the files of process %d: %w", pid, err)
	}
	have := map[uint64]bool{}
	for _, fd := range fds {
		to, err := os.Readlink(filepath.Join(dir, fd.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		if n, ok := strings.CutPrefix(to, "socket:["); ok {
			if inode, err := strconv.ParseUint(strings.TrimSuffix(n, "]"), 10, 64); err == nil {
				have[inode] = true
			}
		}
	}
	return have, nil
}

// Holder finds who listens there, or at the same number in a way that is in the way.
func (kernel) Holder(t ports.Transport, at netip.AddrPort) (Process, error) {
	all, err := kernelSockets(t)
	if err != nil {
		return Process{}, err
	}
	for _, s := range all {
		waiting := s.state == stateListening || t == ports.UDP
		if waiting && s.local.Port() == at.Port() && overlap(s.local.Addr(), at.Addr()) {
			return holderOf(s), nil
		}
	}
	return Process{}, errors.New("nobody is seen there")
}

// overlap says whether one socket's address stands in the way of the other's.
func overlap(a, b netip.Addr) bool {
	if a == b {
		return true
	}
	// [::] often takes the IPv4 number too.
	return a == netip.IPv6Unspecified() || a.IsUnspecified() && a.Is4() == b.Is4() || b.IsUnspecified() && a.Is4() == b.Is4()
}

// holderOf looks through the processes that this user may see.
func holderOf(s kernelSocket) Process {
	dirs, _ := os.ReadDir("/proc")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(dir.Name())
		if err != nil {
			continue
		}
		if have, err := inodes(pid); err == nil && have[s.inode] {
			comm, _ := os.ReadFile(filepath.Join("/proc", dir.Name(), "comm"))
			return Process{pid, strings.TrimSpace(string(comm)), s.uid}
		}
	}
	return Process{UID: s.uid}
}
