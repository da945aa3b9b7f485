#!/bin/sh
# Runs every check and every test: what `make test` does, and with it .ci/run.
# The run's record stays in bin/test: test.json, secrets, the servers' logs.
set -u
GO=${GO:-go}
began=$(date +%s)
failed=0
step() { echo "== $* ($(($(date +%s) - began))s)"; }
must() { "$@" || { echo "FAILED: $*"; failed=$((failed + 1)); }; }

step install
must sh test/install.sh

step gofmt
unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || { echo "not formatted: $unformatted"; failed=$((failed + 1)); }

step go vet
must $GO vet ./...

step staticcheck
must $GO run "$STATICCHECK" ./...

step build
must $GO build -o bin/fernamt .

step test
rm -rf bin/test && mkdir -p bin/test
FERNAMT_TEST_DIR=$PWD/bin/test
export FERNAMT_TEST_DIR
$GO test -race -vet=off -json -timeout 30m ./... 2>&1 | $GO run ./test/verdict bin/test |
	tee bin/test/verdict | sed '$d'
step record
FERNAMT_RUN=$PWD/bin/test/test.json must $GO test -count=1 -run '^TestSeedRun$' ./test

[ "$failed" -eq 0 ] || echo "and $failed checks beside the tests failed"
step end
# The closing line counts the failed checks too.
tail -n 1 bin/test/verdict | awk -v f="$failed" '{ print $1 " passed, " $3 + f " failed"; exit ($3 + f > 0 || $2 != "passed,") }'
