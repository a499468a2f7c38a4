#!/bin/sh
# usage: sysroot.sh ARCH TRIPLET DIR   (arm64 aarch64-linux-gnu)
# Fills DIR/root with another machine's headers and libraries: the -dev packages of deps.txt, everything they need included, fetched by
# an apt with a state of its own; and DIR/compiler with the compiler for it, where this machine has none. All is unpacked, not
# installed: it needs no root, and the packages of this machine stay as they are.
set -eu
arch=$1 triplet=$2
mkdir -p "$3"
dir=$(cd "$3" && pwd)
[ ! -f "$dir/complete" ] || exit 0
command -v apt-get >/dev/null 2>&1 || { echo "sysroot: no apt-get here; put a $arch root file system into $dir and make $dir/complete"; exit 1; }
apt=$dir/apt
mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$dir/root/usr/lib"
: >"$apt/state/status"
cat >"$apt/conf" <<CONF
Dir::State "$apt/state";
Dir::State::status "$apt/state/status";
Dir::Cache "$apt/cache";
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Install-Recommends "false";
CONF
list="libc6-dev $(grep -E '^lib.*-dev$' "$(dirname "$0")/deps.txt")"

# Debian's gcc works from any folder; it finds its assembler and linker beside itself.
if ! command -v "$triplet-gcc" >/dev/null 2>&1; then
    echo "sysroot: fetching the compiler for $arch into $dir/compiler"
    gcc=$(apt-cache depends --important "gcc-$triplet" | sed -n "s/.*Depends: \(gcc-[0-9]*-$triplet\)/\1/p")
    [ -n "$gcc" ] || { echo "sysroot: no package gcc-$triplet here"; exit 1; }
    version=${gcc#gcc-} version=${version%%-*}
    mkdir -p "$apt/gcc" "$dir/compiler/bin" "$dir/compiler/usr/$triplet/bin"
    (cd "$apt/gcc" && apt-get download -q "$gcc" "cpp-$version-$triplet" "libgcc-$version-dev-$arch-cross" \
        "libgcc-s1-$arch-cross" >"$apt/log" 2>&1) || { tail -5 "$apt/log"; echo "sysroot: the compiler cannot be had"; exit 1; }
    for deb in "$apt"/gcc/*.deb; do dpkg-deb -x "$deb" "$dir/compiler"; done
    ln -sf "../usr/bin/$triplet-gcc-$version" "$dir/compiler/bin/$triplet-gcc"
    for tool in as ld ld.bfd; do ln -sf "$(command -v "$triplet-$tool")" "$dir/compiler/usr/$triplet/bin/$tool"; done
fi
echo "sysroot: fetching $arch packages into $dir"
export APT_CONFIG="$apt/conf"
apt-get update -q >"$apt/log" 2>&1 || { tail -5 "$apt/log"; echo "sysroot: apt-get update failed"; exit 1; }
# shellcheck disable=SC2086
apt-get install -y -q --download-only $list >>"$apt/log" 2>&1 || { tail -5 "$apt/log"; echo "sysroot: not all packages can be had"; exit 1; }
[ -e "$dir/root/lib" ] || ln -s usr/lib "$dir/root/lib" # as Debian's root has it; linker scripts name /lib
for deb in "$apt"/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$dir/root" --keep-directory-symlink --exclude=./usr/share --exclude=./dev --exclude=./etc
done
# What the alternatives system would link on an installed machine.
for libs in "$dir"/root/usr/lib/*-linux-gnu/openblas-pthread; do
    ln -sf openblas-pthread/libopenblas.so "$libs/../libopenblas.so"
    ln -sf openblas-pthread/libopenblas.so.0 "$libs/../libopenblas.so.0"
done
rm -rf "$apt"
touch "$dir/complete"
