# What the carriers of a fleet share on a device: is a package signed, and does receive.sh make it live.
#
# `here` is the folder of these files; `settings` beside them says `dir` (where packages live), `python`, `within`
# (seconds), `after` (a check once it is live), and, where a signature is wanted, `key` and `hash`.

export LC_ALL=C
umask 022
. "$here/settings"
work=.nnx/fetched # below $dir, so that files become part of a package by a link

fail() { printf '%s\n' "$*" >&2; exit 1; }
sum() { sum=$(sha256sum) && printf '%s\n' "${sum%% *}"; }
size() { printf '%s\n' "$(($(wc -c <"$1")))"; }

enter() {
    mkdir -p "$dir/$work" && cd "$dir" || fail "$dir cannot be made"
}

# the package that is live, by the SHA-256 of its list
live_now() {
    now=$(readlink current 2>/dev/null) && now=${now#releases/} && printf '%s\n' "${now%%+*}"
}

# --- what is signed

# a string of JSON called $1
field() { tr -d '\n\r' | sed -n "s,.*\"$1\": *\"\([A-Za-z0-9+/=]*\)\".*,\1,p"; }

# $1, a model.sig, signs with our key the list of files whose SHA-256 is $2: https://github.com/ossf/model-signing-spec
signed() {
    command -v openssl >/dev/null || fail "there is no openssl here, so no signature can be looked at"
    field payload <"$1" | openssl base64 -d -A >"$work/payload" && field sig <"$1" | openssl base64 -d -A >"$work/sig" ||
        fail "model.sig is no signature"
    {
        printf 'DSSEv1 28 application/vnd.in-toto+json %s ' "$(size "$work/payload")"
        cat "$work/payload"
    } >"$work/covered"
    openssl dgst "-$hash" -verify "$here/$key" -signature "$work/sig" "$work/covered" >/dev/null 2>&1 ||
        fail "the package is not signed with the key that is trusted"
    grep -q '"predicateType": *"https://model_signing/signature/v1.0"' "$work/payload" || fail "model.sig signs something else"
    tr '\n{}' ' \n\n' <"$work/payload" | grep '"name": *"SHA256SUMS"' >"$work/listed"
    [ "$(grep -c . "$work/listed")" = 1 ] &&
        [ "$(sed -n 's/.*"digest": *"\([0-9a-f]\{64\}\)".*/\1/p' "$work/listed")" = "$2" ] ||
        fail "the package is not the one that was signed"
    rm -f "$work/payload" "$work/sig" "$work/covered" "$work/listed"
}

# --- what becomes live

# a name that leads nowhere but into the package
fit() {
    case $1 in
    '' | /* | */ | .. | ../* | */.. | */../* | . | ./* | */. | */./* | *//* | *:* | *\\* | *[[:cntrl:]]*) return 1 ;;
    SHA256SUMS | model.sig) return 1 ;;
    esac
}

# of each line of the list $1 its hash and name, to the command named $2
each_of() {
    while IFS= read -r line; do
        file_hash=${line%% *} name=${line#"${line%% *}"  }
        case $file_hash in *[!0-9a-f]*) fail "a line of SHA256SUMS cannot be read" ;; esac
        [ ${#file_hash} = 64 ] && fit "$name" || fail "SHA256SUMS lists a name that no package has"
        "$2" "$file_hash" "$name" || exit 1
    done <"$1"
}

# receive.sh makes the package whose list has the SHA-256 $1 of what $work/recipe says, and makes it live; what fails its
# test or its check is noted, so that nobody tries it again and again
live() {
    begin
    if step open && step "make $(size "$work/recipe") $1" "$work/recipe" && step "test $within" &&
        { [ -z "$after" ] || step "check $after"; } && step "go $within"; then
        end
        rm -rf "$work" .nnx/refused
        return
    fi
    end
    case $why in *self-test* | *"its check"*) printf '%s\n' "$1" >.nnx/refused ;; esac
    fail "refused: $why"
}

# the one before is live again
back() {
    begin
    step open && step "back $within"
    ended=$?
    end
    [ $ended -eq 0 ] || fail "refused: $why"
}

# receive.sh is told a step at a time, as over ssh: some shells' tools read more of a pipe than they were asked to
begin() {
    rm -f "$work/to" "$work/from" && mkfifo "$work/to" "$work/from" || fail "$dir cannot be written"
    (. "$here/receive.sh") <"$work/to" >"$work/from" &
    trap '' PIPE # where it has ended, it has said why
    exec 3>"$work/to" 4<"$work/from"
    why="receive.sh ended by itself"
    heard
}

end() {
    exec 3>&- 4<&-
    wait
}

# $1, and the lines of the file $2; whether it was done
step() {
    { printf '%s\n' "$1" && { [ -z "$2" ] || cat "$2"; } } >&3 2>/dev/null
    heard
}

heard() {
    whole=yes
    while IFS= read -r said <&4; do
        case $said in
        nnx.ok)
            [ $whole = yes ] && return
            why="what was put together is not what was fetched"
            return 1
            ;;
        "nnx.no "*) why=${said#nnx.no } && return 1 ;;
        "nnx= live "*) echo "live: ${said#nnx= live }" ;;
        "nnx= untested "*) echo "not tested: ${said#nnx= untested }" ;;
        "nnx= file "*) whole=no ;;
        esac
    done
    return 1
}
