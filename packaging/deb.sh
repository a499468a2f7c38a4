#!/bin/sh
# Debian packages of what a build folder holds, without network and without debhelper: cinch, and cinch-gpu where the
# CUDA plugin was built. The same tree gives the same bytes (times are those of the last commit, or SOURCE_DATE_EPOCH).
# usage: packaging/deb.sh BUILD OUT      (DEB_COMPRESSION=none|gzip|xz; DEBFULLNAME, DEBEMAIL: the maintainer)
set -eu
[ $# -eq 2 ] || { echo "usage: packaging/deb.sh BUILD OUT" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
for tool in dpkg-deb dpkg-shlibdeps cmake gzip; do
    command -v $tool >/dev/null 2>&1 || { echo "deb: $tool is missing; install dpkg-dev, cmake and gzip" >&2; exit 1; }
done
[ -x "$1/bin/cinch" ] || { echo "deb: nothing is built in $1 yet; run: make" >&2; exit 1; }
build=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
version=$(sed -n 's/^CMAKE_PROJECT_VERSION:STATIC=//p' "$build/CMakeCache.txt")
arch=$(dpkg --print-architecture)
: "${SOURCE_DATE_EPOCH:=$(git -C "$here" log -1 --format=%ct 2>/dev/null || stat -c %Y "$here/../CMakeLists.txt")}"
export SOURCE_DATE_EPOCH
who="${DEBFULLNAME:-cinch developers} <${DEBEMAIL:-cinch@lists.debian.org}>"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022

# What the programs of $1 link, as Debian's packages.
shared_libraries() {
    mkdir -p "$work/debian"
    printf 'Source: cinch\n\nPackage: cinch\nArchitecture: any\n' >"$work/debian/control"
    find "$1/usr" -type f \( -perm -u+x -o -name '*.so' \) >"$work/files"
    (cd "$work" && xargs dpkg-shlibdeps -O --ignore-missing-info <files 2>/dev/null) | sed -n 's/^shlibs:Depends=//p'
}

# /usr/share/doc/PACKAGE: copyright and changelog; manuals and the changelog are compressed without a time.
documents() { # root package
    mkdir -p "$1/usr/share/doc/$2"
    cp "$here/deb/copyright" "$1/usr/share/doc/$2/copyright"
    {
        echo "cinch ($version) unstable; urgency=medium"
        echo
        echo "  * Built from the tree of version $version."
        echo
        echo " -- $who  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")"
    } | gzip -9n >"$1/usr/share/doc/$2/changelog.gz"
    rm -f "$1/usr/share/doc/$2/LICENSE" # the licence is in copyright
    if [ -d "$1/usr/share/man" ]; then find "$1/usr/share/man" -type f -exec gzip -9n {} +; fi
}

# DEBIAN/: control from its template, conffiles, sums, maintainer scripts where there are some.
control() { # root package depends
    mkdir -p "$1/DEBIAN"
    sed -e "s/@version@/$version/" -e "s/@arch@/$arch/" -e "s/@depends@/$3/" -e "s/@maintainer@/$who/" \
        -e "s/@size@/$(du -sk "$1/usr" | cut -f1)/" "$here/deb/$2.control" >"$1/DEBIAN/control"
    for script in postinst prerm postrm; do
        [ ! -f "$here/deb/$2.$script" ] || install -m 755 "$here/deb/$2.$script" "$1/DEBIAN/$script"
    done
    if [ -d "$1/etc" ]; then (cd "$1" && find etc -type f -printf '/%p\n' | sort) >"$1/DEBIAN/conffiles"; fi
    (cd "$1" && find usr -type f | LC_ALL=C sort | xargs md5sum) >"$1/DEBIAN/md5sums"
}

package() { # package component
    root=$work/$2
    DESTDIR="$root" cmake --install "$build" --prefix /usr --component "$2" --strip >/dev/null
    rm -f "$build"/install_manifest*.txt
    find "$root" -type f 2>/dev/null | grep -q . || { echo "deb: no $1: it is not in this build"; return 0; }
    if [ -f "$root/usr/lib/cinch/cinch-gpu.so" ]; then strip --strip-unneeded "$root/usr/lib/cinch/cinch-gpu.so"; fi
    documents "$root" "$1"
    control "$root" "$1" "$(shared_libraries "$root")"
    find "$root" -type d -exec chmod 755 {} +
    find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group "-Z${DEB_COMPRESSION:-xz}" --build "$root" "$out/$1_${version}_$arch.deb" >/dev/null
    echo "deb: $out/$1_${version}_$arch.deb"
}

package cinch cinch
package cinch-gpu gpu
