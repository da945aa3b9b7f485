package sdp

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fernamt/test/is"
)

// RFC 8866 §5
const example = "v=0\r\no=jdoe 3724394400 3724394405 IN IP4 198.51.100.1\r\ns=Call to John Smith\r\n" +
	"i=SDP Offer #1\r\nu=http://www.jdoe.example.com/home.html\r\ne=Jane Doe <jane@jdoe.example.com>\r\n" +
	"p=+1 617 555-6011\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\nm=audio 49170 RTP/AVP 0\r\n" +
	"m=audio 49180 RTP/AVP 0\r\nm=video 51372 RTP/AVP 99\r\nc=IN IP6 2001:db8::2\r\na=rtpmap:99 h263-1998/90000\r\n"

const webrtc = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n" +
	"m=audio 9 UDP/TLS/RTP/SAVPF 111 0 126\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:8hhY\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\n" +
	"a=fingerprint:sha-256 19:E2\r\na=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n" +
	"a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:126 telephone-event/8000\r\nx=kept\r\n"

func TestRoundTrip(t *testing.T) {
	for _, s := range []string{example, webrtc} {
		d, err := Parse([]byte(s))
		is.NoErr(t, err)
		is.Equal(t, string(d.Bytes()), s)
		is.Equal(t, string(d.Clone().Bytes()), s, "clone")
		lf, err := Parse([]byte(strings.ReplaceAll(s, "\r\n", "\n")))
		is.NoErr(t, err)
		is.Equal(t, string(lf.Bytes()), s, "bare LF")
	}
}

func TestRead(t *testing.T) {
	d, err := Parse([]byte(example))
	is.NoErr(t, err)
	is.Equal(t, d.Address(0), netip.MustParseAddrPort("198.51.100.1:49170"))
	is.Equal(t, d.Address(2), netip.MustParseAddrPort("[2001:db8::2]:51372"))
	is.Equal(t, d.Address(3), netip.AddrPort{})
	is.Equal(t, d.Media[2].Codecs(), []Codec{{99, "h263-1998", 90000, 1, ""}})
	o, err := d.Origin()
	is.NoErr(t, err)
	is.Equal(t, o, Origin{"jdoe", 3724394400, 3724394405, "IN", "IP4", "198.51.100.1"})
	w, err := Parse([]byte(webrtc))
	is.NoErr(t, err)
	is.Equal(t, w.Media[0].Codecs(), []Codec{{111, "opus", 48000, 2, "minptime=10;useinbandfec=1"},
		{0, "PCMU", 8000, 1, ""}, {126, "telephone-event", 8000, 1, ""}})
	v, ok := Attribute(w.Media[0].Lines, "ice-ufrag")
	is.Equal(t, v, "8hhY")
	is.True(t, ok)
}

func TestRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "empty"},
		{"o=- 1 1 IN IP4 1.2.3.4\r\n", "begin with v=0"},
		{"v=0\r\ns=-\r\n", "no o="},
		{"v=0\r\no=- x 1 IN IP4 1.2.3.4\r\n", "range"},
		{"v=0\r\no=- 1 1 IN IP4\r\n", "six fields"},
		{"v=0\r\nhello\r\n", "line 2"},
		{"v=0\r\no=- 1 1 IN IP4 a\r\nm=audio 70000 RTP/AVP 0\r\n", "port"},
		{"v=0\r\no=- 1 1 IN IP4 a\r\nm=audio 7/0 RTP/AVP 0\r\n", "number of ports"},
		{"v=0\r\no=- 1 1 IN IP4 a\r\nm=audio 7\r\n", "m= needs"},
		{"v=0\r\no=- 1 1 IN IP4 a\r\nc=IN IP6 1.2.3.4\r\n", "c= says"},
		{"v=0\r\no=- 1 1 IN IP4 a\x00\r\n", "forbidden"},
		{"v=0\r\no=- 1 1 IN IP4 a\r\n" + strings.Repeat("m=audio 7 RTP/AVP 0\r\n", 65), "too many media"},
		{"v=0\r\n" + strings.Repeat("a=x\r\n", 2001), "too many lines"},
	} {
		_, err := Parse([]byte(c.text))
		is.Err(t, err, c.want)
	}
}

var local = Session{Address: netip.MustParseAddr("192.0.2.7"), ID: 5, Media: []Stream{{
	Kind: "audio", Port: 4000, Direction: SendRecv,
	Codecs: []Codec{{96, "opus", 48000, 2, ""}, {0, "PCMU", 8000, 1, ""}, {101, "telephone-event", 8000, 1, "0-15"}},
}}}

func TestAnswer(t *testing.T) {
	offer, err := Parse([]byte("v=0\r\no=a 1 1 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\na=sendonly\r\n" +
		"m=audio 3456 RTP/AVP 8 0 111 97\r\na=rtpmap:111 OPUS/48000/2\r\na=rtpmap:97 telephone-event/8000\r\n" +
		"m=video 3460 RTP/AVP 31\r\nm=audio 0 RTP/AVP 0\r\n"))
	is.NoErr(t, err)
	a, err := local.Answer(offer)
	is.NoErr(t, err)
	is.Equal(t, string(a.Bytes()), "v=0\r\no=- 5 5 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\n"+
		"m=audio 4000 RTP/AVP 0 111 97\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:111 opus/48000/2\r\n"+
		"a=rtpmap:97 telephone-event/8000\r\na=fmtp:97 0-15\r\na=recvonly\r\n"+
		"m=video 0 RTP/AVP 31\r\nm=audio 0 RTP/AVP 0\r\n")
	_, err = Session{Address: local.Address}.Answer(offer)
	is.Equal(t, err, ErrNothingShared)
}

func TestToneAloneIsNoAudio(t *testing.T) {
	offer, err := Parse([]byte("v=0\r\no=a 1 1 IN IP4 1.2.3.4\r\ns=-\r\nc=IN IP4 1.2.3.4\r\nt=0 0\r\n" +
		"m=audio 3456 RTP/AVP 97\r\na=rtpmap:97 telephone-event/8000\r\n"))
	is.NoErr(t, err)
	_, err = local.Answer(offer)
	is.Equal(t, err, ErrNothingShared)
}

// RFC 3264 §6.1: the answer's direction is the offer's turned round, cut by what we want.
func TestDirections(t *testing.T) {
	for _, c := range []struct{ offer, ours, want Direction }{
		{SendRecv, SendRecv, SendRecv}, {SendOnly, SendRecv, RecvOnly}, {RecvOnly, SendRecv, SendOnly},
		{Inactive, SendRecv, Inactive}, {SendRecv, RecvOnly, RecvOnly}, {RecvOnly, RecvOnly, Inactive},
	} {
		s := local
		s.Media = []Stream{local.Media[0]}
		s.Media[0].Direction = c.offer
		o := s.Offer()
		s.Media[0].Direction = c.ours
		a, err := s.Answer(o)
		is.NoErr(t, err)
		is.Equal(t, a.Direction(0), c.want, c.offer.String(), c.ours.String())
	}
}

func TestHold(t *testing.T) {
	o := local.Offer()
	is.True(t, !o.Held(), "an offer is not held")
	h := o.Hold(true)
	is.True(t, h.Held(), "held")
	or, _ := h.Origin()
	is.Equal(t, or.Version, uint64(6))
	is.True(t, !o.Held(), "the first is untouched")
	is.True(t, !h.Hold(false).Held(), "taken off")
	old, err := Parse([]byte("v=0\r\no=a 1 1 IN IP4 1.2.3.4\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=audio 4 RTP/AVP 0\r\n"))
	is.NoErr(t, err)
	is.True(t, old.Held(), "the address of zeros")
}

// The bodies inside the torture messages that carry descriptions.
func TestTortureBodies(t *testing.T) {
	files, _ := filepath.Glob("../sip/testdata/rfc*/*.dat")
	n := 0
	for _, f := range files {
		b, err := os.ReadFile(f)
		is.NoErr(t, err)
		_, body, _ := bytes.Cut(b, []byte("\r\n\r\n"))
		if !bytes.HasPrefix(body, []byte("v=0")) {
			continue
		}
		d, err := Parse(body)
		is.NoErr(t, err, f)
		again, err := Parse(d.Bytes())
		is.NoErr(t, err, f)
		is.Equal(t, again, d, f)
		n++
	}
	is.True(t, n > 8, "found few descriptions")
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte(webrtc))
	f.Add([]byte("v=0\no=- 1 1 IN IP4 a\nm=audio 7/2 RTP/AVP 0 96\na=rtpmap:96 x/8000/1\na=inactive\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Parse(b)
		if err != nil {
			return
		}
		again, err := Parse(d.Bytes())
		is.NoErr(t, err)
		is.Equal(t, again, d)
		for i := range d.Media {
			d.Direction(i)
			d.Media[i].Codecs()
			d.Address(i)
		}
		d.Hold(true)
		if a, err := local.Answer(d); err == nil {
			_, err = Parse(a.Bytes())
			is.NoErr(t, err)
			is.Equal(t, len(a.Media), len(d.Media))
		}
	})
}
