package frontend

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"fernamt/core/config"
	"fernamt/core/route"
	"fernamt/test/is"
	"fernamt/wire/clock"
	"fernamt/wire/gss"
	"fernamt/wire/sip"
)

// desk is a front end whose requests a test writes and whose answers it reads.
type desk struct {
	*stage
	t *testing.T
	n int
}

// talk sends texts one after the other and gives what came back to the callers.
func (d *desk) talk(texts ...string) (answers []string) {
	d.t.Helper()
	i := 0
	m := &listening{memory: newMemory()}
	m.next = func(dst []byte) []byte {
		if i == len(texts) {
			return nil
		}
		i++
		return append(dst, texts[i-1]...)
	}
	ended := make(chan error)
	go func() {
		ended <- d.gate.ServePacket(d.ctx, "frontend", m, sip.LinkInfo{ID: 1, Door: doorUDP, Local: netip.MustParseAddrPort("127.0.0.1:15060")})
	}()
	<-m.done
	m.Close()
	<-ended
	return m.sent
}

// listening keeps what was sent.
type listening struct {
	*memory
	sent []string
}

func (l *listening) WriteToUDPAddrPort(b []byte, _ netip.AddrPort) (int, error) {
	l.sent = append(l.sent, string(b))
	return len(b), nil
}

func newDesk(t *testing.T, set func(*role, *route.Config)) *desk {
	return &desk{stage: newStage(t, 3, func(r *role, c *route.Config) {
		trust(r, c)
		if set != nil {
			set(r, c)
		}
	}), t: t}
}

// reg writes a REGISTER for u00000 with these header lines.
func (d *desk) reg(callID string, cseq int, lines ...string) string {
	d.n++
	return fmt.Sprintf("REGISTER sip:bar.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:15080;branch=z9hG4bK%d;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:u00000@bar.test>;tag=1\r\nTo: <sip:u00000@bar.test>\r\nCall-ID: %s\r\nCSeq: %d REGISTER\r\n%sContent-Length: 0\r\n\r\n",
		d.n, callID, cseq, strings.Join(append(lines, ""), "\r\n"))
}

// lines gives status line and the named headers of an answer.
func lines(text string, names ...string) (s []string) {
	all := strings.Split(text, "\r\n")
	s = append(s, all[0])
	for _, line := range all[1:] {
		for _, n := range names {
			if strings.HasPrefix(line, n+": ") {
				s = append(s, line)
			}
		}
	}
	return s
}

const (
	ok        = "SIP/2.0 200 OK"
	contactA  = "Contact: <sip:u00000@127.0.0.1:5070>"
	instance  = `;+sip.instance="<urn:uuid:085e0bd8-031c-5a0d-8d9a-f149aae6954a>"`
	contactsH = "Contact"
)

func TestRegistrar(t *testing.T) {
	for _, c := range []struct {
		name string
		send []string // header lines, separated by a bar
		want []string // status line, Contacts and what else is named
		also []string
	}{
		{"RFC 3261 §10.3: query without contacts", []string{}, []string{ok}, nil},
		{"default time", []string{contactA}, []string{ok, contactA + ";expires=3600"}, nil},
		{"Expires header", []string{contactA, "Expires: 120"}, []string{ok, contactA + ";expires=120"}, nil},
		{"expires parameter wins", []string{contactA + ";expires=90", "Expires: 120"}, []string{ok, contactA + ";expires=90"}, nil},
		{"cut to the longest", []string{contactA, "Expires: 999999"}, []string{ok, contactA + ";expires=86400"}, nil},
		{"step 7: too brief", []string{contactA, "Expires: 59"}, []string{"SIP/2.0 423 Interval Too Brief", "Min-Expires: 60"}, []string{"Min-Expires"}},
		{"step 6: star", []string{"Contact: *", "Expires: 0"}, []string{ok}, nil},
		{"step 6: star without Expires", []string{"Contact: *"}, []string{"SIP/2.0 400 Contact * Needs Expires 0"}, nil},
		{"step 6: star with time", []string{"Contact: *", "Expires: 10"}, []string{"SIP/2.0 400 Contact * Needs Expires 0"}, nil},
		{"step 6: star and another", []string{"Contact: *, <sip:a@127.0.0.1>", "Expires: 0"}, []string{"SIP/2.0 400 Contact * Needs Expires 0"}, nil},
		{"two contacts, q", []string{contactA + ";q=0.5, <sip:b@127.0.0.1>;q=1.0"},
			[]string{ok, "Contact: <sip:b@127.0.0.1>;expires=3600", contactA + ";expires=3600;q=0.500"}, nil},
		{"foreign parameters stay", []string{contactA + `;methods="INVITE, BYE";foo`}, []string{ok, contactA + `;expires=3600;methods="INVITE, BYE";foo`}, nil},
		{"URI parameters and headers stay", []string{"Contact: <sip:u00000@127.0.0.1;unknown=1?Route=%3Csip:x.test%3E>"},
			[]string{ok, "Contact: <sip:u00000@127.0.0.1;unknown=1?Route=%3Csip:x.test%3E>;expires=3600"}, nil},
		{"contact of another scheme", []string{"Contact: <http://x.test>"}, []string{"SIP/2.0 400 Contact Is No SIP URI"}, nil},
		{"RFC 3261 §8.2.2.3", []string{contactA, "Require: path, nothing, else"}, []string{"SIP/2.0 420 Bad Extension", "Unsupported: nothing, else"}, []string{"Unsupported"}},
		{"RFC 3327 §5.3", []string{contactA, "Supported: path", "Path: <sip:p1.x.test;lr>, <sip:p2.x.test;lr>"},
			[]string{ok, contactA + ";expires=3600", "Path: <sip:p1.x.test;lr>,<sip:p2.x.test;lr>"}, []string{"Path"}},
		{"RFC 5626 §6", []string{contactA + instance + ";reg-id=1", "Supported: path, outbound"},
			[]string{ok, contactA + ";expires=3600" + instance + ";reg-id=1", "Require: outbound", "Flow-Timer: 120"}, []string{"Require", "Flow-Timer"}},
		{"RFC 5626 §6: first hop without outbound", []string{contactA + instance + ";reg-id=1", "Supported: path, outbound", "Path: <sip:p1.x.test;lr;ob>, <sip:p2.x.test;lr>"},
			[]string{"SIP/2.0 439 First Hop Lacks Outbound Support"}, nil},
		{"RFC 5626 §6: a hop that says nothing of itself", []string{contactA + instance + ";reg-id=1", "Supported: path, outbound", "Via: SIP/2.0/UDP 127.0.0.3;branch=z9hG4bKp"},
			[]string{"SIP/2.0 439 First Hop Lacks Outbound Support"}, nil},
		{"first hop without outbound, nor the phone", []string{contactA + instance + ";reg-id=1", "Path: <sip:p2.x.test;lr>"},
			[]string{ok, contactA + ";expires=3600" + instance + ";reg-id=1"}, []string{"Require"}},
		{"first hop with outbound", []string{contactA + instance + ";reg-id=1", "Supported: path, outbound", "Path: <sip:p1.x.test;lr>, <sip:p2.x.test;lr;ob>"},
			[]string{ok, contactA + ";expires=3600" + instance + ";reg-id=1", "Require: outbound"}, []string{"Require"}},
		{"contact is our address", []string{"Contact: <sip:u00000@127.0.0.1:15060>"}, []string{"SIP/2.0 403 Contact Is This Server"}, nil},
		{"contact is our host", []string{"Contact: <sip:u00001@FE.bar.test>"}, []string{"SIP/2.0 403 Contact Is This Server"}, nil},
		{"contact is a port of our host", []string{"Contact: <sip:u00001@fe.bar.test:15060;transport=tcp>"}, []string{"SIP/2.0 403 Contact Is This Server"}, nil},
		{"a phone on our host", []string{"Contact: <sip:u00001@fe.bar.test:5071>"}, []string{ok, "Contact: <sip:u00001@fe.bar.test:5071>;expires=3600"}, nil},
		{"RFC 4475: a person is no server", []string{"Contact: <sip:u00001@bar.test>"}, []string{ok, "Contact: <sip:u00001@bar.test>;expires=3600"}, nil},
		{"what is us may be removed", []string{"Contact: <sip:u00001@fe.bar.test>;expires=0"}, []string{ok}, nil},
		{"reg-id without instance is none", []string{contactA + ";reg-id=1", "Supported: outbound"}, []string{ok, contactA + ";expires=3600;reg-id=1"}, []string{"Require"}},
		{"OC dialect", []string{contactA + instance, "Supported: gruu-10"},
			[]string{ok, contactA + ";expires=3600" + instance + `;gruu="sip:u00000@bar.test;opaque=user:epid:CF4L2AMcWg2NmvFJquaVSgAA;gruu"`, "Expires: 3600"}, []string{"Expires"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t, func(_ *role, c *route.Config) { c.Name = "fe." + domain })
			got := d.talk(d.reg("c", 1, c.send...))
			is.Equal(t, len(got), 1)
			is.Equal(t, lines(got[0], append(c.also, contactsH)...), c.want)
		})
	}
}

func TestRegisterOrder(t *testing.T) {
	d := newDesk(t, nil)
	got := d.talk(d.reg("c", 5, contactA), d.reg("c", 5, contactA), d.reg("c", 4, contactA), d.reg("c", 6, contactA, "Expires: 0"), d.reg("d", 1))
	var status []string
	for _, g := range got {
		status = append(status, lines(g)[0])
	}
	is.Equal(t, status, []string{ok, ok, "SIP/2.0 500 CSeq Out Of Order", ok, ok})
	is.Equal(t, lines(got[1], contactsH)[1], contactA+";expires=3600")
	is.Equal(t, len(lines(got[3], contactsH)), 1)
}

func TestRegisterLimit(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		d := newDesk(t, func(r *role, _ *route.Config) { r.RefuseExcess = refuse })
		var texts []string
		for i := range 9 {
			texts = append(texts, d.reg(fmt.Sprint("c", i), 1, fmt.Sprintf("Contact: <sip:u@127.0.0.1:%d>", 6000+i)))
		}
		got := d.talk(texts...)
		is.Equal(t, d.gate.Locations().Count(), 8)
		want := ok
		if refuse {
			want = "SIP/2.0 403 Too Many Registrations"
		}
		is.Equal(t, lines(got[8])[0], want)
	}
}

func TestRegisterWho(t *testing.T) {
	d := newDesk(t, nil)
	swap := func(text, user string) string { return strings.ReplaceAll(text, "u00000", user) }
	got := d.talk(swap(d.reg("a", 1, contactA), "nobody"), swap(d.reg("b", 1, contactA), "U00001"))
	is.Equal(t, lines(got[0])[0], "SIP/2.0 404 Not Found")
	is.Equal(t, lines(got[1])[0], ok)
	is.NoErr(t, d.users.SetDisabled(d.ctx, "u00002@bar.test", true))
	got = d.talk(swap(d.reg("c", 1, contactA), "u00002"))
	is.Equal(t, lines(got[0])[0], "SIP/2.0 403 Account Disabled")
	is.Equal(t, d.gate.Locations().Count(), 1)
	is.Equal(t, string(d.gate.Locations().All(clock.Mono())[0].AOR), "u00001@bar.test", "the account's spelling")
}

// Who was barred, removed or moved is registered no longer.
func TestPrune(t *testing.T) {
	d := newDesk(t, nil)
	for i := range 3 {
		d.talk(strings.ReplaceAll(d.reg(fmt.Sprint("c", i), 1, contactA), "u00000", fmt.Sprintf("u%05d", i)))
	}
	d.prune(d.ctx)
	is.Equal(t, d.gate.Locations().Count(), 3)
	is.NoErr(t, d.users.SetDisabled(d.ctx, "u00000@bar.test", true))
	is.NoErr(t, d.users.Move(d.ctx, "u00001@bar.test", "pool2.bar.test"))
	is.NoErr(t, d.users.Remove(d.ctx, "u00002@bar.test"))
	d.prune(d.ctx)
	is.Equal(t, d.gate.Locations().Count(), 0)
}

// Where requests go: to the contact when the phone lives there, through the NAT else.
func TestWayToPhone(t *testing.T) {
	for _, c := range []struct{ contact, want string }{
		{"Contact: <sip:u@127.0.0.1:7777>", "127.0.0.1:7777"},
		{"Contact: <sip:u@127.0.0.1>", "127.0.0.1:5060"},
		{"Contact: <sip:u@127.0.0.1:7777>" + instance + ";reg-id=1", caller.String()},
		{"Contact: <sip:u@phone.example.test>", "invalid AddrPort"},
		{"Contact: <sip:u@127.0.0.1:7777;transport=tcp>", "invalid AddrPort"},
	} {
		d := newDesk(t, nil)
		d.talk(d.reg("c", 1, c.contact))
		is.Equal(t, d.gate.Locations().All(clock.Mono())[0].Flow.Remote.String(), c.want, c.contact)
	}
	d := newDesk(t, func(r *role, _ *route.Config) { r.Trusted = nil })
	got := d.talk(d.reg("c", 1, "Contact: <sip:u@10.0.0.1:7777>"))
	is.Equal(t, lines(got[0])[0], "SIP/2.0 401 Unauthorized")
}

// signed sends a REGISTER of somebody who is not trusted, and again with the password.
func (d *desk) signed(callID string, lines ...string) string {
	d.t.Helper()
	first := d.talk(d.reg(callID, 1, lines...))
	_, v, ok := strings.Cut(first[0], "WWW-Authenticate: ")
	is.True(d.t, ok, first[0])
	v, _, _ = strings.Cut(v, "\r\n")
	a, err := gss.Answer([]byte(v), gss.Login{User: "u00000", Password: "secret", Method: "REGISTER", URI: "sip:bar.test", NC: 1, CNonce: "c"})
	is.NoErr(d.t, err)
	return d.talk(d.reg(callID, 2, append(lines, "Authorization: "+a)...))[0]
}

// Nobody who is merely signed in has us write or dial where he likes: what is not where
// the REGISTER came from is reached back over its flow.
func TestNobodyIsSentElsewhere(t *testing.T) {
	const back, anew = "127.0.0.1:15080", "invalid AddrPort"
	second := "Via: SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKfar"
	for _, c := range []struct {
		contact, more, want string
	}{
		{"<sip:u@127.0.0.1:7777>", "", "127.0.0.1:7777"}, // another port of the same phone
		{"<sip:u@10.0.0.1:7777>", "", back},
		{"<sip:u@10.0.0.1:7777>", second, back},
		{"<sip:u@10.0.0.1:7777;transport=tcp>", "", back},
		{"<sips:u@10.0.0.1:7777>", "", back},
		{"<sip:u@phone.example.test>", "", back},
		{"<sip:u@127.0.0.1:7777;transport=tcp>", "", anew},
		{"<sip:u@127.0.0.1:7777;transport=tcp;maddr=10.0.0.1>", "", back},
		{"<sip:u@127.0.0.1:7777;maddr=10.0.0.1>", "", back},
		{"<tel:+4930>", "", back},
		{"<sip:u@192.0.2.7:7777>", "", "192.0.2.7:7777"}, // allowed by contact_networks
		{"<sip:u@192.0.2.7:7777;transport=tcp>", "", anew},
	} {
		d := newDesk(t, func(r *role, _ *route.Config) {
			r.Trusted = nil
			r.ContactNetworks = []config.Net{{Prefix: netip.MustParsePrefix("192.0.2.0/24")}}
		})
		list := []string{"Contact: " + c.contact}
		if c.more != "" {
			list = append(list, c.more)
		}
		is.Equal(t, lines(d.signed("c", list...))[0], ok, c.contact)
		is.Equal(t, d.gate.Locations().All(clock.Mono())[0].Flow.Remote.String(), c.want, c.contact, c.more)
	}
	d := newDesk(t, func(r *role, _ *route.Config) { r.Trusted = nil })
	is.Equal(t, lines(d.signed("c", contactA, "Path: <sip:10.0.0.1;transport=tcp;lr>"))[0], "SIP/2.0 403 Path Not Accepted From Here")
	is.Equal(t, d.gate.Locations().Count(), 0)
}
