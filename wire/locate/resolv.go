package locate

import (
	"net/netip"
	"strings"
)

// ParseResolv reads the servers out of the text of a resolv.conf(5), at most 3 as the C library does.
func ParseResolv(text []byte) []netip.AddrPort {
	var servers []netip.AddrPort
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" || len(servers) == 3 {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			servers = append(servers, netip.AddrPortFrom(a, 53))
		}
	}
	return servers
}

// ParseHosts reads the text of a hosts(5) file for Config.Hosts.
func ParseHosts(text []byte) map[string][]netip.Addr {
	hosts := map[string][]netip.Addr{}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		a, err := netip.ParseAddr(f[0])
		if err != nil {
			continue
		}
		for _, name := range f[1:] {
			hosts[fold(name)] = append(hosts[fold(name)], a)
		}
	}
	return hosts
}
