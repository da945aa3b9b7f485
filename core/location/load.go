package location

import (
	"encoding/binary"
	"hash/crc32"
	"hash/maphash"
	"time"

	"fernamt/wire/sip"
)

// loader plays a journal into an empty table.
type loader struct {
	t       *Table
	at      map[uint64]uint32 // id → index in the shard that the id names
	boot    string
	up      time.Duration
	wall    time.Time
	passed  int64 // ns since the last time record
	timed   bool  // a time record was seen
	damaged int   // records skipped
	torn    int   // octets at the end that are no record
}

// load reads records; where one is damaged it looks for the next mark.
func (l *loader) load(b []byte) {
	bad := -1 // where the present stretch of damage begins
	for i := 0; i < len(b); {
		n := l.check(b[i:])
		if n == 0 {
			if bad < 0 {
				bad = i
			}
			i++
			continue
		}
		if bad >= 0 {
			l.damaged++
			bad = -1
		}
		l.play(b[i+2], b[i+recHead:i+n-recTail])
		i += n
	}
	if bad >= 0 {
		l.torn = len(b) - bad
	}
}

// check gives the length of the whole and right record at the start of b, or 0.
func (l *loader) check(b []byte) int {
	if len(b) < recHead+recTail || b[0] != recMark[0] || b[1] != recMark[1] {
		return 0
	}
	n := recHead + int(binary.LittleEndian.Uint16(b[3:])) + recTail
	if len(b) < n || crc32.Checksum(b[2:n-recTail], castagnoli) != binary.LittleEndian.Uint32(b[n-recTail:]) {
		return 0
	}
	return n
}

func (l *loader) play(kind byte, p []byte) {
	switch {
	case kind == recTime && len(p) >= 16:
		l.setTime(p)
	case kind == recWhole && len(p) >= wholeHead && l.timed:
		l.whole(p)
	case kind == recTouch && len(p) >= 20 && l.timed:
		id := binary.LittleEndian.Uint64(p)
		if i, ok := l.at[id]; ok {
			r := l.t.shards[id%shardCount].at(i)
			r.expires = l.deadline(p[8:])
			r.cseq = binary.LittleEndian.Uint32(p[16:])
			r.setCallID(p[20:])
		}
	case kind == recGone && len(p) == 8:
		l.drop(binary.LittleEndian.Uint64(p))
	default:
		l.damaged++
	}
}

func (l *loader) setTime(p []byte) {
	up, wall := time.Duration(binary.LittleEndian.Uint64(p)), time.Unix(0, int64(binary.LittleEndian.Uint64(p[8:])))
	passed := l.wall.Sub(wall)
	if l.boot != "" && string(p[16:]) == l.boot {
		passed = l.up - up
	}
	l.passed, l.timed = int64(max(passed, 0)), true
}

// deadline turns the time left at the last time record into one of this process.
func (l *loader) deadline(p []byte) int64 {
	return l.t.now() + int64(binary.LittleEndian.Uint64(p)) - l.passed
}

func (l *loader) drop(id uint64) {
	if i, ok := l.at[id]; ok {
		l.t.shards[id%shardCount].dropLocked(i)
		l.t.count.Add(-1)
		delete(l.at, id)
	}
}

func (l *loader) whole(p []byte) {
	id := binary.LittleEndian.Uint64(p)
	var n record
	n.id = id
	n.expires = l.deadline(p[8:])
	n.updated = l.t.now() - l.passed - int64(binary.LittleEndian.Uint64(p[16:]))
	n.cseq = binary.LittleEndian.Uint32(p[24:])
	n.regID = binary.LittleEndian.Uint32(p[28:])
	n.q = binary.LittleEndian.Uint16(p[32:])
	n.over = sip.Transport(p[34])
	n.flags = p[35]&external | used
	n.flow.Remote = addrOf(p[36:])
	blob := p[wholeHead:]
	last := uint16(0)
	for k := range n.ends {
		n.ends[k] = binary.LittleEndian.Uint16(p[54+2*k:])
		if n.ends[k] < last || int(n.ends[k]) > len(blob) {
			l.damaged++
			return
		}
		last = n.ends[k]
	}
	n.blob = append([]byte(nil), blob...)
	if shardNumber(n.aor()) != id%shardCount {
		l.damaged++
		return
	}
	l.drop(id) // a later whole one of the same binding
	s := &l.t.shards[id%shardCount]
	n.hash = maphash.Bytes(l.t.seed, n.aor())
	i, r := s.takeLocked()
	*r = n
	s.linkLocked(i, r)
	l.at[id] = i
	l.t.count.Add(1)
	if next := id >> 6; next > l.t.nextID.Load() {
		l.t.nextID.Store(next)
	}
}

// dropUnreachable ends the bindings whose connection died with the old process,
// and those that ran out meanwhile.
func (l *loader) dropUnreachable() {
	now := l.t.now()
	for id, i := range l.at {
		r := l.t.shards[id%shardCount].at(i)
		if r.expires <= now || !reachable(r) {
			l.drop(id)
		}
	}
}
