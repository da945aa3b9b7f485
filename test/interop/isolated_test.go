package interop

import (
	"os"
	"os/exec"
	"testing"
)

// isolated runs the calling test once more in a network of its own, and mounts of its own, where there is
// only loopback: well-known ports are free there, and nothing can leave. The test
// that gets false has had its run and returns.
//
//	if !isolated(t) { return }
func isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv("FERNAMT_ISOLATED") == t.Name() {
		return true
	}
	need(t, "unshare", "ip")
	if os.Geteuid() != 0 {
		leaveOut(t, "root, for a network of its own,")
	}
	cmd := exec.Command("unshare", "-n", "-m", "sh", "-c", `ip link set lo up && exec "$0" "$@"`, os.Args[0],
		"-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", "10m")
	cmd.Env = append(os.Environ(), "FERNAMT_ISOLATED="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in a network of its own: %v\n%s", err, out)
	}
	t.Logf("in a network of its own:\n%s", out)
	return false
}
