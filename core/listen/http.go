package listen

import (
	"context"
	"crypto/tls"
	"net"
)

// secureConn shows net/http that a connection came by TLS.
type secureConn struct{ *Conn }

// ConnectionState is what net/http looks for.
func (c secureConn) ConnectionState() tls.ConnectionState { return c.secure.ConnectionState() }

// Of finds what is known of a connection that a Door's Listener accepted; nil if it did not.
func Of(c net.Conn) *Conn {
	switch c := c.(type) {
	case *Conn:
		return c
	case secureConn:
		return c.Conn
	case *tls.Conn:
		if r, ok := c.NetConn().(*raw); ok {
			return r.conn
		}
	}
	return nil
}

// Listener gives the door as net/http and others take it. What it accepts tells its TLS state, and speaks HTTP/2 where
// the client asked for it. Of tells the rest. Closing it closes the door.
func (o *Door) Listener() net.Listener { return &listener{o} }

type listener struct{ *Door }

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Door.Accept(context.Background())
	switch {
	case err != nil:
		return nil, err
	case c.secure == nil:
		return c, nil
	case c.ALPN == "h2":
		return c.secure, nil // net/http speaks HTTP/2 on these alone
	}
	return secureConn{c}, nil
}

func (l *listener) Addr() net.Addr {
	if at := l.Addresses(); len(at) > 0 {
		return net.TCPAddrFromAddrPort(at[0])
	}
	return &net.TCPAddr{}
}
