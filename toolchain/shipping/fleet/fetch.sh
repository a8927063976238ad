#!/bin/sh
# Fetches the package that a tag of an OCI registry leads to, and makes it live. It needs curl, and what receive.sh needs.
#
# A package lies there as its files, each by its SHA-256, with a manifest as `nnx push` writes it. So the list of them,
# SHA256SUMS, is fetched first, its signature looked at, and then each file that is not here yet. What arrived stays for
# the next try. `login` beside this file, of the mode 600, may hold a line for curl: user = "name:password"

here=$(cd "$(dirname "$0")" && pwd)
. "$here/package.sh"
authorization=

# --- the registry

# $1 of the repository becomes the file $2, of at most $3 bytes
get() {
    code=$(ask "$1" "$2" "$3")
    ended=$?
    if [ "$code" = 401 ]; then
        let_in
        code=$(ask "$1" "$2" "$3")
        ended=$?
    fi
    [ "$code" != 416 ] || ended=33
    # what does not go on begins anew: the registry knows no parts, the disk is full, or more comes than should
    case $ended in 23 | 33 | 153) rm -f "$2" ;; esac
    [ $ended -eq 0 ]
}

# the answer's status; a file that is here in part goes on
ask() (
    ulimit -f $(($3 / 512 + 1)) 2>/dev/null
    printf '%s\n' "$authorization" | curl --config - --globoff --silent --show-error --fail --location --proto "=$protocols" \
        --connect-timeout 30 --speed-limit 100 --speed-time 60 --retry 3 --header "Accept: $accept" \
        --continue-at - --dump-header "$work/headers" --output "$2" --write-out '%{http_code}' "$registry/v2/$repository/$1"
)

# with a token or a password, as the answer 401 asks for
let_in() {
    challenge=$(tr -d '\r' <"$work/headers" | sed -n 's/^[Ww]\{3\}-[Aa]uthenticate: *//p' | tail -n 1)
    login=/dev/null
    [ ! -f "$here/login" ] || login=$here/login
    case $challenge in
    [Bb]earer*)
        token=$(curl --config "$login" --globoff --silent --show-error --fail --proto "=$protocols" --max-time 60 --get \
            --data-urlencode "service=$(part service)" --data-urlencode "scope=$(part scope)" --url "$(part realm)" |
            tr -d '\n\r' | sed -n 's/.*"\(access_\)\{0,1\}token": *"\([A-Za-z0-9._~+/=-]*\)".*/\2/p')
        authorization="header = \"Authorization: Bearer $token\""
        ;;
    [Bb]asic*) authorization=$(cat "$login") ;;
    esac
}

part() { printf '%s\n' "$challenge" | sed -n "s/.*[ ,]$1=\"\([^\"]*\)\".*/\1/p"; }

# --- its manifest

# the digest of the file $1
digest_of() {
    tr '{' '\n' <"$work/manifest" | sed -n "s/^\"org.cncf.model.filepath\":\"$1\",.*},\"digest\":\"sha256:\([0-9a-f]\{64\}\)\".*/\1/p"
}

size_of() {
    tr '{' '\n' <"$work/manifest" | sed -n "s/.*\"digest\":\"sha256:$1\",.*\"size\":\([0-9]\{1,15\}\)[^0-9].*/\1/p" | head -n 1
}

# --- its files

# the file of the SHA-256 $1 becomes $work/$1
fetch() {
    [ ! -f "$work/$1" ] || [ "$(sum <"$work/$1")" != "$1" ] || return 0
    rm -f "$work/$1"
    size=$(size_of "$1")
    [ -n "$size" ] || fail "the manifest has no file of the SHA-256 $1"
    [ "$size" -gt 0 ] || : >"$work/$1.part"
    [ "$size" -eq 0 ] || get "blobs/sha256:$1" "$work/$1.part" "$size" || fail "the registry did not give the file of the SHA-256 $1"
    if [ "$(sum <"$work/$1.part")" != "$1" ]; then
        rm -f "$work/$1.part"
        fail "what came is not the file of the SHA-256 $1"
    fi
    mv "$work/$1.part" "$work/$1" && fetched=$((fetched + 1))
}

# a line of the recipe for the file $2 of the SHA-256 $1, which is fetched unless the live package has it
bring() {
    place=
    if [ -f current/SHA256SUMS ]; then
        had=$(sed -n "s/^$1  //p" current/SHA256SUMS | head -n 1)
        [ -z "$had" ] || ! fit "$had" || [ "$(sum <"current/$had")" != "$1" ] || place=$(readlink current)/$had
    fi
    if [ -z "$place" ]; then
        fetch "$1"
        place=$work/$1
    fi
    printf 'link:%s:%s\n' "$place" "$2" >>"$work/recipe"
}

accept=application/vnd.oci.image.manifest.v1+json
enter
rm -f "$work/manifest"
get "manifests/$tag" "$work/manifest" 4194304 || fail "$registry does not give $repository:$tag"
list=$(digest_of SHA256SUMS)
[ ${#list} = 64 ] || fail "$repository:$tag is no package"
if [ "$(live_now)" = "$list" ]; then
    echo "$repository:$tag is live"
    rm -rf "$work"
    exit 0
fi
[ "$(cat .nnx/refused 2>/dev/null)" != "$list" ] || fail "this package was refused before: remove $dir/.nnx/refused to try again"
accept='*/*'
fetched=0
: >"$work/recipe"
fetch "$list"
printf 'link:%s:SHA256SUMS\n' "$work/$list" >>"$work/recipe"
signature=$(digest_of 'model\.sig')
[ -z "$key" ] || [ ${#signature} = 64 ] || fail "the package is not signed"
if [ ${#signature} = 64 ]; then
    fetch "$signature"
    [ -z "$key" ] || signed "$work/$signature" "$list"
    printf 'link:%s:model.sig\n' "$work/$signature" >>"$work/recipe"
fi
for old in "$work"/*; do # of a tag that has moved on meanwhile
    name=${old##*/} && name=${name%.part}
    [ ${#name} -ne 64 ] || [ "$name" = "$list" ] || [ "$name" = "$signature" ] || grep -q "^$name " "$work/$list" || rm -f "$old"
done
each_of "$work/$list" bring
echo "$fetched files fetched"
live "$list"
