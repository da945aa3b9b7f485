package host

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"fernamt/core/admin"
	"fernamt/core/config"
	"fernamt/core/listen"
)

// checkDNS asks for the records that quickstart printed. Names that can never be in
// DNS (RFC 6761: test, localhost, invalid, example) are passed over.
func checkDNS(ctx context.Context, f *admin.Findings, s *config.Settings, self *config.Host, doors *listen.Doors) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r := doors.Resolver(doorDNS, doorDNSTCP)
	for _, domain := range s.Domains {
		if special(domain) {
			f.Good("dns", "%s is a name for tests, nobody asks for it", domain)
			continue
		}
		const mend = "enter the records at your DNS provider: fernamt config dns"
		for _, q := range []struct {
			service, proto string
		}{{"sip", "udp"}, {"sip", "tcp"}, {"sips", "tcp"}} {
			name := "_" + q.service + "._" + q.proto + "." + domain
			_, list, err := r.LookupSRV(ctx, q.service, q.proto, domain)
			var de *net.DNSError
			switch {
			case errors.As(err, &de) && de.IsNotFound:
				f.Bad("dns", mend, "there is no SRV record %s", name)
			case err != nil:
				f.Bad("dns", "look at /etc/resolv.conf", "%s: %v", name, err)
				return
			case !slices.ContainsFunc(list, func(x *net.SRV) bool { return ours(s, x.Target) }):
				f.Bad("dns", mend, "%s leads to %s, which is no host of these settings", name, list[0].Target)
			default:
				f.Good("dns", "%s leads to %s", name, list[0].Target)
			}
		}
	}
	if special(self.Name) {
		return
	}
	if list, err := r.LookupHost(ctx, self.Name); err != nil {
		f.Bad("dns", "enter an A or AAAA record for "+self.Name, "%s has no address", self.Name)
	} else {
		f.Good("dns", "%s is at %s", self.Name, strings.Join(list, " "))
	}
}

func ours(s *config.Settings, target string) bool {
	target = strings.TrimSuffix(target, ".")
	return slices.ContainsFunc(s.Hosts, func(h config.Host) bool { return strings.EqualFold(h.Name, target) }) ||
		slices.ContainsFunc(s.Pools, func(p config.Pool) bool { return strings.EqualFold(p.Name, target) })
}

// special are the names of RFC 6761 §6.
func special(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	return slices.Contains([]string{"test", "localhost", "invalid", "example"}, strings.ToLower(last))
}
