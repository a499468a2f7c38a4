#!/bin/sh
# Runs every libFuzzer program of a build folder (cmake -DCINCH_FUZZ=ON, clang) for so many seconds each, as many at once as
# there are cores (JOBS=). New inputs are kept in BUILD/fuzz/corpus, what breaks in BUILD/fuzz/found. The last line counts.
# usage: tools/fuzz.sh BUILD SECONDS [NAME ..]
set -u
build=$(cd "$1" && pwd) seconds=$2 self=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
shift 2
cd "$build/fuzz" || exit 2
mkdir -p found log
names=${*:-$(cut -d' ' -f1 list)}

one() {
    seeds=$(sed -n "s|^$1 ||p" list)
    mkdir -p "corpus/$1"
    "./$1" -max_total_time="$2" -timeout=25 -rss_limit_mb=2048 -artifact_prefix="found/$1-" \
        -print_final_stats=1 "corpus/$1" $seeds >"log/$1" 2>&1
}

if [ "${FUZZ_ONE:-}" ]; then # one of the calls below
    one "$FUZZ_ONE" "$seconds" && echo "clean  $FUZZ_ONE: $(sed -n 's/.*number_of_executed_units: *//p' "log/$FUZZ_ONE") runs" ||
        echo "BROKEN $FUZZ_ONE: see $build/fuzz/log/$FUZZ_ONE"
    exit 0
fi
printf '%s\n' $names | xargs -P "${JOBS:-$(nproc)}" -I{} env FUZZ_ONE={} "$self" "$build" "$seconds" 2>&1 | tee summary
awk '/^clean/ { c++ } /^BROKEN/ { b++ } END { printf "%d passed, %d failed\n", c, b; exit (b > 0 || c == 0) }' summary
