//go:build !linux

package admin

import (
	"errors"
	"net"
)

// PeerOf trusts the rights of the socket's file, 0600: this system's way to ask for
// the peer's user is not used.
func PeerOf(c net.Conn) (Caller, error) {
	if _, ok := c.(*net.UnixConn); !ok {
		return Caller{}, errors.New("not a unix socket")
	}
	return Caller{Name: "owner", Rights: Own}, nil
}
