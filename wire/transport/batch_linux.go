package transport

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"fernamt/wire/clock"
)

const (
	arenaSize  = batchSize * 2048
	socketRoom = 4 << 20
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// batch moves many datagrams per system call: recvmmsg and sendmmsg without blocking, the netpoller when dry.
type batch struct {
	s    *socket
	raw  syscall.RawConn
	inet bool // an AF_INET socket; else AF_INET6

	// The reader's own.
	in     [batchSize]mmsghdr
	inIov  [batchSize]unix.Iovec
	inAddr [batchSize]unix.RawSockaddrInet6
	room   []byte
	stride int
	got    int
	inErr  syscall.Errno
	recv   func(fd uintptr) bool
	wait   bool // recv may wait for the netpoller

	mu      sync.Mutex // guards all below
	open    bool       // the reader is inside a batch
	n, used int
	out     [batchSize]mmsghdr
	outIov  [batchSize]unix.Iovec
	outAddr [batchSize]unix.RawSockaddrInet6
	arena   [arenaSize]byte
	done    int
	outErr  syscall.Errno
	flushFD func(fd uintptr) bool
}

// openBatch readies u for batches and gives it 4 MiB buffers, as far as the kernel lets us.
func (s *socket) openBatch(u *net.UDPConn) error {
	raw, err := u.SyscallConn()
	if err != nil {
		return fmt.Errorf("raw socket: %w", err)
	}
	b := &batch{s: s, raw: raw}
	err = raw.Control(func(fd uintptr) {
		domain, e := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		b.inet = e == nil && domain == unix.AF_INET
		if !b.inet {
			only, e := unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
			s.v4 = e == nil && only == 0 && s.v4
		}
		for _, o := range [][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, o[0], socketRoom) != nil {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, o[1], socketRoom)
			}
		}
	})
	if err != nil {
		return fmt.Errorf("raw socket: %w", err)
	}
	size := s.l.c.Limits.Datagram
	// An odd number of cache lines apart, so that the slots' first lines do not share one cache set.
	b.stride = (size+spare+127)/128*128 + 64
	b.room = make([]byte, b.stride*batchSize)
	for i := range batchSize {
		b.inIov[i].Base = &b.room[i*b.stride]
		b.inIov[i].SetLen(size)
		b.wire(&b.in[i], &b.inIov[i], &b.inAddr[i])
		b.wire(&b.out[i], &b.outIov[i], &b.outAddr[i])
	}
	b.recv, b.flushFD = b.receive, b.transmit
	s.batch = b
	return nil
}

func (b *batch) wire(m *mmsghdr, iov *unix.Iovec, addr *unix.RawSockaddrInet6) {
	m.hdr.Name = (*byte)(unsafe.Pointer(addr))
	m.hdr.Namelen = unix.SizeofSockaddrInet6
	m.hdr.Iov = iov
	m.hdr.SetIovlen(1)
}

// receive is one recvmmsg on fd; false lets the netpoller wait.
func (b *batch) receive(fd uintptr) bool {
	for {
		n, _, e := syscall.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.in[0])), batchSize,
			unix.MSG_DONTWAIT, 0, 0)
		if e == unix.EINTR {
			continue
		}
		b.got, b.inErr = int(n), e
		if e != 0 {
			b.got = 0
		}
		return e != unix.EAGAIN || !b.wait
	}
}

// readBatches receives until the socket ends.
func (s *socket) readBatches() error {
	b := s.batch
	p := pacer{pause: s.l.c.Pace}
	for {
		b.wait = !p.dense
		err := b.raw.Read(b.recv)
		if s.gone.Load() {
			return nil
		}
		if err != nil {
			return err
		}
		now := clock.Mono()
		if b.got > 0 {
			b.handle(now)
		} else if b.inErr != 0 && b.inErr != unix.EAGAIN && !passing(b.inErr) {
			return b.inErr
		}
		if p.pause > 0 {
			p.pace(b.got, now)
		}
	}
}

// passing says that an error belongs to one datagram, not to the socket.
func passing(e syscall.Errno) bool {
	switch e {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EMSGSIZE, unix.EPERM, unix.EPROTO, unix.ENOBUFS,
		unix.ENOMEM, unix.EHOSTDOWN, unix.ENETDOWN:
		return true
	}
	return false
}

// handle delivers one batch and then sends what that made.
func (b *batch) handle(now int64) {
	b.mu.Lock()
	b.open = true
	b.mu.Unlock()
	for i := range b.got {
		m := &b.in[i]
		at := i * b.stride
		d := b.room[at : at+int(m.n) : at+b.stride]
		b.s.datagram(d, b.from(i), m.hdr.Flags&unix.MSG_TRUNC == 0, now)
		m.hdr.Namelen, m.hdr.Flags = unix.SizeofSockaddrInet6, 0
	}
	b.s.counted()
	b.mu.Lock()
	b.open = false
	b.flushLocked()
	b.mu.Unlock()
}

// take queues a datagram if the reader is inside a batch.
func (b *batch) take(to netip.AddrPort, d []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return false
	}
	if b.n == batchSize || b.used+len(d) > arenaSize {
		b.flushLocked()
	}
	if len(d) > arenaSize || len(d) == 0 || !b.addressLocked(to) {
		return false
	}
	copy(b.arena[b.used:], d)
	b.outIov[b.n].Base = &b.arena[b.used]
	b.outIov[b.n].SetLen(len(d))
	b.used += len(d)
	b.n++
	return true
}

// flushLocked sends what is queued. One refused datagram does not stop the rest.
func (b *batch) flushLocked() {
	if b.n == 0 {
		return
	}
	b.done = 0
	for tries := 0; b.done < b.n; {
		if err := b.raw.Write(b.flushFD); err != nil {
			break
		}
		if b.done == b.n {
			break
		}
		if b.outErr == unix.EAGAIN || b.outErr == unix.ENOBUFS {
			// The network is slower than we are. Wait a little, then let the rest go: UDP may lose.
			if tries++; tries > 5 {
				break
			}
			time.Sleep(time.Millisecond)
			continue
		}
		b.s.l.count.refused.Add(1)
		b.done++
	}
	b.s.l.count.refused.Add(uint64(b.n - b.done))
	b.n, b.used = 0, 0
}

// transmit sends from the done-th datagram on until all are out or one is refused.
func (b *batch) transmit(fd uintptr) bool {
	for b.done < b.n {
		n, _, e := syscall.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.out[b.done])),
			uintptr(b.n-b.done), unix.MSG_DONTWAIT, 0, 0)
		if e == unix.EINTR {
			continue
		}
		if b.outErr = e; e != 0 {
			return true
		}
		b.done += int(n)
	}
	return true
}

// from reads the source of the i-th datagram.
func (b *batch) from(i int) netip.AddrPort {
	sa := &b.inAddr[i]
	port := ntohs(sa.Port)
	if sa.Family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr), port)
	}
	a := netip.AddrFrom16(sa.Addr).Unmap()
	if sa.Scope_id != 0 && a.IsLinkLocalUnicast() {
		a = a.WithZone(zone(sa.Scope_id))
	}
	return netip.AddrPortFrom(a, port)
}

// addressLocked writes the next datagram's address. An address that it cannot write goes the slow way.
func (b *batch) addressLocked(to netip.AddrPort) bool {
	a := to.Addr().Unmap()
	sa := &b.outAddr[b.n]
	if !a.IsValid() || a.Zone() != "" {
		return false
	}
	if b.inet {
		if !a.Is4() {
			return false
		}
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(sa)) = unix.RawSockaddrInet4{Family: unix.AF_INET,
			Port: ntohs(to.Port()), Addr: a.As4()}
		b.out[b.n].hdr.Namelen = unix.SizeofSockaddrInet4
		return true
	}
	*sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: ntohs(to.Port()), Addr: a.As16()}
	b.out[b.n].hdr.Namelen = unix.SizeofSockaddrInet6
	return true
}

func ntohs(v uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&v))
	return uint16(b[0])<<8 | uint16(b[1])
}

// zone names an interface by its index, which is a zone too (RFC 4007 §11.2).
func zone(index uint32) string { return strconv.FormatUint(uint64(index), 10) }

// nap sleeps d without the millisecond's grain of the netpoller.
func nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil) // woken early is no harm
}
