package host

import (
	"context"
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

// Unit is a systemd unit for a server with its data in /var/lib/fernamt.
const Unit = `[Unit]
Description=Fernamt, a telephone exchange and all that belongs to it
Documentation=man:systemd.service(5)
After=network-online.target postgresql.service
Wants=network-online.target

[Service]
Type=notify
ExecStart=/usr/local/bin/fernamt start --data /var/lib/fernamt
ExecReload=/bin/kill -HUP $MAINPID
User=fernamt
Group=fernamt
StateDirectory=fernamt
StateDirectoryMode=0700
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
WatchdogSec=30s
TimeoutStopSec=10s
Restart=always
RestartSec=1s
LimitNOFILE=1048576
UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
`
