package manage

import (
	"net/netip"
	"testing"

	"fernamt/core/admin"
	"fernamt/core/config"
	"fernamt/core/host"
	"fernamt/test/is"
)

func suite() *host.Host {
	s := config.Defaults()
	s.Hosts = []config.Host{
		{Name: "fe1.example.test", Roles: []string{"manage"}, Internal: []netip.Addr{netip.MustParseAddr("127.0.1.1")}},
		{Name: "fe2.example.test", Roles: []string{"frontend"}, Internal: []netip.Addr{netip.MustParseAddr("127.0.1.2")}},
		{Name: "fe3.example.test", Roles: []string{"manage"}, Internal: []netip.Addr{netip.IPv4Unspecified()}},
	}
	return &host.Host{Role: "manage", Settings: s}
}

// Who may do what: operators that the settings name everything, hosts that administer some, nobody else anything.
func TestCaller(t *testing.T) {
	m := &role{Operators: []string{"ops.example.test"}}
	for _, c := range []struct {
		names []string
		want  admin.Caller
		ok    bool
	}{
		{[]string{"ops.example.test"}, admin.Caller{Name: "ops.example.test", Rights: admin.Own}, true},
		{[]string{"fe2.example.test", "OPS.example.test"}, admin.Caller{Name: "OPS.example.test", Rights: admin.Own}, true},
		{[]string{"FE1.example.test"}, admin.Caller{Name: "FE1.example.test", Rights: admin.Change}, true},
		{[]string{"fe2.example.test"}, admin.Caller{}, false},
		{[]string{"phone.example.test"}, admin.Caller{}, false},
		{[]string{"example.test"}, admin.Caller{}, false},
		{nil, admin.Caller{}, false},
	} {
		got, ok := m.caller(suite(), c.names)
		is.Equal(t, ok, c.ok)
		is.Equal(t, got, c.want)
	}
}

func TestPlace(t *testing.T) {
	at, err := place(suite(), "FE1.example.test", 10135)
	is.NoErr(t, err)
	is.Equal(t, at, netip.MustParseAddrPort("127.0.1.1:10135"))
	for name, part := range map[string]string{"fe2.example.test": "does not play", "fe3.example.test": "set internal", "x": "known: fe1"} {
		_, err := place(suite(), name, 135)
		is.Err(t, err, part)
	}
}

// The role can be asked for its doors and commands before it runs.
func TestBeforeRun(t *testing.T) {
	r := New()
	for _, p := range r.Ports() {
		is.NoErr(t, p.Check())
	}
	_, err := admin.NewTable(r.Commands()...)
	is.NoErr(t, err)
	err = r.(*role).remote(t.Context(), &admin.Call{Args: []string{"fe1.example.test", "version"}})
	is.Err(t, err, "does not run yet")
}
