#!/bin/sh
# Installs what the interop tests drive: other people's phones and servers, from
# Debian, and the JavaScript phone from npm. Without root it only says what is
# missing; those tests are then left out by name.
set -u
missing=
need() { # need COMMAND PACKAGE...
	command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || { shift; missing="$missing $*"; }
}
need gcc gcc libc6-dev
need baresip baresip-core
need linphone-daemon linphone-cli
need sipsak sipsak
need sipp sip-tester
need kamailio kamailio
need ip iproute2
need unshare util-linux
need openssl openssl
need node nodejs
need npm npm
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"

if [ -n "$missing" ]; then
	if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
		echo "not installed (root and apt-get would be needed):$missing"
		exit 0
	fi
	echo "installing:$missing"
	# Nothing that is installed may start by itself.
	policy=/usr/sbin/policy-rc.d
	[ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && ours=yes; }
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get update -q && apt-get install -q -y --no-install-recommends $missing; } >/tmp/fernamt-install.$$ 2>&1
	status=$?
	[ "${ours:-}" = yes ] && rm -f $policy
	[ $status -eq 0 ] || tail -n 20 /tmp/fernamt-install.$$
	rm -f /tmp/fernamt-install.$$
	[ $status -eq 0 ] || exit $status
fi

js=test/interop/node
done=$js/node_modules/.package-lock.json
if command -v npm >/dev/null 2>&1 && { [ ! -e $done ] || [ $js/package-lock.json -nt $done ]; }; then
	(cd $js && npm ci --no-audit --no-fund --silent) || exit 1
	touch $done
fi
