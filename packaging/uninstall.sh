#!/bin/sh
# Removes what `cmake --install` puts under a prefix: it installs once more into an empty folder to know which files
# those are. A file of /etc that was changed stays, and so does every folder that holds something else.
# usage: packaging/uninstall.sh BUILD [PREFIX]      (DESTDIR in the environment, as for make install)
set -eu
[ $# -ge 1 ] || { echo "usage: packaging/uninstall.sh BUILD [PREFIX]" >&2; exit 2; }
root=${DESTDIR:-}
list=$(mktemp -d)
trap 'rm -rf "$list"' EXIT
DESTDIR="$list" cmake --install "$1" ${2:+--prefix "$2"} >/dev/null
rm -f "$1"/install_manifest*.txt
(cd "$list" && find . ! -type d) | while read -r file; do
    at=$root/${file#./}
    case $file in
    */etc/*) [ ! -e "$at" ] || cmp -s "$list/$file" "$at" || { echo "kept, because it was changed: $at"; continue; } ;;
    esac
    rm -f "$at"
done
# Deepest first; only folders named cinch are ours alone, others go when nothing is left in a temporary root.
(cd "$list" && find . -mindepth 1 -depth -type d) | while read -r folder; do
    case $folder in
    *cinch*) rmdir "$root/${folder#./}" 2>/dev/null || true ;;
    esac
done
