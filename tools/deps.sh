#!/bin/sh
# Installs what tools/deps.txt (or the list given) names where apt-get exists, with sudo when not root; does nothing when all is
# there; elsewhere says what is needed.
set -eu
list=$(grep -v "^#" "${1:-$(dirname "$0")/deps.txt}")
if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "cinch needs these libraries (Debian's names); install them with this system's package manager:"
    echo "$list"
    exit 1
fi
missing=""
for p in $list; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q "install ok installed" || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
echo "deps: installing$missing"
sudo=""
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "deps: not root and no sudo; run as root: apt-get install$missing"; exit 1; }
    sudo=sudo
fi
$sudo apt-get update -q
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends $missing
