#!/bin/bash
# bench/gpu/card.sh [build|test|sanitize|bench|all] [-o FOLDER]: what a first machine with an NVIDIA card is asked, in one command.
#
# Needs CUDA 13, a C compiler and CMake; cuDNN, NCCL, cmocka, compute-sanitizer, ncu and PyTorch are used where they are. Each stage
# stands alone (test, sanitize and bench want a build); `all` ends within eight minutes on a card. Results lie in FOLDER
# (./card-report), summary.md first. The exit status is 0 when everything that ran held.
# Without a card CINCH_PTXEMU names a PTX interpreter, on which build, test and bench run with tiny sizes: figures mean nothing there.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
stage=all out=$PWD/card-report
while [ $# -gt 0 ]; do
    case $1 in
    build | test | sanitize | bench | all) stage=$1 ;;
    -o)
        [ $# -gt 1 ] || { echo "card.sh: -o wants a folder" >&2; exit 2; }
        out=$2
        shift
        ;;
    -h | --help)
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
        exit 0
        ;;
    *)
        echo "card.sh: '$1' is not understood; see --help" >&2
        exit 2
        ;;
    esac
    shift
done
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
build=$out/build summary=$out/summary.md failed=0
export XDG_CACHE_HOME=$out/cache # engines are chosen anew
mkdir -p "$XDG_CACHE_HOME"
PATH=$PATH:/usr/local/cuda/bin
card=
ls /dev/nvidia0 >/dev/null 2>&1 && card=1

# say LINE: to the summary and the terminal
say() { echo "$1" | tee -a "$summary"; }

# run NAME SECONDS COMMAND ...: one row of the summary; 77 means that there was nothing to run it on
run() {
    local name=$1 limit=$2 from=$SECONDS rc
    shift 2
    timeout -k 5 "$limit" "$@" >"$out/$name.log" 2>&1
    rc=$?
    case $rc in
    0) say "| $name | held | $((SECONDS - from)) s | |" ;;
    77) say "| $name | skipped | | $(grep -m1 skipped "$out/$name.log" | tr '|' '/') |" ;;
    *)
        say "| $name | **failed** ($rc) | $((SECONDS - from)) s | see $name.log |"
        failed=1
        ;;
    esac
    return $rc
}

# on PROGRAM ARGS ...: on the card, or on the interpreter
on() { (cd "$build" && "$root/tests/gpu/run.sh" "$@"); }
export -f on
export build root

table() { say "" && say "## $1" && say "" && say "| what | result | took | |" && say "|---|---|---|---|"; }

stage_build() {
    table build
    local archs=fast
    [ -n "$card" ] && archs=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | sort -u | paste -sd ';')
    run configure 60 cmake -S "$root/bench/gpu" -B "$build" -DCINCH_CUDA_ARCHS="${archs:-fast}" ${CARD_CMAKE:-} &&
        run compile 600 cmake --build "$build" -j "$(nproc)"
}

stage_test() {
    table tests
    local engine precision
    if [ -n "$card" ]; then
        for engine in native cudnn auto; do
            for precision in fp32 tf32 bf16; do
                [ "$engine-$precision" = native-tf32 ] || [ "$engine-$precision" = native-bf16 ] && continue
                run "ops-$engine-$precision" 60 env CINCH_TEST_ENGINE=$engine CINCH_TEST_PRECISION=$precision bash -c 'on ./test_gpu_ops'
            done
        done
        for engine in native cudnn auto; do
            run "step-$engine" 60 env CINCH_TEST_ENGINE=$engine bash -c 'on ./test_gpu_step'
        done
        run ranks 60 bash -c 'on ./test_gpu_ranks'
    else
        run ops-native-fp32 600 bash -c 'on ./test_gpu_ops'
        run ops-cudnn-bf16 600 env CINCH_TEST_ENGINE=cudnn CINCH_TEST_PRECISION=bf16 bash -c 'on ./test_gpu_ops'
        run ranks 600 env PTXEMU_DEVICES=2 bash -c 'on ./test_gpu_ranks'
    fi
}

stage_sanitize() {
    table "compute-sanitizer"
    if [ -z "$card" ] || ! command -v compute-sanitizer >/dev/null; then
        say "| memcheck, racecheck, initcheck, synccheck | skipped | | no card, or no compute-sanitizer |"
        return 0
    fi
    local tool
    for tool in memcheck racecheck initcheck synccheck; do
        run "$tool" 60 bash -c "cd '$build' && compute-sanitizer --tool $tool --error-exitcode 9 ./test_gpu_ops"
    done
}

stage_bench() {
    table bench
    local tiny=
    local limit=150
    [ -n "$card" ] || tiny=tiny limit=900 CINCH_GPU_ENGINE=native # an interpreter is in no hurry, and times nothing
    export CINCH_GPU_ENGINE=${CINCH_GPU_ENGINE:-auto}
    if run bench_gpu $limit bash -c "on ./bench_gpu bin/cinch-gpu.so $tiny"; then
        say ""
        sed -n '/^net/,$p' "$out/bench_gpu.log" | awk -F'\t' -v OFS=' | ' '{$1 = $1; print "| " $0 " |"} NR == 1 {print "|---|---|---|---|---|---|---|"}' | tee -a "$summary"
        [ -n "$card" ] || say "These figures come from an interpreter and mean nothing."
        say ""
        say "| what | result | took | |" && say "|---|---|---|---|"
    fi
    if [ -n "$card" ] && python3 -c 'import torch' 2>/dev/null; then
        run peer_gpu 120 python3 "$root/bench/gpu/peer_gpu.py"
    else
        say "| peer_gpu | skipped | | no card, or no PyTorch |"
    fi
    if [ -n "$card" ] && command -v ncu >/dev/null; then
        run ncu 60 ncu --print-summary per-kernel --launch-count 200 "$build/bench_gpu" "$build/bin/cinch-gpu.so" tiny
    else
        say "| ncu | skipped | | no card, or no Nsight Compute |"
    fi
}

if [ "$stage" = all ] || [ "$stage" = build ]; then
    {
        echo "# The card, $(date -u +%Y-%m-%dT%H:%MZ)"
        echo
        nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv 2>/dev/null || echo "no card: on a PTX interpreter"
        nvcc --version 2>/dev/null | tail -1
    } >"$summary"
fi
case $stage in
all)
    stage_build && { stage_test; stage_sanitize; stage_bench; }
    ;;
*) stage_"$stage" ;;
esac
say ""
[ $failed = 0 ] && say "Everything that ran held." || say "**Something failed.**"
exit $failed
