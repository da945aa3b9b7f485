package listen

import (
	"context"
	"net/netip"
	"testing"

	"fernamt/test/is"
	"fernamt/wire/ports"
)

func door(name string, n int, protocol string) ports.Port {
	return ports.Port{
		Name: name, From: n, Transport: ports.TCP, Protocol: protocol, Side: ports.Loopback,
		Purpose: "a test", Zweck: "ein Test",
	}
}

func TestUndeclared(t *testing.T) {
	d := New(Config{})
	defer d.Close()
	_, err := d.Open("frontend/sip")
	is.Err(t, err, `door "frontend/sip" was not declared`)
	_, err = d.Draw("frontend/media")
	is.Err(t, err, "was not declared")
	_, _, err = d.Dial(context.Background(), "frontend/out", at("127.0.0.1:1"), DialTLS{})
	is.Err(t, err, "was not declared")
}

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
