#!/bin/sh
# Runs every test of a build folder; the last line is "N passed, N failed, N skipped".
# usage: tools/test.sh BUILD [ctest options]
set -u
build=$1
shift
out=$build/ctest.log
ctest --test-dir "$build" --output-on-failure -j "$(nproc)" "$@" 2>&1 | tee "$out"
awk '
    / Passed / && /Test +#/ { passed++ }
    /\*\*\*Skipped/ || /\*\*\*Not Run/ { skipped++; next }
    /Test +#/ && /\*\*\*/ { failed++ }
    END {
        printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
        exit (failed > 0 || passed == 0)
    }' "$out"
