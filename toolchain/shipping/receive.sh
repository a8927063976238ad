# How a device takes a package from `nnx push`: sent to its sh, and told line by line what to do next.
#
# `dir` and `python` are set above. A line of the sender's names a step; what the step says begins with `nnx= `, and its
# end is `nnx.ok` or `nnx.no` with a sentence. A sender that is gone is the end: nothing goes live without its `go`.
# The whole text is read before its last line runs, so half of it does nothing. Nothing here looks at a clock.
#
#   DIR/releases/DIGEST      packages that were live, by the SHA-256 of their SHA256SUMS
#   DIR/current              a link to the live one
#   DIR/.nnx/before/DIGEST   a link that names the one that was live before it
#   DIR/.nnx/split/DIGEST    the SHA-256 of each block of its large files: what a new one need not bring
#   DIR/.nnx/parts           what has arrived, by its SHA-256: after a push that broke off, the next one goes on there

block_bytes=1048576
of_nothing=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855

say() { printf 'nnx= %s\n' "$*"; }
ok() { printf '\nnnx.ok\n'; } # on a line of its own, whatever a damaged file has left before it
no() { printf '\nnnx.no %s\n' "$*"; exit 1; }
first() { printf '%s\n' "$*" | head -n 1; }

serve() {
    export LC_ALL=C PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1
    unset CDPATH
    case $dir in /*) ;; *) dir=$(pwd)/$dir ;; esac
    case $python in "~/"*) python=$HOME/${python#"~/"} ;; esac
    for tool in cat cp dd head ln mkdir mv readlink rm sed sha256sum sync tail timeout tr wc xargs; do
        command -v "$tool" >/dev/null || no "the device has no $tool"
    done
    # it knows the processor's own instructions, which many a sha256sum does not: seven times as fast
    hash='openssl dgst -sha256 -r'
    case $($hash 2>/dev/null </dev/null) in "$of_nothing "*) ;; *) hash=sha256sum ;; esac
    ok
    while IFS= read -r line; do
        rest=${line#* }
        case $line in
        open) open ;;
        look) look ;;
        "take "*) take "$rest" ;;
        "split "*) rm -f .nnx/split/new && receive "$rest" .nnx/split/new ;;
        "make "*) make "${rest% *}" "${rest#* }" ;;
        "test "*) [ -z "$digest" ] || prove .nnx/new "$rest" ;;
        "check "*) check=$rest ;;
        "go "*) go "$rest" ;;
        "back "*) back "$rest" ;;
        *) no "it does not know '$line'" ;;
        esac
        ok
    done
}

# the SHA-256 of what comes
sum() {
    sum=$(sha256sum) && printf '%s\n' "${sum%% *}"
}

# lines of $hash or a SHA256SUMS, alike
alike() { sed 's,^\(.\{64\}\) [ *]\(\./\)*,\1  ,'; }

# --- one at a time

open() {
    said=$(mkdir -p "$dir" 2>&1 && cd "$dir" && mkdir -p .nnx/before .nnx/split .nnx/parts releases 2>&1) || no "$(first "$said")"
    cd "$dir" || no "$dir cannot be entered"
    true 2>/dev/null >>.nnx/lock || no "$dir cannot be written"
    lock
    trap leave EXIT
    trap 'exit 1' HUP INT TERM PIPE
    [ ! -e current ] || [ -L current ] || no "$dir/current is no link, so no push has made it"
    flush_all=sync
    sync -f /dev/null 2>/dev/null && flush_all='sync -f .'
    point .nnx/trial releases || no "its mv knows no -T, so a link cannot be replaced at once"
}

lock() {
    if command -v flock >/dev/null; then
        exec 9>>.nnx/lock
        flock -n 9 || no "another push is at work in $dir"
        return
    fi
    mine=.nnx/lock.$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
    for other in .nnx/lock.*; do [ "$other" = "$mine" ] || rmdir "$other" 2>/dev/null; done # from before a power cut
    mkdir "$mine" 2>/dev/null || no "another push is at work in $dir; if there is none, remove $dir/$mine"
    owned=$mine
}

leave() {
    case $unsure in
    '') ;;
    none) rm -f current; flush ;;
    *) point current "$unsure"; flush ;;
    esac
    rm -rf .nnx/new .nnx/old .nnx/link .nnx/trial .nnx/said .nnx/split/new
    rmdir .nnx/parts ${owned:+"$owned"} 2>/dev/null
}

flush() { $flush_all; }

# what is live, if anything
now() { [ ! -L current ] || readlink current; }

# $1 becomes a link to $2, at once, whatever it led to
point() { rm -f .nnx/link && ln -s "$2" .nnx/link && mv -fT .nnx/link "$1" 2>/dev/null; }

# --- what is there

# files as their lists tell them: what is taken of them is hashed where it has become part of another package
look() {
    [ -d "$dir/releases" ] || return 0
    cd "$dir" || no "$dir cannot be entered"
    live=$(now)
    say "current $live"
    for release in releases/*; do
        name=${release#releases/}
        of_a_push "$release" && [ "$(sum 2>/dev/null <"$release/SHA256SUMS")" = "${name%%+*}" ] || continue
        say "file ${name%%+*}  $release/SHA256SUMS"
        alike <"$release/SHA256SUMS" | sed "s,^\(.\{64\}\)  ,nnx= file \1  $release/,"
        [ ! -f "$release/model.sig" ] || say "file $(sum <"$release/model.sig")  $release/model.sig"
    done
    for part in .nnx/parts/*; do
        [ ! -f "$part" ] || say "part ${part##*/} $(($(wc -c <"$part"))) $(sum <"$part")"
    done
    [ ! -f ".nnx/split/${live#releases/}" ] || sed 's/^/nnx= split /' ".nnx/split/${live#releases/}"
}

of_a_push() {
    case ${1#releases/} in *[!0-9a-f+]*) return 1 ;; esac
    [ ${#1} -ge 73 ]
}

# the files that the list of the package in $1 names, as they are
found() (
    cd "$1" && sed 's,^.\{66\},./,' SHA256SUMS | tr '\n' '\0' | xargs -0 $hash | alike
)

# $1 holds every file as the package of digest $2 lists it
whole() {
    is=$(found "$1") && listed=$(alike <"$1/SHA256SUMS") && [ "$is" = "$listed" ] &&
        [ "$(sum <"$1/SHA256SUMS")" = "$2" ]
} 2>/dev/null

# --- what comes

# $1 pieces, each of them a line with its SHA-256, where it begins and how many bytes follow, and these bytes
take() {
    left=$1
    while [ "$left" -gt 0 ] && read -r piece from bytes; do
        left=$((left - 1))
        [ "$from" != 0 ] || rm -f ".nnx/parts/$piece"
        receive "$bytes" ".nnx/parts/$piece"
    done
}

# $1 bytes are added to the file $2, and none of what follows them is read, as many a head would
receive() {
    blocks=$(($1 / block_bytes)) rest=$(($1 % block_bytes))
    said=$({ received >>"$2"; } 2>&1) && return
    case $said in
    *space\ left* | *quota*) # a full disk is not left full
        rm -rf .nnx/parts
        no "the disk is full"
        ;;
    esac
    no "what was sent was not received: $(first "$said")"
}

received() {
    if [ $blocks -gt 0 ]; then dd bs=$block_bytes count=$blocks iflag=fullblock || return; fi
    if [ $rest -gt 0 ]; then dd bs=$rest count=1 iflag=fullblock; fi
}

# the package of digest $2 is made, by $1 bytes of lines, of what was received and what is there; where it is not whole
# then, its files are said as they are
make() {
    rm -rf .nnx/new
    said=$(head -c "$1" | compose 2>&1)
    if [ $? -ne 0 ]; then
        rm -rf .nnx/parts
        no "the package could not be written: $(first "$said")"
    fi
    flush >/dev/null 2>&1 9>&- & # for which go waits
    flushing=$!
    if whole .nnx/new "$2"; then
        digest=$2
        rm -rf .nnx/parts
        say made
    else
        say "file $(sum <.nnx/new/SHA256SUMS)  SHA256SUMS"
        found .nnx/new 2>/dev/null | sed 's/^/nnx= file /'
    fi
}

compose() {
    mkdir .nnx/new || exit 1
    while IFS=: read -r kind what name; do
        case $kind in
        file | link | copy)
            file=.nnx/new/$name
            [ -d "${file%/*}" ] || mkdir -p "${file%/*}" || exit 1
            ;;
        esac
        case $kind in
        file) : >"$file" ;;
        # what is not there any more is found missing and sent
        link) ln "$what" "$file" 2>/dev/null || cp "$what" "$file" || [ ! -e "$what" ] ;;
        copy) cp "$what" "$file" || [ ! -e "$what" ] ;;
        put) dd if=".nnx/parts/$name" of="$file" bs=$block_bytes seek="$what" conv=notrunc 2>/dev/null ;;
        size) dd if=/dev/null of="$file" bs=1 count=0 seek="$what" 2>/dev/null ;;
        *) false ;;
        esac || exit 1
    done
}

# --- what it is worth here

# where there is no numpy or no onnxruntime, 99; else what the script named first does
runs='
import sys
try:
    import numpy, onnxruntime
except Exception:
    sys.exit(99)
import os, runpy
del sys.argv[0]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
'

# the package in $1 tests itself within $2 seconds, where a Python can
prove() {
    code=99
    for each in "${python:-python3}" "${python:-python}"; do
        receipt=$(timeout "$2" "$each" -c "$runs" "$1/runners/python/run.py" --self-test 2>.nnx/said </dev/null)
        code=$?
        case $code in 99 | 126 | 127) code=99 ;; *) break ;; esac
    done
    if [ $code -ne 99 ]; then
        say "receipt $receipt"
        [ $code -ne 124 ] || no "its self-test took longer than $2 s"
        [ $code -eq 0 ] || no "it fails its self-test, which ended with code $code: $(tail -n 1 .nnx/said)"
        whole "$1" "$digest" || no "its files are not the same after its self-test"
    else
        [ -z "$python" ] || no "$python is not there, or has no numpy and onnxruntime"
        say "untested no Python with numpy and onnxruntime"
    fi
    proved=$digest
}

# --- what is live

# the package that was made and proved goes live, and stays it when the check passes within $1 seconds
go() {
    [ -n "$digest" ] && [ "$proved" = "$digest" ] || no "nothing was proved"
    wait "$flushing" || no "the disk could not be flushed"
    name=$digest
    # a damaged one may be live: it is not mended, another takes its place
    while [ -e "releases/$name" ] && ! whole "releases/$name" "$digest"; do name=$name+; done
    if [ ! -e "releases/$name" ]; then
        mv -f .nnx/new "releases/$name" || no "the package could not be renamed"
    elif [ -e .nnx/new/model.sig ]; then # the same files, which are signed only now, or anew
        mv -f .nnx/new/model.sig "releases/$name/model.sig" || no "the signature could not be renamed"
    fi
    [ ! -e .nnx/split/new ] || mv -f .nnx/split/new ".nnx/split/$name" || no "its blocks could not be noted"
    was=$(now) || no "what is live could not be read"
    [ -z "$was" ] || [ "$was" = "releases/$name" ] || point ".nnx/before/$name" "$was" || no "what is live could not be noted"
    switch "releases/$name" "$1"
    # where nothing says what was live before, or that cannot be read, nothing goes
    before=$(readlink ".nnx/before/$name") && prune "releases/$name" "$before"
}

# the version before the live one is live again
back() {
    was=$(now) && [ -n "$was" ] || no "nothing is live"
    earlier=$(readlink ".nnx/before/${was#releases/}") || no "there is no version before the one that is live"
    digest=${earlier#releases/} && digest=${digest%%+*}
    whole "$earlier" "$digest" || no "the version before the live one is gone or damaged"
    prove "$earlier" "$1"
    switch "$earlier" "$1"
}

# `current` leads to $1; what it led to is live again unless the check passes within $2 seconds
switch() {
    trap : PIPE HUP INT TERM # from here to the end nobody needs to listen
    was=$(now) || no "what is live could not be read"
    unsure=${was:-none}
    flush && point current "$1" && flush || no "the link could not be replaced"
    if [ -n "$check" ] && ! said=$(timeout "$2" sh -c "$check" 2>&1 </dev/null 9>&-); then
        no "its check failed or took longer than $2 s, and what was live before is live: $(first "$said")"
    fi
    [ "$(sum <current/SHA256SUMS)" = "$digest" ] || no "what is live is not what was sent"
    unsure=
    say "live $1"
}

# all versions go but these two
prune() {
    for old in releases/*; do
        of_a_push "$old" && [ "$old" != "$1" ] && [ "$old" != "$2" ] || continue
        name=${old#releases/}
        rm -rf .nnx/old ".nnx/before/$name" ".nnx/split/$name" && mv -f "$old" .nnx/old && rm -rf .nnx/old
    done
}

serve
