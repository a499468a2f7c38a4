#!/bin/sh
# Unpacks the sample recordings of samples/ into BUILD/samples/{ptbxl,mitdb}, for the demo and the tests.
# Does nothing when they are there and belong to the archives of this tree; safe to call from several
# processes at once; a folder appears under its name only when it is complete.
# usage: tools/samples.sh BUILD
set -eu
[ $# -eq 1 ] || { echo "usage: tools/samples.sh BUILD" >&2; exit 2; }
from=$(cd "$(dirname "$0")/../samples" && pwd)
mkdir -p "$1/samples"
out=$(cd "$1/samples" && pwd)
for tool in tar zstd sha256sum flock; do
    command -v $tool >/dev/null 2>&1 || { echo "samples: $tool is missing; run: make deps" >&2; exit 1; }
done

unpack() { # folder archive
    want=$(grep " $2\$" "$from/SHA256SUMS")
    if [ -d "$out/$1" ] && [ "$(cat "$out/.$1.sum" 2>/dev/null)" = "$want" ]; then
        return 0
    fi
    (cd "$from" && echo "$want" | sha256sum --check --quiet --strict -) ||
        { echo "samples: samples/$2 is not the file that samples/SHA256SUMS names; restore it from git" >&2; exit 1; }
    new=$(mktemp -d "$out/.new-XXXXXX")
    tar --zstd --no-same-owner -xf "$from/$2" -C "$new" || { rm -rf "$new"; exit 1; }
    rm -rf "$out/.$1.sum" "${out:?}/$1"
    chmod -R u+w,go+rX "$new/$1"
    mv "$new/$1" "$out/$1"
    rmdir "$new"
    echo "$want" >"$out/.$1.sum"
    echo "samples: $1 is in $out/$1"
}

exec 9>"$out/.lock"
flock 9
rm -rf "$out"/.new-* # left by a call that was killed; under the lock nobody else's
unpack ptbxl ptbxl-1999.tar.zst
unpack mitdb mitdb-5.tar.zst
