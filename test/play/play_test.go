package play

import (
	"context"
	"net"
	"strings"
	"testing"

	"fernamt/client"
	"fernamt/test/is"
	"fernamt/wire/sip"
)

// street is a stage without server: the phones ring each other directly.
var street = Stage{Domain: "example.test", Network: client.Network{
	ListenPacket: func(ctx context.Context) (net.PacketConn, error) {
		var lc net.ListenConfig
		return lc.ListenPacket(ctx, "udp", "127.0.0.1:0")
	},
	Dial: func(ctx context.Context, hop sip.Hop) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", hop.Addr.String())
	},
}}

func perform(t *testing.T, text string) error {
	t.Helper()
	p, err := Read("x.txt", text)
	is.NoErr(t, err)
	return p.Run(t.Context(), street, nil)
}

func TestCall(t *testing.T) {
	t.Parallel()
	is.NoErr(t, perform(t, `# A call, hold, digits
alice calls bob
bob sees INVITE from alice
bob rings
alice hears 180
bob answers
alice hears 200
bob sees ACK
alice holds bob
alice hears 200 for INVITE
bob sees hold
alice resumes bob
bob sees resume
alice presses 1
bob sees INFO
alice has 1 calls
alice hangs up on bob
bob sees BYE
alice has no call
`))
}

func TestTransfers(t *testing.T) {
	t.Parallel()
	is.NoErr(t, perform(t, `# Blind, then attended
alice calls bob
bob sees INVITE
bob answers
alice hears 200
bob sees ACK
alice transfers bob to carol
carol sees INVITE from bob
carol answers
alice hears of transfer 200
alice hangs up
bob sees BYE
carol calls dave
dave sees INVITE
dave answers
carol hears 200
dave sees ACK
carol connects bob with dave
dave sees INVITE from bob
dave sees ACK
carol sees BYE
`))
}

func TestMessages(t *testing.T) {
	t.Parallel()
	is.NoErr(t, perform(t, `# Messages, cancel, refusal
alice sends MESSAGE "first" to bob
alice sends MESSAGE "second # no comment" to bob and gets 200
bob sees MESSAGE "first" from alice
bob sees MESSAGE "second # no comment"
bob does not see MESSAGE for 20ms
alice sends OPTIONS to bob
alice sends REGISTER to bob and gets 405
alice calls bob without offer
bob sees INVITE
alice cancels
bob sees CANCEL
alice hears 487
alice calls bob
bob sees INVITE
bob declines with 486
alice hears 486
bob offers dialog
bob subscribes to presence of carol
bob sees end
`))
}

// Each fault names file, line, the sentence and what was the case.
func TestFaults(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"alice calls bob\n", "x.txt:1: : a play begins with its title"},
		{"# t\nalice jumps high\n", "x.txt:2: alice jumps high: nobody understands"},
		{"# t\nalice registers twice\n", "there is: <actor> registers"},
		{"# t\nalice sends MESSAGE \"x to bob\n", "x.txt:2: alice sends MESSAGE \"x to bob: a quote has no end"},
		{"# t\nalice hears 200 within ages\n", `"ages" is no time`},
	} {
		_, err := Read("x.txt", c.text)
		is.Err(t, err, c.want)
	}
	for _, c := range []struct{ text, want string }{
		{"# t\n\nalice hangs up\n", "x.txt:3: alice hangs up: alice has no call"},
		{"# t\nalice sends MESSAGE \"a\" to bob\nbob sees MESSAGE \"b\"\n", `x.txt:3: bob sees MESSAGE "b": bob saw message from alice@example.test "a" instead of MESSAGE "b"`},
		{"# t\nalice calls bob\nbob sees CANCEL within 100ms\n", `bob did not see CANCEL, but invite from alice@example.test`},
		{"# t\nalice calls bob\nbob sees INVITE\nbob declines\nalice hears 200\n", "alice saw failed 603 from bob@"},
		{"# t\nalice sends OPTIONS to bob and gets 404\n", "alice got 200 OK, not 404"},
		{"# t\nalice sends MESSAGE \"a\" to bob\nbob does not see MESSAGE\n", `bob did: message`},
		{"# t\nadmin does user list\n", "no operator on this stage"},
		{"# t\nbob sees PIGS\n", `"PIGS" cannot be seen`},
		{"# t\nalice connects bob with carol\n", "alice has no call with carol"},
		{"# t\nwait 1ms\nat the end alice hangs up\n", "x.txt:3: at the end alice hangs up"},
	} {
		err := perform(t, c.text)
		is.Err(t, err, c.want)
	}
}

func TestSentences(t *testing.T) {
	s := Sentences()
	for _, v := range sentences {
		is.True(t, v.means != "" && strings.Contains(s, v.pattern), v.pattern)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("# t\nalice calls bob within 3s\n")
	f.Add("# \"t\nat the end admin does x \"y\" # z\n")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := Read("x.txt", text); err == nil {
			p.Missing(street)
		}
	})
}
