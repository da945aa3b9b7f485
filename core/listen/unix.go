package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// longest path that a unix socket may have on every system we run on.
const longestPath = 103

// ListenUnix opens a unix socket at path with these rights, 0600 for the control socket. A socket that a dead process
// left behind is replaced; a living one is an error. Closing removes the file.
func ListenUnix(path string, mode os.FileMode) (net.Listener, error) {
	if len(path) > longestPath {
		return nil, fmt.Errorf("open unix socket %s: the path is longer than %d octets, choose a shorter folder", path, longestPath)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("open unix socket %s: another process answers there, is the server running already?", path)
	}
	if f, err := os.Lstat(path); err == nil {
		if f.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("open unix socket %s: a file of that name is in the way", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("open unix socket %s: %w", path, err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("open unix socket: %w", err)
	}
	// Connecting takes the right to write, which the usual umask gives to nobody else; so there is no gap before this.
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, fmt.Errorf("open unix socket: %w", err)
	}
	return l, nil
}

// DialUnix connects to a unix socket.
func DialUnix(ctx context.Context, path string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("nobody listens at %s: %w", path, err)
	}
	return c, err
}
