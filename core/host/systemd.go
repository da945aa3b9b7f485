package host

import (
	"context"
	_ "embed"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notify tells systemd, when it started us, what state we are in.
func notify(state string) { _, _ = daemon.SdNotify(false, state) }

// watchdog tells systemd at half its interval that alive still answers well. When it
// does not, systemd hears nothing and starts us again.
func watchdog(ctx context.Context, alive func() error) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		return
	}
	t := time.NewTicker(every / 2)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if alive() == nil {
				notify(daemon.SdNotifyWatchdog)
			}
		}
	}
}

// notifyReady also says which process it is.
func notifyReady(pid int) {
	notify(daemon.SdNotifyReady + "\nMAINPID=" + strconv.Itoa(pid))
}

// notifyStopping is sent when the end begins.
func notifyStopping() { notify(daemon.SdNotifyStopping) }

// unit is a systemd unit for a server with its data in /var/lib/fernamt.
//
//go:embed fernamt.service
var unit string
