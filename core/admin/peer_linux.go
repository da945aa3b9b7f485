package admin

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// PeerOf says who is at the other end of the control socket, as the kernel knows it.
// Anybody but the server's own user and root is refused: the socket's rights say so
// already, and rights of files get changed.
func PeerOf(c net.Conn) (Caller, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return Caller{}, errors.New("not a unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Caller{}, err
	}
	var cred *syscall.Ucred
	var inner error
	if err := raw.Control(func(fd uintptr) {
		cred, inner = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return Caller{}, err
	}
	if inner != nil {
		return Caller{}, inner
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return Caller{}, fmt.Errorf("uid %d is neither root nor the server's user", cred.Uid)
	}
	return Caller{Name: fmt.Sprintf("uid %d", cred.Uid), Rights: Own}, nil
}
