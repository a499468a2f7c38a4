#!/bin/sh
# What int8 costs in accuracy: trains NET with seeds 0, 1, 2, prunes each to 50 % and 12.5 % of its structures,
# quantises all nine in every mode and prints float minus int8 macro-AUROC on the test fold. Checkpoints stay in
# OUT and are not trained again.
# usage: bench/quant/accuracy.sh BUILD DATA OUT NET [EPOCHS [FINE_TUNE_EPOCHS]]
set -eu
build=$1 data=$2 out=$3 net=$4 epochs=${5:-24} tune=${6:-10}
mkdir -p "$out"
for seed in 0 1 2; do
    whole=$out/$net-100-$seed.safetensors
    [ -f "$whole" ] || "$build/bin/cinch" train --net "$net" --data "$data" --recipe cinch --epochs "$epochs" \
        --seed $seed --quiet -o "$whole"
    for keep in 50 12.5; do
        to=$out/$net-$keep-$seed.safetensors
        [ -f "$to" ] || "$build/bin/cinch" prune "$whole" --data "$data" --keep "$(awk "BEGIN{print $keep/100}")" --rounds 2 \
            --recipe cinch --epochs "$tune" --seed $seed --quiet -o "$to"
    done
done
for keep in 100 50 12.5; do
    "$build/bin/bench_accuracy" --data "$data" "$out/$net-$keep-0.safetensors" "$out/$net-$keep-1.safetensors" \
        "$out/$net-$keep-2.safetensors"
done
