// Package sdp reads and writes session descriptions and works out answers to offers.
//
// Specs: RFC 8866 (SDP), RFC 3264 (offer and answer), RFC 3551 §6 (static payload types),
// RFC 4566 for older senders. A description is kept as its lines, in order, so what this
// package does not understand passes through untouched: crypto, ICE, DTLS, bundle groups.
//
// Everything here is a plain value: no goroutines, no locks.
package sdp

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ContentType is the media type of a session description in a message.
const ContentType = "application/sdp"

// Limits on what Parse accepts: far above anything real.
const (
	maxLines = 2000
	maxMedia = 64
)

// Line is one line "<Type>=<Value>", the end of line not included.
type Line struct {
	Type  byte
	Value string
}

// Description is a session description.
type Description struct {
	Session []Line  // everything before the first m= line, in order
	Media   []Media // one for each m= line, in order
}

// Media is one m= line and what belongs to it. RFC 8866 §5.14
type Media struct {
	Kind    string   // "audio", "video", "application", "message", ...
	Port    uint16   // 0: refused or not used
	Ports   int      // number of consecutive ports, 0 when not given
	Proto   string   // "RTP/AVP", "UDP/TLS/RTP/SAVPF", "TCP/MSRP", ...
	Formats []string // payload types of RTP, other tokens elsewhere
	Lines   []Line   // the lines after m=, in order
}

// Origin is the o= line. RFC 8866 §5.2
type Origin struct {
	User    string
	ID      uint64
	Version uint64
	Net     string // "IN"
	Type    string // "IP4" or "IP6"
	Address string // an address or a host name
}

// Parse reads a description. Lines may end with CRLF or LF; unknown types of line are kept.
func Parse(b []byte) (*Description, error) {
	d := &Description{}
	for n := 1; len(b) > 0; n++ {
		if n > maxLines {
			return nil, errors.New("sdp: too many lines")
		}
		var raw []byte
		raw, b, _ = bytes.Cut(b, []byte{'\n'})
		raw = bytes.TrimSuffix(raw, []byte{'\r'})
		if len(raw) == 0 && len(bytes.TrimSpace(b)) == 0 {
			break // an empty line at the very end is a common slip
		}
		if len(raw) < 2 || raw[1] != '=' || raw[0] < 'a' || raw[0] > 'z' {
			return nil, fmt.Errorf("sdp: line %d is not <letter>=<value>", n)
		}
		if bytes.ContainsAny(raw, "\x00\r") {
			return nil, fmt.Errorf("sdp: line %d has a forbidden octet", n)
		}
		if err := d.add(Line{raw[0], string(raw[2:])}); err != nil {
			return nil, fmt.Errorf("sdp: line %d: %w", n, err)
		}
	}
	if len(d.Session) == 0 {
		return nil, errors.New("sdp: empty")
	}
	if _, err := d.Origin(); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *Description) add(l Line) error {
	if len(d.Session) == 0 && l != (Line{'v', "0"}) {
		return errors.New("does not begin with v=0")
	}
	if l.Type == 'm' {
		if len(d.Media) == maxMedia {
			return errors.New("too many media")
		}
		m, err := parseMedia(l.Value)
		if err != nil {
			return err
		}
		d.Media = append(d.Media, m)
		return nil
	}
	if l.Type == 'c' {
		if _, err := connection(l.Value); err != nil {
			return err
		}
	}
	if n := len(d.Media); n > 0 {
		d.Media[n-1].Lines = append(d.Media[n-1].Lines, l)
	} else {
		d.Session = append(d.Session, l)
	}
	return nil
}

// m=<media> <port>[/<number>] <proto> <fmt> ...
func parseMedia(v string) (Media, error) {
	f := strings.Fields(v)
	if len(f) < 4 {
		return Media{}, errors.New("m= needs media, port, protocol and a format")
	}
	port, count, many := strings.Cut(f[1], "/")
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return Media{}, fmt.Errorf("port %q", port)
	}
	m := Media{Kind: f[0], Port: uint16(p), Proto: f[2], Formats: f[3:]}
	if many {
		n, err := strconv.ParseUint(count, 10, 16)
		if err != nil || n == 0 {
			return Media{}, fmt.Errorf("number of ports %q", count)
		}
		m.Ports = int(n)
	}
	return m, nil
}

// Append writes the description behind dst, every line ended by CRLF.
func (d *Description) Append(dst []byte) []byte {
	dst = appendLines(dst, d.Session)
	for i := range d.Media {
		m := &d.Media[i]
		dst = append(dst, "m="...)
		dst = append(dst, m.Kind...)
		dst = append(dst, ' ')
		dst = strconv.AppendUint(dst, uint64(m.Port), 10)
		if m.Ports > 0 {
			dst = append(dst, '/')
			dst = strconv.AppendInt(dst, int64(m.Ports), 10)
		}
		dst = append(dst, ' ')
		dst = append(dst, m.Proto...)
		for _, f := range m.Formats {
			dst = append(dst, ' ')
			dst = append(dst, f...)
		}
		dst = append(dst, "\r\n"...)
		dst = appendLines(dst, m.Lines)
	}
	return dst
}

// Bytes writes the description into new memory.
func (d *Description) Bytes() []byte { return d.Append(nil) }

func appendLines(dst []byte, ls []Line) []byte {
	for _, l := range ls {
		dst = append(dst, l.Type, '=')
		dst = append(dst, l.Value...)
		dst = append(dst, "\r\n"...)
	}
	return dst
}

// Clone gives a copy that shares nothing.
func (d *Description) Clone() *Description {
	c := &Description{Session: append([]Line(nil), d.Session...), Media: append([]Media(nil), d.Media...)}
	for i := range c.Media {
		m := &c.Media[i]
		m.Formats = append([]string(nil), m.Formats...)
		m.Lines = append([]Line(nil), m.Lines...)
	}
	return c
}

// Origin reads the o= line.
func (d *Description) Origin() (Origin, error) {
	v, ok := first(d.Session, 'o')
	if !ok {
		return Origin{}, errors.New("sdp: no o= line")
	}
	f := strings.Fields(v)
	if len(f) != 6 {
		return Origin{}, errors.New("sdp: o= needs six fields")
	}
	o := Origin{User: f[0], Net: f[3], Type: f[4], Address: f[5]}
	var err1, err2 error
	o.ID, err1 = strconv.ParseUint(f[1], 10, 64)
	o.Version, err2 = strconv.ParseUint(f[2], 10, 64)
	if err1 != nil || err2 != nil {
		return Origin{}, errors.New("sdp: o= has a number out of range")
	}
	return o, nil
}

// SetOrigin writes the o= line in the place of the old one.
func (d *Description) SetOrigin(o Origin) {
	v := fmt.Sprintf("%s %d %d %s %s %s", o.User, o.ID, o.Version, o.Net, o.Type, o.Address)
	for i := range d.Session {
		if d.Session[i].Type == 'o' {
			d.Session[i].Value = v
			return
		}
	}
	d.Session = append(d.Session, Line{'o', v})
}

// c=<nettype> <addrtype> <address>[/ttl][/number]
func connection(v string) (netip.Addr, error) {
	f := strings.Fields(v)
	if len(f) != 3 {
		return netip.Addr{}, errors.New("c= needs three fields")
	}
	host, _, _ := strings.Cut(f[2], "/")
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}, nil // a host name: allowed, not resolved here
	}
	if f[0] == "IN" && (f[1] == "IP4") != a.Is4() {
		return netip.Addr{}, fmt.Errorf("c= says %s for %s", f[1], host)
	}
	return a, nil
}

// Address gives where the i-th media is to be sent: its own c= line or the session's. The
// address is invalid when the line holds a host name or is missing. RFC 8866 §5.7
func (d *Description) Address(i int) netip.AddrPort {
	if i < 0 || i >= len(d.Media) {
		return netip.AddrPort{}
	}
	v, ok := first(d.Media[i].Lines, 'c')
	if !ok {
		v, _ = first(d.Session, 'c')
	}
	a, _ := connection(v)
	return netip.AddrPortFrom(a, d.Media[i].Port)
}

func first(ls []Line, t byte) (string, bool) {
	for _, l := range ls {
		if l.Type == t {
			return l.Value, true
		}
	}
	return "", false
}

// Attribute finds "a=name" or "a=name:value" among lines. RFC 8866 §5.13
func Attribute(ls []Line, name string) (value string, ok bool) {
	for _, l := range ls {
		if l.Type != 'a' {
			continue
		}
		n, v, _ := strings.Cut(l.Value, ":")
		if n == name {
			return v, true
		}
	}
	return "", false
}

// Attributes gives the values of every "a=name:value" among lines, in order.
func Attributes(ls []Line, name string) []string {
	var vs []string
	for _, l := range ls {
		if n, v, _ := strings.Cut(l.Value, ":"); l.Type == 'a' && n == name {
			vs = append(vs, v)
		}
	}
	return vs
}
