#!/bin/sh
# The whole way on real ECGs: a coordinator, a trainer and an evaluator as separate processes on this machine, a small grid,
# its report and artifacts, and one record classified with an int8 artifact. Everything is left in BUILD/demo.
# usage: tools/demo.sh BUILD
set -eu
[ $# -eq 1 ] || { echo "usage: tools/demo.sh BUILD" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1" && pwd)
bin=$build/bin
out=$build/demo
data=$build/samples/ptbxl
record=01320_lr # of the test fold; its cardiologist saw MI, HYP and STTC

"$root/tools/samples.sh" "$build"
rm -rf "$out"
mkdir -p "$out"
socket=$(mktemp -d /tmp/cinch-demo-XXXXXX) # short: a socket's path has at most 107 characters
export CINCH_COORDINATOR="ipc://$socket/cinch"
pids=""
finish() {
    for p in $pids; do kill "$p" 2>/dev/null || true; done
    for p in $pids; do wait "$p" 2>/dev/null || true; done
    rm -rf "$socket"
}
trap finish EXIT
trap 'exit 1' INT TERM

start() { # name command ...
    name=$1
    shift
    (umask 077 && : >"$out/$name.log") # the coordinator's has the link with its token
    "$@" >>"$out/$name.log" 2>&1 &
    pids="$! $pids" # stopped in reverse: the coordinator last
    echo "  $name: $(basename "$1"), process $!, log in $out/$name.log"
}

echo "Starting a coordinator and two workers:"
start coordinator "$bin/cinchd" --state "$out/state" --listen "$CINCH_COORDINATOR" --http 0
start trainer "$bin/cinch-train" --cpu
start evaluator "$bin/cinch-eval"
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -S "$socket/cinch" ] && break
    sleep 0.5
done
sed -n 's/.*dashboard at /  dashboard: /p' "$out/coordinator.log"

echo
echo "The grid:"
grep -v '^#' "$root/samples/grids/demo.yaml" | sed 's/^/  /'
echo
echo "\$ cinch submit samples/grids/demo.yaml --data $data"
answer=$("$bin/cinch" submit "$root/samples/grids/demo.yaml" --data "$data" --json)
run=$(printf '%s\n' "$answer" | sed -n 's/^ *"run": "\(.*\)",*$/\1/p')
printf '%s\n' "$answer" | sed -n 's/^ *"\(jobs\|artifacts\)": \([0-9]*\),*$/  \2 \1/p'
echo
echo "\$ cinch watch $run"
"$bin/cinch" watch "$run"
echo
echo "\$ cinch report $run -o $out/report"
"$bin/cinch" report "$run" -o "$out/report"
echo
echo "\$ cinch get $run -o $out/artifacts"
"$bin/cinch" get "$run" -o "$out/artifacts"
ls -l "$out/artifacts" | awk 'NR > 1 { printf "  %7d bytes  %s\n", $5, $NF }'
echo
artifact=$out/artifacts/cnn-s0-kd-r1-k0.5-L1-int8.cinch
echo "\$ cinch infer $(basename "$artifact") $record"
"$bin/cinch" infer "$artifact" "$record" --data "$data"
echo
echo "Done. Artifacts: $out/artifacts; report with figures: $out/report"
