package location

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"fernamt/wire/clock"
	"fernamt/wire/sip"
)

// The journal is a row of records: two octets of mark, type, length (16 bits),
// payload, CRC-32C over type, length and payload. Each flush begins with the
// time, since what follows counts its seconds from there. A torn tail is cut; a
// damaged record in the middle is skipped, counted and reported.

const (
	journalName = "registrations.journal"
	recTime     = 1 // boot, up, wall
	recWhole    = 2 // a binding
	recTouch    = 3 // id, left, cseq, call-id
	recGone     = 4 // id
	recHead     = 5
	recTail     = 4
	compactAt   = 4 << 20 // octets that a journal may have however little it holds
)

var (
	recMark    = [2]byte{0xFA, 0x4A}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Clock tells time across a restart: which boot of the machine this is, how
// long it has been up, and the time of day.
type Clock func() (boot string, up time.Duration, wall time.Time)

func monotonic() int64 { return clock.Mono() }

// machineClock reads Linux's boot ID; elsewhere only the time of day is told.
func machineClock() (boot string, up time.Duration, wall time.Time) {
	wall = time.Now()
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", 0, wall
	}
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return "", 0, wall
	}
	first, _, _ := strings.Cut(string(text), " ")
	if up, err = time.ParseDuration(first + "s"); err != nil {
		return "", 0, wall
	}
	return strings.TrimSpace(string(id)), up, wall
}

type journal struct {
	path    string
	file    *os.File
	size    int64 // good octets
	stat    Clock
	rewrite bool // the file is not to be trusted: write all anew
	buf     []byte
}

func (t *Table) openJournal(dir string, stat Clock) error {
	if stat == nil {
		stat = machineClock
	}
	j := &journal{path: filepath.Join(dir, journalName), stat: stat}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	j.file = f
	b, err := os.ReadFile(j.path)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	j.size = int64(len(b))
	l := loader{t: t, at: map[uint64]uint32{}}
	l.boot, l.up, l.wall = stat()
	l.load(b)
	if l.damaged > 0 || l.torn > 0 {
		t.log.Warn("journal of registrations was damaged", "records", l.damaged, "tail", l.torn)
	}
	if l.torn > 0 {
		j.size -= int64(l.torn)
		if err := f.Truncate(j.size); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	j.rewrite = l.damaged > 0
	if _, err := f.Seek(j.size, 0); err != nil {
		return errors.Join(err, f.Close())
	}
	t.file = j
	for i := range t.shards {
		t.shards[i].keep = true
	}
	l.dropUnreachable()
	return nil
}

// Flush brings the journal up to date and to the disk. One caller at a time.
func (t *Table) Flush() error {
	j := t.file
	if j == nil {
		return nil
	}
	if j.rewrite || j.size > compactAt+int64(t.Count())*750 {
		return t.compact()
	}
	now := t.now()
	j.buf = j.buf[:0]
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		if len(s.dirty)+len(s.gone) > 0 && len(j.buf) == 0 {
			j.buf = j.appendTime(j.buf)
		}
		for _, k := range s.dirty {
			r := s.at(k)
			if r.flags&dirty == 0 {
				continue
			}
			if r.flags&whole != 0 {
				j.buf = appendWhole(j.buf, r, now)
			} else {
				j.buf = appendTouch(j.buf, r, now)
			}
			r.flags &^= dirty | whole
		}
		for _, id := range s.gone {
			at := len(j.buf)
			j.buf = binary.LittleEndian.AppendUint64(openRecord(j.buf, recGone), id)
			closeRecord(&j.buf, at)
		}
		s.dirty, s.gone = s.dirty[:0], s.gone[:0]
		s.mu.Unlock()
	}
	if len(j.buf) == 0 {
		return nil
	}
	if _, err := j.file.Write(j.buf); err != nil {
		return j.spoilt(err)
	}
	if err := datasync(j.file); err != nil {
		return j.spoilt(err)
	}
	j.size += int64(len(j.buf))
	return nil
}

// spoilt: what is in the file past size is unknown and the changes are off the
// lists, so the next flush writes all anew, into another file.
func (j *journal) spoilt(err error) error {
	j.rewrite = true
	return fmt.Errorf("write %s: %w", j.path, err)
}

// compact writes the live bindings to a new file and puts it in the old one's place.
func (t *Table) compact() error {
	j := t.file
	j.rewrite = true // until all of it is done
	now := t.now()
	b := j.appendTime(nil)
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for _, c := range s.chunks {
			for k := range c {
				if r := &c[k]; r.flags&used != 0 && r.expires > now {
					b = appendWhole(b, r, now)
					r.flags &^= dirty | whole
				}
			}
		}
		s.dirty, s.gone = s.dirty[:0], s.gone[:0]
		s.mu.Unlock()
	}
	next := j.path + ".new"
	f, err := os.OpenFile(next, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("compact registrations: %w", err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(next, j.path)
	}
	if err != nil {
		return fmt.Errorf("compact registrations: %w", errors.Join(err, f.Close()))
	}
	_ = j.file.Close() // nothing in it is needed any more
	j.file, j.size, j.rewrite = f, int64(len(b)), false
	if err := syncDir(filepath.Dir(j.path)); err != nil {
		return fmt.Errorf("compact registrations: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Close writes the last changes and closes the journal.
func (t *Table) Close() error {
	if t.file == nil {
		return nil
	}
	err := t.Flush()
	j := t.file
	t.file = nil
	return errors.Join(err, j.file.Close())
}

func openRecord(b []byte, kind byte) []byte {
	return append(b, recMark[0], recMark[1], kind, 0, 0)
}

func closeRecord(b *[]byte, at int) {
	r := (*b)[at:]
	binary.LittleEndian.PutUint16(r[3:], uint16(len(r)-recHead))
	*b = binary.LittleEndian.AppendUint32(*b, crc32.Checksum(r[2:], castagnoli))
}

func (j *journal) appendTime(b []byte) []byte {
	boot, up, wall := j.stat()
	at := len(b)
	b = openRecord(b, recTime)
	b = binary.LittleEndian.AppendUint64(b, uint64(up))
	b = binary.LittleEndian.AppendUint64(b, uint64(wall.UnixNano()))
	b = append(b, boot...)
	closeRecord(&b, at)
	return b
}

func appendWhole(b []byte, r *record, now int64) []byte {
	at := len(b)
	b = openRecord(b, recWhole)
	b = binary.LittleEndian.AppendUint64(b, r.id)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.expires-now))
	b = binary.LittleEndian.AppendUint64(b, uint64(now-r.updated))
	b = binary.LittleEndian.AppendUint32(b, r.cseq)
	b = binary.LittleEndian.AppendUint32(b, r.regID)
	b = binary.LittleEndian.AppendUint16(b, r.q)
	b = append(b, byte(r.over), r.flags&external)
	addr := r.flow.Remote.Addr().As16()
	b = append(b, addr[:]...)
	b = binary.LittleEndian.AppendUint16(b, r.flow.Remote.Port())
	for _, e := range r.ends {
		b = binary.LittleEndian.AppendUint16(b, e)
	}
	b = append(b, r.blob...)
	closeRecord(&b, at)
	return b
}

const wholeHead = 8*3 + 4*2 + 2 + 2 + 18 + 12 // what precedes the blob

func appendTouch(b []byte, r *record, now int64) []byte {
	at := len(b)
	b = openRecord(b, recTouch)
	b = binary.LittleEndian.AppendUint64(b, r.id)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.expires-now))
	b = binary.LittleEndian.AppendUint32(b, r.cseq)
	b = append(b, r.callID()...)
	closeRecord(&b, at)
	return b
}

func addrOf(b []byte) netip.AddrPort {
	ip := netip.AddrFrom16([16]byte(b[:16])).Unmap()
	if ip.IsUnspecified() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ip, binary.LittleEndian.Uint16(b[16:]))
}

// reachable says whether a binding still leads somewhere once every connection
// is gone: over UDP, over a path, or when the contact is where the peer listens
// and not the port that it happened to call from.
func reachable(r *record) bool {
	switch {
	case r.over == sip.UDP || len(r.path()) > 0:
		return true
	case r.over != sip.TCP && r.over != sip.TLS || r.regID != 0:
		return false
	}
	u, err := sip.ParseURI(r.contact())
	if err != nil {
		return false
	}
	if _, elsewhere := u.Param("maddr"); elsewhere {
		return false
	}
	ip, err := netip.ParseAddr(strings.Trim(string(u.Host), "[]"))
	return err == nil && ip.Unmap() == r.flow.Remote.Addr() && u.Port != r.flow.Remote.Port()
}
