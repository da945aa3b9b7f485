package location

import (
	"bytes"
	"sync"

	"fernamt/wire/sip"
)

const (
	chunkLen = 64      // records per chunk of a slab
	maxText  = 8 << 10 // octets of contact, and of all else; ends are 16 bits wide
)

// record is one binding. Text order in blob: aor, contact, params, path, agent,
// epid, call-id. All but the call-id never change once the blob is made, so
// that a Binding may point into it; the call-id is rewritten in place.
type record struct {
	flow    sip.Flow
	blob    []byte
	hash    uint64
	id      uint64
	expires int64
	updated int64
	next    uint32 // next binding of the same hash, index+1
	onFlow  uint32 // next binding of the same connection, index+1
	cseq    uint32
	regID   uint32
	q       uint16
	ends    [6]uint16 // where each text but the call-id ends
	over    sip.Transport
	flags   uint8
}

const (
	used     = 1 << iota
	dirty    // in the shard's list of changes
	whole    // the journal does not know its present text
	external // came in from outside
)

func (r *record) text(i int) []byte {
	from := uint16(0)
	if i > 0 {
		from = r.ends[i-1]
	}
	return r.blob[from:r.ends[i]:r.ends[i]]
}

func (r *record) aor() []byte     { return r.text(0) }
func (r *record) contact() []byte { return r.text(1) }
func (r *record) params() []byte  { return r.text(2) }
func (r *record) path() []byte    { return r.text(3) }
func (r *record) agent() []byte   { return r.text(4) }
func (r *record) epid() []byte    { return r.text(5) }
func (r *record) callID() []byte  { return r.blob[r.ends[5]:] }

// setText makes a new blob. The old one stays with those who point into it.
func (r *record) setText(texts *[6][]byte, callID []byte) {
	n := len(callID)
	for _, s := range texts {
		n += len(s)
	}
	b := append([]byte(nil), make([]byte, n)...)[:0] // room up to the size class, for a longer call-id
	for i, s := range texts {
		b = append(b, s...)
		r.ends[i] = uint16(len(b))
	}
	r.blob = append(b, callID...)
}

// setCallID writes over the old one; only a longer one than ever makes a new blob.
func (r *record) setCallID(id []byte) {
	fixed := int(r.ends[5])
	if fixed+len(id) > cap(r.blob) {
		b := make([]byte, fixed, fixed+len(id)+8)
		copy(b, r.blob)
		r.blob = b
	}
	r.blob = append(r.blob[:fixed], id...)
}

func (r *record) binding() Binding {
	return Binding{
		ID: r.id, AOR: r.aor(), Contact: r.contact(), Params: r.params(), Path: r.path(),
		Agent: r.agent(), Epid: r.epid(), Flow: r.flow, Over: r.over, Q: int(r.q), RegID: r.regID,
		Expires: r.expires, Updated: r.updated, External: r.flags&external != 0,
	}
}

// shard is one part of the table; mu guards all of it.
type shard struct {
	mu     sync.Mutex
	number uint8
	index  map[uint64]uint32 // hash of the address → first record, index+1
	flows  map[uint64]uint32 // connection → first record, index+1
	chunks []*[chunkLen]record
	free   uint32 // first free record, index+1, chained by next
	dirty  []uint32
	gone   []uint64 // IDs whose end the journal does not know
	keep   bool     // there is a journal: note changes
}

func (s *shard) init(n uint8) {
	s.number, s.index, s.flows = n, map[uint64]uint32{}, map[uint64]uint32{}
}

func (s *shard) at(i uint32) *record { return &s.chunks[(i-1)/chunkLen][(i-1)%chunkLen] }

func (s *shard) takeLocked() (uint32, *record) {
	if s.free == 0 {
		base := uint32(len(s.chunks) * chunkLen)
		s.chunks = append(s.chunks, new([chunkLen]record))
		for i := uint32(chunkLen); i > 0; i-- {
			s.at(base + i).next = s.free
			s.free = base + i
		}
	}
	i := s.free
	r := s.at(i)
	s.free = r.next
	*r = record{flags: used}
	return i, r
}

// linkLocked enters record i, whose hash is set, into the index.
func (s *shard) linkLocked(i uint32, r *record) {
	r.next = s.index[r.hash]
	s.index[r.hash] = i
}

// setFlowLocked moves record i to another flow and keeps the list by connection.
func (s *shard) setFlowLocked(i uint32, r *record, c *Contact) {
	f := c.Flow
	if r.flow.Link == f.Link && f.Link != nil {
		r.flow = f
		return
	}
	s.leaveFlowLocked(i, r)
	r.flow = f
	if f.Link == nil {
		r.over = c.Over
		return
	}
	info := f.Link.Info()
	r.over = info.Transport
	r.flags &^= external
	if info.External {
		r.flags |= external
	}
	if info.Transport != sip.UDP {
		r.onFlow = s.flows[info.ID]
		s.flows[info.ID] = i
	}
}

func (s *shard) leaveFlowLocked(i uint32, r *record) {
	if r.flow.Link == nil || r.over == sip.UDP {
		return
	}
	id := r.flow.Link.Info().ID
	if s.flows[id] == i {
		if r.onFlow == 0 {
			delete(s.flows, id)
		} else {
			s.flows[id] = r.onFlow
		}
	} else {
		for j := s.flows[id]; j != 0; j = s.at(j).onFlow {
			if s.at(j).onFlow == i {
				s.at(j).onFlow = r.onFlow
				break
			}
		}
	}
	r.onFlow = 0
}

// dropLocked takes record i out of everything and gives it back.
func (s *shard) dropLocked(i uint32) {
	r := s.at(i)
	s.leaveFlowLocked(i, r)
	if s.index[r.hash] == i {
		if r.next == 0 {
			delete(s.index, r.hash)
		} else {
			s.index[r.hash] = r.next
		}
	} else {
		for j := s.index[r.hash]; j != 0; j = s.at(j).next {
			if s.at(j).next == i {
				s.at(j).next = r.next
				break
			}
		}
	}
	if s.keep {
		s.gone = append(s.gone, r.id)
	}
	*r = record{next: s.free} // a stale entry in dirty finds flags 0
	s.free = i
}

// touchLocked notes that the journal is behind on record i.
func (s *shard) touchLocked(i uint32, r *record, flags uint8) {
	if !s.keep {
		return
	}
	if r.flags&dirty == 0 {
		s.dirty = append(s.dirty, i)
	}
	r.flags |= dirty | flags
}

// eachLocked calls f for each record of the address; f may drop the one it is given.
func (s *shard) eachLocked(h uint64, aor []byte, f func(i uint32, r *record)) {
	for i := s.index[h]; i != 0; {
		r := s.at(i)
		next := r.next
		if bytes.Equal(r.aor(), aor) {
			f(i, r)
		}
		i = next
	}
}
