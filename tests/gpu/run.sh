#!/bin/sh
# tests/gpu/run.sh PROGRAM ARGS...: runs a GPU test on a card where there is one, else on the PTX interpreter found in
# $CINCH_PTXEMU or beside the source tree (built once into the build folder), else skips (77) and says so.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
emu=${CINCH_PTXEMU:-$here/../shared/ptxemu}
if ls /dev/nvidia0 >/dev/null 2>&1; then exec "$@"; fi
if [ ! -x "$emu/build.sh" ] || ! command -v nvcc >/dev/null 2>&1; then
    echo "skipped: no GPU, and no PTX interpreter (CINCH_PTXEMU) to stand in for one"
    exit 77
fi
out=$PWD/ptxemu
(
    flock 9
    [ -f "$out/.done" ] || { "$emu/build.sh" "$out" && touch "$out/.done"; }
) 9>"$PWD/ptxemu.lock"
exec "$emu/run.sh" "$out" "$@"
