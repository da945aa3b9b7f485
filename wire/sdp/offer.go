package sdp

import (
	"errors"
	"net/netip"
	"strconv"
)

// Session is what one side can do: offers and answers are made of it.
type Session struct {
	Address netip.Addr // where media is to be sent
	ID      uint64     // of the o= line; the version begins with the same number
	Version uint64     //
	Media   []Stream   // in the order of an offer
}

// Stream is one media that a side can do.
type Stream struct {
	Kind      string
	Port      uint16
	Proto     string // of an offer; an answer takes the offer's. "" is RTP/AVP
	Codecs    []Codec
	Formats   []string  // of a media that is not RTP
	Direction Direction // what this side is willing to do
	Extra     []Line    // lines to add, in an offer and in an answer
}

// Offer writes the offer of s. RFC 3264 §5
func (s Session) Offer() *Description {
	d := s.head()
	for _, st := range s.Media {
		m := Media{Kind: st.Kind, Port: st.Port, Proto: st.Proto, Formats: append([]string(nil), st.Formats...)}
		if m.Proto == "" {
			m.Proto = "RTP/AVP"
		}
		m.fill(st.Codecs, st.Direction, st.Extra)
		d.Media = append(d.Media, m)
	}
	return d
}

func (s Session) head() *Description {
	family := "IP4"
	if s.Address.Is6() && !s.Address.Is4In6() {
		family = "IP6"
	}
	addr := s.Address.Unmap().String()
	d := &Description{Session: []Line{{'v', "0"}, {'o', ""}, {'s', "-"}, {'c', "IN " + family + " " + addr}, {'t', "0 0"}}}
	d.SetOrigin(Origin{"-", s.ID, max(s.Version, s.ID), "IN", family, addr})
	return d
}

func (m *Media) fill(cs []Codec, dir Direction, extra []Line) {
	for _, c := range cs {
		m.Formats = append(m.Formats, strconv.Itoa(int(c.Payload)))
		m.Lines = append(m.Lines, c.lines()...)
	}
	m.Lines = append(m.Lines, extra...)
	if m.RTP() {
		m.Lines = append(m.Lines, Line{'a', dir.String()})
	}
}

// ErrNothingShared says that no media of an offer can be taken: a caller is told 488.
var ErrNothingShared = errors.New("sdp: no media in common")

// Answer works out the answer of s to an offer: one m= line for each of the offer's, in its
// order, port 0 where the media is refused. RFC 3264 §6
func (s Session) Answer(offer *Description) (*Description, error) {
	d := s.head()
	used := make([]bool, len(s.Media))
	taken := 0
	for i := range offer.Media {
		m, ok := s.answerMedia(offer, i, used)
		if ok {
			taken++
		}
		d.Media = append(d.Media, m)
	}
	if v, ok := first(offer.Session, 't'); ok { // RFC 3264 §6: t= equals the offer's
		d.Session[4].Value = v
	}
	if taken == 0 && len(offer.Media) > 0 {
		return nil, ErrNothingShared
	}
	return d, nil
}

func (s Session) answerMedia(offer *Description, i int, used []bool) (Media, bool) {
	o := &offer.Media[i]
	m := Media{Kind: o.Kind, Proto: o.Proto, Formats: append([]string(nil), o.Formats...)}
	if o.Port == 0 {
		return m, false
	}
	for j, st := range s.Media {
		if used[j] || st.Kind != o.Kind || st.Port == 0 {
			continue
		}
		var cs []Codec
		if o.RTP() {
			if cs = shared(o.Codecs(), st.Codecs); !useful(cs) {
				continue
			}
			m.Formats = nil
		}
		used[j] = true
		m.Port = st.Port
		m.fill(cs, offer.Direction(i).Reverse()&st.Direction, st.Extra)
		return m, true
	}
	return m, false
}

// shared lists the offered codecs that we have too: the offer's numbers, its order, and our
// parameters. RFC 3264 §6.1
func shared(offered, ours []Codec) []Codec {
	var cs []Codec
	for _, o := range offered {
		for _, c := range ours {
			if c.Same(o) {
				c.Payload = o.Payload
				cs = append(cs, c)
				break
			}
		}
	}
	return cs
}

// useful says that there is more than tones and silence.
func useful(cs []Codec) bool {
	for _, c := range cs {
		if c.Name != "telephone-event" && c.Name != "CN" {
			return true
		}
	}
	return false
}

// Next gives the description for another offer in the same session: a copy whose version is
// one higher. RFC 3264 §8
func (d *Description) Next() *Description {
	c := d.Clone()
	if o, err := c.Origin(); err == nil {
		o.Version++
		c.SetOrigin(o)
	}
	return c
}

// Hold gives the next offer with every media put on hold, or taken off hold again.
// RFC 3264 §8.4
func (d *Description) Hold(on bool) *Description {
	c := d.Next()
	for i := range c.Media {
		dir := c.Direction(i)
		if on {
			dir &= SendOnly
		} else {
			dir = SendRecv
		}
		c.SetDirection(i, dir)
	}
	return c
}
