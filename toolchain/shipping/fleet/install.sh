#!/bin/sh
# Makes the package in package.tar beside this file live, or with `back` the one that was live before; for Mender and RAUC.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/package.sh"

bring() { printf 'link:%s:%s\n' "$work/package/$2" "$2" >>"$work/recipe"; }

enter
if [ "$1" = back ]; then
    back
    exit
fi
rm -rf "$work/package" && mkdir "$work/package" || fail "$dir cannot be written"
tar xof "$here/package.tar" -C "$work/package" || fail "the package could not be unpacked"
list=$(sum <"$work/package/SHA256SUMS")
: >"$work/recipe"
each_of "$work/package/SHA256SUMS" bring
printf 'link:%s:SHA256SUMS\n' "$work/package/SHA256SUMS" >>"$work/recipe"
if [ -f "$work/package/model.sig" ]; then
    printf 'link:%s:model.sig\n' "$work/package/model.sig" >>"$work/recipe"
fi
if [ -n "$key" ]; then
    [ -f "$work/package/model.sig" ] || fail "the package is not signed"
    signed "$work/package/model.sig" "$list"
fi
live "$list"
