package transaction

import (
	"hash/maphash"

	"fernamt/wire/sip"
)

// Forward sends response m over server transaction s: the proxy's way back. It
// leaves no garbage.
func (l *Layer) Forward(s *Server, m *sip.Message, code int) error {
	p := s.pool()
	b := m.AppendTo(p.get(len(m.Bytes()) + 64))
	err := s.Send(b, code)
	p.put(b)
	return err
}

// Pass sends request m over f with a Via of ours and no transaction: an ACK for a
// 2xx. The branch is the same each time the same ACK comes (RFC 3261 §16.11).
func (l *Layer) Pass(m *sip.Message, f sip.Flow) error {
	var h maphash.Hash
	h.SetSeed(l.seed[0])
	write(&h, m.CallID())
	write(&h, m.FromTag())
	write(&h, m.ToTag())
	write(&h, m.Get(sip.HCSeq))
	if via, err := m.Via(); err == nil {
		write(&h, via.Branch)
	}
	var buf [192]byte
	v := append(buf[:0], "SIP/2.0/"...)
	t := f.Link.Info().Transport
	v = append(append(v, t.String()...), ' ')
	v = append(l.sentBy(v, f), ";branch="...)
	v = append(append(v, sip.MagicCookie...), 'a')
	v = appendHex(v, h.Sum64(), 16)
	m.Prepend(sip.HVia, appendWay(v, f))
	p := &l.bufs[h.Sum64()%shards]
	b := m.AppendTo(p.get(len(m.Bytes()) + 640))
	err := l.transmit(f, b)
	p.put(b)
	return err
}
