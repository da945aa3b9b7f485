package host

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"time"

	"fernamt/core/admin"
	"fernamt/core/listen"
)

// callersAtOnce bounds the connections to the control socket.
const callersAtOnce = 64

// control answers commands on DATA/control.sock until ctx ends.
func (s *server) control(ctx context.Context) error {
	l, err := listen.ListenUnix(filepath.Join(s.host.Data, controlSocket), 0o600)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	slots := make(chan struct{}, callersAtOnce)
	s.roles.Go(func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // out of descriptors: it passes
				s.host.Log.Warn("control socket", "err", err)
				time.Sleep(100 * time.Millisecond)
				continue
			}
			select {
			case slots <- struct{}{}:
			default:
				c.Close()
				continue
			}
			s.roles.Go(func() {
				defer func() { <-slots }()
				defer c.Close()
				stop := context.AfterFunc(ctx, func() { c.Close() })
				defer stop()
				s.answer(ctx, c)
			})
		}
	})
	return nil
}

// answer serves one caller, if it is one who may.
func (s *server) answer(ctx context.Context, c net.Conn) {
	who, err := admin.PeerOf(c)
	if err != nil {
		s.host.Log.Warn("control socket refused a caller", "err", err)
		return
	}
	err = s.host.Table.Answer(ctx, c, s.host.Call(who))
	if err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
		s.host.Log.Debug("control socket", "err", err)
	}
}
