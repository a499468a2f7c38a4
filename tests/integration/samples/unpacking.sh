#!/bin/sh
# tools/samples.sh: four calls at once give whole folders; a second round leaves them alone; what an
# interrupted call left is cleared; a damaged archive is refused and nothing appears.
set -eu
work=$1
rm -rf "$work"
mkdir -p "$work/build/samples/.new-left"
fail() { echo "FAIL: $*"; exit 1; }

for i in 1 2 3 4; do
    "$CINCH_SOURCE_DIR/tools/samples.sh" "$work/build" >"$work/$i.log" 2>&1 &
    pids="${pids:-} $!"
done
for p in $pids; do wait "$p" || fail "a concurrent call failed: $(cat "$work"/*.log)"; done
[ "$(find "$work/build/samples/ptbxl" -name '*.dat' | wc -l)" = 1999 ] || fail "not 1999 PTB-XL records"
[ "$(find "$work/build/samples/mitdb" -name '*.atr' | wc -l)" = 5 ] || fail "not 5 MIT-BIH records"
[ "$(cat "$work"/*.log | grep -c 'ptbxl is in')" = 1 ] || fail "unpacked more than once"
[ -z "$(find "$work/build/samples" -name '.new-*')" ] || fail "temporary folders are left"

before=$(stat -c %i "$work/build/samples/ptbxl")
"$CINCH_SOURCE_DIR/tools/samples.sh" "$work/build"
[ "$(stat -c %i "$work/build/samples/ptbxl")" = "$before" ] || fail "unpacked again without need"

mkdir -p "$work/tree/tools" "$work/tree/samples"
cp "$CINCH_SOURCE_DIR/tools/samples.sh" "$work/tree/tools/"
cp "$CINCH_SOURCE_DIR/samples/SHA256SUMS" "$work/tree/samples/"
head -c 1000000 "$CINCH_SOURCE_DIR/samples/ptbxl-1999.tar.zst" >"$work/tree/samples/ptbxl-1999.tar.zst"
if "$work/tree/tools/samples.sh" "$work/other" >"$work/bad.log" 2>&1; then fail "a damaged archive was accepted"; fi
grep -q 'restore it from git' "$work/bad.log" || fail "no advice: $(cat "$work/bad.log")"
[ ! -e "$work/other/samples/ptbxl" ] || fail "half a folder appeared"
rm -rf "$work"
