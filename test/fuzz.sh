#!/bin/sh
# Runs every fuzz target for a while. What is found is kept in testdata/fuzz.
set -u
GO=${GO:-go}
status=0
for f in $(grep -rl --include='*_test.go' '^func Fuzz' .); do
	for name in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$f"); do
		echo "== $name in $(dirname "$f")"
		$GO test -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-20s}" "$(dirname "$f")" || status=1
	done
done
exit $status
