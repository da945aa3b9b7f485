package location

import (
	"bytes"
	"strconv"
	"time"

	"fernamt/wire/sip"
)

// Contact is one Contact of a REGISTER.
type Contact struct {
	URI      []byte
	Params   []byte // header parameters with their leading semicolons, without expires and q
	Instance []byte // of Params, without quotes and brackets; nil if none
	RegID    uint32 // 0: none
	Q        int    // 0 to 1000
	Expires  int    // seconds; 0 removes
	// Flow is the way there: the connection that the REGISTER came over, on UDP the
	// address to send to. Without a Link the contact or the path is resolved anew
	// for every request, and Over says what the REGISTER came over.
	Flow sip.Flow
	Over sip.Transport
}

// Update is one REGISTER, already admitted and its numbers checked.
type Update struct {
	AOR      []byte
	CallID   []byte
	CSeq     uint32
	Contacts []Contact
	All      bool // Contact: *, removes all
	Path     []byte
	Agent    []byte
	Epid     []byte
	Now      int64 // monotonic ns
	Max      int   // bindings that the user may have
	Refuse   bool  // too many: ErrTooMany; else the longest unrefreshed ones go, if more than this REGISTER's are there
}

// Outcome counts what Register did.
type Outcome struct{ Added, Refreshed, Removed, Left int }

// Form says which GRUUs stand in the Contacts of the answer.
type Form uint8

// The forms of Contact in an answer; they may be joined.
const (
	GRUU Form = 1 << iota // pub-gruu and temp-gruu, RFC 5627 §5.3
	OC                    // gruu="…;opaque=user:epid:…;gruu", [MS-SIPREGE]
)

// Register carries out u as a whole or not at all and appends one Contact line
// per binding of the user to dst. The same Call-ID and CSeq again changes
// nothing. A refresh with unchanged texts allocates nothing.
func (t *Table) Register(u *Update, dst []byte, f Form) ([]byte, Outcome, error) {
	var out Outcome
	var gone, ended []Binding
	s, h := t.shardOf(u.AOR)
	s.mu.Lock()
	if i, r := s.onlyLocked(h, u); r != nil { // nearly always: the one phone again
		out.Left = 1
		if u.CSeq != r.cseq || !bytes.Equal(r.callID(), u.CallID) {
			if u.CSeq < r.cseq && bytes.Equal(r.callID(), u.CallID) {
				s.mu.Unlock()
				return dst, Outcome{}, ErrOrder
			}
			s.refreshLocked(i, r, u, &u.Contacts[0])
			out.Refreshed = 1
		}
		dst = t.appendContact(dst, r, u.Now, f)
		s.mu.Unlock()
		return dst, out, nil
	}
	s.eachLocked(h, u.AOR, func(i uint32, r *record) {
		if r.expires <= u.Now {
			ended = append(ended, r.binding())
			s.dropLocked(i)
		}
	})
	live, err := s.checkLocked(u, h)
	if err == nil {
		if u.All {
			s.eachLocked(h, u.AOR, func(i uint32, r *record) {
				if r.cseq != u.CSeq || !bytes.Equal(r.callID(), u.CallID) {
					s.dropLocked(i)
					out.Removed++
				}
			})
		}
		for k := range u.Contacts {
			t.applyLocked(s, h, u, &u.Contacts[k], &out)
		}
		if over := live + out.Added - out.Removed - u.Max; over > 0 && out.Added > 0 {
			gone = s.evictLocked(h, u, over)
		}
	}
	if err == nil {
		s.eachLocked(h, u.AOR, func(_ uint32, r *record) {
			dst = t.appendContact(dst, r, u.Now, f)
			out.Left++
		})
	}
	s.mu.Unlock()
	t.count.Add(int64(out.Added - out.Removed - len(gone) - len(ended)))
	t.tell(gone, Replaced)
	t.tell(ended, Expired)
	return dst, out, err
}

// onlyLocked gives the record that u refreshes when it is all the person has and the
// contact is written as before.
func (s *shard) onlyLocked(h uint64, u *Update) (uint32, *record) {
	i := s.index[h]
	if i == 0 || len(u.Contacts) != 1 || u.All {
		return 0, nil
	}
	r, c := s.at(i), &u.Contacts[0]
	if r.next != 0 || c.Expires == 0 || r.expires <= u.Now || r.regID != c.RegID ||
		len(u.CallID)+len(u.Path)+len(u.Agent)+len(u.Epid) > maxText ||
		!bytes.Equal(r.aor(), u.AOR) || !bytes.Equal(r.contact(), c.URI) || !bytes.Equal(r.params(), c.Params) {
		return 0, nil
	}
	return i, r
}

// checkLocked drops what has expired, counts the rest and looks for anything
// that forbids the update as a whole.
func (s *shard) checkLocked(u *Update, h uint64) (live int, err error) {
	adds, again := 0, 0
	if len(u.AOR)+len(u.CallID)+len(u.Path)+len(u.Agent)+len(u.Epid) > maxText {
		return 0, ErrTooLong
	}
	for i := s.index[h]; i != 0; i = s.at(i).next {
		r := s.at(i)
		if !bytes.Equal(r.aor(), u.AOR) {
			continue
		}
		live++
		// RFC 3261 §10.3 steps 6 and 7
		if u.All && u.CSeq < r.cseq && bytes.Equal(r.callID(), u.CallID) {
			return live, ErrOrder
		}
	}
	for k := range u.Contacts {
		c := &u.Contacts[k]
		if len(c.URI)+len(c.Params) > maxText {
			return live, ErrTooLong
		}
		i := s.findLocked(h, u.AOR, c)
		if i == 0 {
			if c.Expires > 0 {
				adds++
			}
			continue
		}
		if r := s.at(i); u.CSeq < r.cseq && bytes.Equal(r.callID(), u.CallID) {
			return live, ErrOrder
		}
		if c.Expires > 0 {
			again++
		}
	}
	// Of one REGISTER none gives way to another.
	if adds > 0 && (adds+again > u.Max || u.Refuse && live+adds > u.Max) {
		return live, ErrTooMany
	}
	return live, nil
}

// findLocked gives the binding that a Contact means: by instance and reg-id
// (RFC 5626 §6), else by comparing URIs (RFC 3261 §19.1.4).
func (s *shard) findLocked(h uint64, aor []byte, c *Contact) uint32 {
	for i := s.index[h]; i != 0; i = s.at(i).next {
		r := s.at(i)
		if !bytes.Equal(r.aor(), aor) {
			continue
		}
		if c.RegID != 0 && c.Instance != nil {
			if r.regID == c.RegID && bytes.Equal(instanceOf(r.params()), c.Instance) {
				return i
			}
		} else if sameURI(r.contact(), c.URI) {
			return i
		}
	}
	return 0
}

func sameURI(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	ua, err := sip.ParseURI(a)
	if err != nil {
		return false
	}
	ub, err := sip.ParseURI(b)
	return err == nil && ua.Equal(ub)
}

func (t *Table) applyLocked(s *shard, h uint64, u *Update, c *Contact, out *Outcome) {
	i := s.findLocked(h, u.AOR, c)
	if i != 0 {
		r := s.at(i)
		if r.cseq == u.CSeq && bytes.Equal(r.callID(), u.CallID) {
			return // sent again, RFC 3261 §10.3: idempotent
		}
		if c.Expires == 0 {
			s.dropLocked(i)
			out.Removed++
			return
		}
		s.refreshLocked(i, r, u, c)
		out.Refreshed++
		return
	}
	if c.Expires == 0 {
		return
	}
	// An endpoint that started anew (other Call-ID) and does not number its
	// flows leaves its old address behind: it cannot be there any more.
	if c.Instance != nil && c.RegID == 0 {
		s.eachLocked(h, u.AOR, func(i uint32, r *record) {
			if r.regID == 0 && bytes.Equal(instanceOf(r.params()), c.Instance) && !bytes.Equal(r.callID(), u.CallID) {
				s.dropLocked(i)
				out.Removed++
			}
		})
	}
	i, r := s.takeLocked()
	r.hash, r.id = h, t.nextID.Add(1)<<6|uint64(s.number)
	r.setText(&[6][]byte{u.AOR, c.URI, c.Params, u.Path, u.Agent, u.Epid}, u.CallID)
	s.linkLocked(i, r)
	s.refreshLocked(i, r, u, c)
	s.touchLocked(i, r, whole)
	out.Added++
}

// refreshLocked gives record i the times, the flow and, where they differ, the texts of u.
func (s *shard) refreshLocked(i uint32, r *record, u *Update, c *Contact) {
	flags := uint8(0)
	if r.flow != c.Flow || r.q != uint16(c.Q) || r.regID != c.RegID {
		flags = whole
	}
	if !bytes.Equal(r.contact(), c.URI) || !bytes.Equal(r.params(), c.Params) || !bytes.Equal(r.path(), u.Path) ||
		!bytes.Equal(r.agent(), u.Agent) || !bytes.Equal(r.epid(), u.Epid) {
		r.setText(&[6][]byte{u.AOR, c.URI, c.Params, u.Path, u.Agent, u.Epid}, u.CallID)
		flags = whole
	} else {
		r.setCallID(u.CallID)
	}
	s.setFlowLocked(i, r, c)
	r.cseq, r.q, r.regID = u.CSeq, uint16(c.Q), c.RegID
	r.updated = u.Now
	r.expires = u.Now + int64(c.Expires)*int64(time.Second)
	s.touchLocked(i, r, flags)
}

// evictLocked drops the n bindings that were refreshed longest ago, but none that u
// itself brings.
func (s *shard) evictLocked(h uint64, u *Update, n int) (gone []Binding) {
	for ; n > 0; n-- {
		oldest := uint32(0)
		s.eachLocked(h, u.AOR, func(i uint32, r *record) {
			if ours := r.cseq == u.CSeq && bytes.Equal(r.callID(), u.CallID); !ours && (oldest == 0 || r.updated < s.at(oldest).updated) {
				oldest = i
			}
		})
		if oldest == 0 {
			break
		}
		gone = append(gone, s.at(oldest).binding())
		s.dropLocked(oldest)
	}
	return gone
}

// appendContact writes one Contact line, as RFC 3261 §10.3 step 8 asks.
func (t *Table) appendContact(dst []byte, r *record, now int64, f Form) []byte {
	dst = append(dst, "Contact: <"...)
	dst = append(dst, r.contact()...)
	dst = append(dst, ">;expires="...)
	left := (r.expires - now + int64(time.Second) - 1) / int64(time.Second)
	dst = strconv.AppendInt(dst, max(left, 0), 10)
	if r.q != 1000 {
		dst = appendQ(append(dst, ";q="...), int(r.q))
	}
	dst = append(dst, r.params()...)
	if f != 0 {
		dst = t.appendGRUU(dst, r, f)
	}
	return append(dst, "\r\n"...)
}

func appendQ(dst []byte, q int) []byte {
	return append(dst, '0', '.', byte('0'+q/100), byte('0'+q/10%10), byte('0'+q%10))
}

func (t *Table) tell(gone []Binding, why Reason) {
	f := t.gone.Load()
	if f == nil {
		return
	}
	for _, b := range gone {
		(*f)(b, why)
	}
}
