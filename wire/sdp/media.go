package sdp

import (
	"strconv"
	"strings"
)

// Direction is who sends: a bit for each side. RFC 8866 §6.7
type Direction uint8

// The directions, seen by the one who writes them.
const (
	Inactive Direction = 0
	SendOnly Direction = 1
	RecvOnly Direction = 2
	SendRecv Direction = 3
)

var directionNames = [...]string{"inactive", "sendonly", "recvonly", "sendrecv"}

// String gives the attribute's name.
func (d Direction) String() string { return directionNames[d&3] }

// Reverse turns the direction round: what the other side has to call it.
func (d Direction) Reverse() Direction { return d>>1&1 | d<<1&2 }

func directionOf(ls []Line) (Direction, bool) {
	for _, l := range ls {
		if l.Type != 'a' {
			continue
		}
		for i, n := range directionNames {
			if l.Value == n {
				return Direction(i), true
			}
		}
	}
	return SendRecv, false
}

// Direction says who sends in the i-th media: its own attribute, else the session's, else
// both. An IPv4 address of zeros is the old way to say hold. RFC 3264 §8.4
func (d *Description) Direction(i int) Direction {
	dir, ok := directionOf(d.Media[i].Lines)
	if !ok {
		dir, _ = directionOf(d.Session)
	}
	if a := d.Address(i).Addr(); a.Is4() && a.IsUnspecified() {
		dir &= SendOnly
	}
	return dir
}

// Held says that the writer of d does not want to hear any of its media: the call is on hold.
func (d *Description) Held() bool {
	for i := range d.Media {
		if d.Media[i].Port != 0 && d.Direction(i)&RecvOnly != 0 {
			return false
		}
	}
	return len(d.Media) > 0
}

// SetDirection writes the attribute of the i-th media.
func (d *Description) SetDirection(i int, dir Direction) {
	m := &d.Media[i]
	for j := range m.Lines {
		if _, ok := directionOf(m.Lines[j : j+1]); ok {
			m.Lines[j].Value = dir.String()
			return
		}
	}
	m.Lines = append(m.Lines, Line{'a', dir.String()})
}

// Codec is one RTP format. RFC 8866 §6.6
type Codec struct {
	Payload  uint8  // payload type, 0 to 127
	Name     string // "PCMU", "opus", "telephone-event"
	Rate     int    // clock rate in Hz
	Channels int    // 1 when not said
	Params   string // the value of fmtp, "" for none
}

// Same says that the two are one codec, whatever number each side gave it.
func (c Codec) Same(o Codec) bool {
	return strings.EqualFold(c.Name, o.Name) && c.Rate == o.Rate && c.Channels == o.Channels
}

// RFC 3551 §6: numbers that need no rtpmap.
var static = map[uint8]Codec{
	0: {0, "PCMU", 8000, 1, ""}, 3: {3, "GSM", 8000, 1, ""}, 4: {4, "G723", 8000, 1, ""},
	8: {8, "PCMA", 8000, 1, ""}, 9: {9, "G722", 8000, 1, ""}, 10: {10, "L16", 44100, 2, ""},
	11: {11, "L16", 44100, 1, ""}, 13: {13, "CN", 8000, 1, ""}, 15: {15, "G728", 8000, 1, ""},
	18: {18, "G729", 8000, 1, ""}, 26: {26, "JPEG", 90000, 1, ""}, 31: {31, "H261", 90000, 1, ""},
	34: {34, "H263", 90000, 1, ""},
}

// RTP says that the media's formats are RTP payload types.
func (m *Media) RTP() bool { return strings.Contains(m.Proto, "RTP/") }

// Codecs lists the formats of an RTP media in their order of preference. A dynamic number
// without rtpmap is left out: nobody can know what it means.
func (m *Media) Codecs() []Codec {
	if !m.RTP() {
		return nil
	}
	named := map[uint8]Codec{}
	for _, v := range Attributes(m.Lines, "rtpmap") {
		if c, ok := parseRTPMap(v); ok {
			named[c.Payload] = c
		}
	}
	params := map[string]string{}
	for _, v := range Attributes(m.Lines, "fmtp") {
		f, p, _ := strings.Cut(v, " ")
		params[f] = p
	}
	var cs []Codec
	for _, f := range m.Formats {
		n, err := strconv.ParseUint(f, 10, 7)
		if err != nil {
			continue
		}
		c, ok := named[uint8(n)]
		if !ok {
			c, ok = static[uint8(n)]
		}
		if ok {
			c.Params = params[f]
			cs = append(cs, c)
		}
	}
	return cs
}

// rtpmap:<payload type> <encoding name>/<clock rate>[/<channels>]
func parseRTPMap(v string) (Codec, bool) {
	num, enc, _ := strings.Cut(v, " ")
	n, err := strconv.ParseUint(num, 10, 7)
	f := strings.Split(strings.TrimSpace(enc), "/")
	if err != nil || len(f) < 2 || f[0] == "" {
		return Codec{}, false
	}
	c := Codec{Payload: uint8(n), Name: f[0], Channels: 1}
	if c.Rate, err = strconv.Atoi(f[1]); err != nil || c.Rate <= 0 {
		return Codec{}, false
	}
	if len(f) > 2 {
		if c.Channels, err = strconv.Atoi(f[2]); err != nil || c.Channels <= 0 {
			return Codec{}, false
		}
	}
	return c, true
}

func (c Codec) lines() []Line {
	v := strconv.Itoa(int(c.Payload))
	rate := c.Name + "/" + strconv.Itoa(c.Rate)
	if c.Channels > 1 {
		rate += "/" + strconv.Itoa(c.Channels)
	}
	ls := []Line{{'a', "rtpmap:" + v + " " + rate}}
	if c.Params != "" {
		ls = append(ls, Line{'a', "fmtp:" + v + " " + c.Params})
	}
	return ls
}
