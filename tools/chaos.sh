#!/bin/sh
# make chaos: what the tests do in seconds, at full length, with real programs and a real grid. Side by side: SECONDS of faults
# (1200), and a coordinator that is away for AWAY seconds (600; 0: leave it out); then RECONNECTS connections (10000), and 1,000
# hostile ones at once.
# usage: tools/chaos.sh BUILD
set -u
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")/.." && pwd)
"$here/tools/samples.sh" "$build" || exit 1
export CINCH_BIN="$build/bin"
real="--grid $here/tests/chaos/grid.yaml --data $build/samples/ptbxl"
failed=0
away=
if [ "${AWAY:-600}" != 0 ]; then
    # shellcheck disable=SC2086
    python3 "$here/tests/chaos/away.py" --seconds "${AWAY:-600}" $real >"$build/away.log" 2>&1 &
    away=$!
fi
# shellcheck disable=SC2086
python3 "$here/tests/chaos/chaos.py" --seconds "${SECONDS_OF_FAULTS:-1200}" --pause 2 $real || failed=1
if [ -n "$away" ]; then
    wait "$away" || failed=1
    cat "$build/away.log"
fi
CINCH_RECONNECTS="${RECONNECTS:-10000}" "$build/tests/test_reconnects" >"$build/reconnects.log" 2>&1 || failed=1
grep -E 'connections|ERROR|FAILED' "$build/reconnects.log"
HOSTILE=1000 HOSTILE_SECONDS=60 python3 "$here/tests/integration/coordinator/test_hostile.py" || failed=1
exit $failed
