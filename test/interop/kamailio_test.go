package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// kamailioConfig is a registrar and record-routing proxy without accounts for
// its own domain; what is for another domain it sends on by RFC 3263.
const kamailioConfig = `#!KAMAILIO
debug=-1
log_stderror=yes
fork=yes
children=2
tcp_children=2
auto_aliases=no
dns_srv_lb=yes
alias="%[1]s"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("usrloc", "db_mode", 0)
request_route {
  if (!mf_process_maxfwd_header("10")) { sl_send_reply("483","Too Many Hops"); exit; }
  if (has_totag()) {
    if (loose_route()) { t_relay(); exit; }
    if (is_method("ACK")) { if (t_check_trans()) t_relay(); exit; }
    sl_send_reply("404","Not here"); exit;
  }
  if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
  if (!is_method("ACK")) t_check_trans();
  remove_hf("Route"); # a phone names its outbound proxy: us
  if (is_method("REGISTER")) { save("location"); exit; }
  if (is_method("INVITE|SUBSCRIBE")) record_route();
  if (!uri == myself) { %[2]s t_relay(); exit; }
  if (!lookup("location")) { sl_send_reply("404","Not Found"); exit; }
  t_relay();
}
`

// startKamailio starts a proxy for a domain on 127.0.0.1:port. other is where
// requests for other domains go: "" leaves it to Kamailio's own resolver.
func startKamailio(t *testing.T, domain string, port int, other string) *program {
	t.Helper()
	need(t, "kamailio")
	dir := t.TempDir()
	next := ""
	if other != "" {
		next = fmt.Sprintf("$du = \"sip:%s\";", other)
	}
	file := filepath.Join(dir, "kamailio.cfg")
	if err := os.WriteFile(file, fmt.Appendf(nil, kamailioConfig, domain, next), 0o600); err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("127.0.0.1:%d", port)
	k := start(t, launch{}, which("kamailio"), "-DD", "-E", "-f", file, "-l", "udp:"+at, "-l", "tcp:"+at,
		"-w", dir, "-Y", dir, "-m", "64", "-M", "8")
	t.Cleanup(func() {
		k.stop()
		if t.Failed() {
			t.Logf("kamailio said:\n%s", tail(k.output()))
		}
	})
	until(t, 15*time.Second, "kamailio", func() bool { return answers(at) })
	return k
}
