#!/bin/sh
# What int8 costs the net that classifies beats: trains `beat` with seeds 0, 1, 2, prunes each to 50 % of its structures,
# quantises in every mode and prints accuracy and macro-F1 on the test beats of the random split, mean of the seeds.
# Checkpoints stay in OUT and are not trained again.
# usage: bench/quant/beats.sh BUILD DATA OUT [EPOCHS [FINE_TUNE_EPOCHS]]
set -eu
build=$1 data=$2 out=$3 epochs=${4:-20} tune=${5:-8}
cinch=$build/bin/cinch
mkdir -p "$out"
for seed in 0 1 2; do
    whole=$out/beat-100-$seed.safetensors half=$out/beat-50-$seed.safetensors
    [ -f "$whole" ] || "$cinch" train --net beat --data "$data" --epochs "$epochs" --seed $seed --quiet -o "$whole" >&2
    [ -f "$half" ] || "$cinch" prune "$whole" --data "$data" --keep 0.5 --rounds 2 --epochs "$tune" --seed $seed --quiet -o "$half" >&2
    for model in "$whole" "$half"; do
        base=${model%.safetensors}
        for mode in float paper full best; do
            "$cinch" quantize "$model" --data "$data" --mode $mode --quiet -o "$base-$mode.cinch" >/dev/null
            "$cinch" eval "$base-$mode.cinch" --data "$data" --json >"$base-$mode.json"
        done
    done
done
python3 - "$out" <<'PYTHON'
import json, os, statistics, sys
out = sys.argv[1]
print("structures left  mode   accuracy  macro-F1   bytes")
for keep in ("100", "50"):
    for mode in ("float", "paper", "full", "best"):
        docs = [json.load(open(f"{out}/beat-{keep}-{s}-{mode}.json")) for s in range(3)]
        mean = lambda key: statistics.mean(d["classes"][key] for d in docs)
        size = os.path.getsize(f"{out}/beat-{keep}-0-{mode}.cinch")
        print(f"{keep:>13} %  {mode:<6} {mean('accuracy'):.4f}    {mean('macro_f1'):.4f}  {size:6d}")
PYTHON
