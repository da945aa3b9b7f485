package host

import (
	"context"
	"fmt"
	"net"

	"fernamt/core/listen"
)

// named dials through a door to HOST:PORT where the host may be a name, as libraries
// for databases hand it over.
func named(doors *listen.Doors, door string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	dial := doors.DialFunc(door)
	resolver := doors.Resolver(doorDNS, doorDNSTCP)
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || network == "unix" {
			return dial(ctx, network, addr)
		}
		if net.ParseIP(host) != nil || host == "localhost" {
			return dial(ctx, network, addr)
		}
		found, err := resolver.LookupHost(ctx, host)
		if err != nil {
			return nil, err
		}
		err = fmt.Errorf("%s has no address", host)
		for _, a := range found {
			var c net.Conn
			if c, err = dial(ctx, network, net.JoinHostPort(a, port)); err == nil {
				return c, nil
			}
		}
		return nil, err
	}
}
