# How a device takes a package from `nnx push`: sent to its sh, and told line by line what to do next.
#
# `dir` and `python` are set above. A line of the sender's names a step; what the step says begins with `nnx= `, and its
# end is `nnx.ok` or `nnx.no` with a sentence. A sender that is gone is the end: nothing goes live without its `go`.
# The whole text is read before its last line runs, so half of it does nothing.
#
#   DIR/releases/DIGEST      packages that were live, by the SHA-256 of their SHA256SUMS
#   DIR/current              a link to the live one
#   DIR/.nnx/before/DIGEST   a link that names the one that was live before it
#   DIR/.nnx/blocks          what has arrived, by its SHA-256: after a push that broke off, the next one goes on there

block_bytes=1048576

say() { printf 'nnx= %s\n' "$*"; }
no() { printf 'nnx.no %s\n' "$*"; exit 1; }
first() { printf '%s\n' "$*" | head -n 1; }

serve() {
    export LC_ALL=C PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1
    unset CDPATH
    case $dir in /*) ;; *) dir=$(pwd)/$dir ;; esac
    case $python in "~/"*) python=$HOME/${python#"~/"} ;; esac
    for tool in cat cp dd find head ln mkdir mv readlink rm sha256sum sync tail tar timeout wc; do
        command -v "$tool" >/dev/null || no "the device has no $tool"
    done
    echo nnx.ok
    while IFS= read -r line; do
        rest=${line#* }
        case $line in
        open) open ;;
        look) look ;;
        "blocks "*) blocks "$rest" ;;
        "take "*) take "$rest" ;;
        "make "*) make "$rest" ;;
        "test "*) prove .nnx/new "$rest" ;;
        "check "*) check=$rest ;;
        "go "*) go "$rest" ;;
        "back "*) back "$rest" ;;
        *) no "it does not know '$line'" ;;
        esac
        echo nnx.ok
    done
}

# --- one at a time

open() {
    said=$(mkdir -p "$dir" 2>&1 && mkdir -p "$dir/.nnx/before" "$dir/.nnx/blocks" "$dir/releases" 2>&1) || no "$(first "$said")"
    cd "$dir" || no "$dir cannot be entered"
    true 2>/dev/null >>.nnx/lock || no "$dir cannot be written"
    lock
    trap leave EXIT
    trap 'exit 1' HUP INT TERM PIPE
    [ ! -e current ] || [ -L current ] || no "$dir/current is no link, so no push has made it"
    flush_all=sync
    sync -f . 2>/dev/null && flush_all='sync -f .'
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
    none) rm -f current ;;
    *) point current "$unsure" ;;
    esac
    rm -rf .nnx/new .nnx/old .nnx/link .nnx/trial .nnx/said
    rmdir .nnx/blocks ${owned:+"$owned"} 2>/dev/null
    flush
}

flush() { $flush_all; }

# what is live, if anything
now() { [ ! -L current ] || readlink current; }

# $1 becomes a link to $2, at once, whatever it led to
point() { rm -f .nnx/link && ln -s "$2" .nnx/link && mv -fT .nnx/link "$1" 2>/dev/null; }

# --- what is there

look() {
    [ -d "$dir/releases" ] || return 0
    cd "$dir" || no "$dir cannot be entered"
    say "current $(now)"
    find releases .nnx/blocks -type f -exec sha256sum {} + 2>/dev/null | while IFS= read -r line; do say "file $line"; done
}

blocks() {
    count=$((($(wc -c <"$1") + block_bytes - 1) / block_bytes))
    number=0
    while [ "$number" -lt "$count" ]; do
        say "block $(dd if="$1" bs=$block_bytes skip=$number count=1 2>/dev/null | sha256sum)"
        number=$((number + 1))
    done
}

# $1 holds every file as the package of digest $2 lists it
whole() {
    (cd "$1" && [ "$(sha256sum <SHA256SUMS)" = "$2  -" ] && sha256sum -c SHA256SUMS) >/dev/null 2>&1
}

# --- what comes

# $1 bytes of tar: blocks, each by its SHA-256
take() {
    said=$(head -c "$1" | tar xof - -C .nnx/blocks 2>&1) && return
    case $said in
    *space\ left* | *quota* | *"Wrote only"*) # a full disk is not left full
        rm -rf .nnx/blocks
        no "the disk is full"
        ;;
    esac
    no "what was sent was not received: $(first "$said")"
}

# $1 bytes of lines, by which a package is made of what was received and what is there
make() {
    rm -rf .nnx/new
    said=$(head -c "$1" | compose 2>&1)
    code=$?
    rm -rf .nnx/blocks
    [ $code -eq 0 ] || no "the package could not be written: $(first "$said")"
    flush || no "the disk could not be flushed"
    digest=$(sha256sum <.nnx/new/SHA256SUMS) && digest=${digest%% *}
    whole .nnx/new "$digest" || no "what arrived is not what was sent"
    say "digest $digest"
}

compose() {
    mkdir .nnx/new || exit 1
    while IFS=: read -r kind what name; do
        case $kind in
        file) file=.nnx/new/$name && mkdir -p "${file%/*}" && : >"$file" ;;
        link) file=.nnx/new/$name && mkdir -p "${file%/*}" && { ln "$what" "$file" 2>/dev/null || cp "$what" "$file"; } ;;
        take) cat ".nnx/blocks/$what" >>"$file" ;;
        copy) dd if="$name" bs=$block_bytes skip="$what" count=1 2>/dev/null >>"$file" ;;
        *) false ;;
        esac || exit 1
    done
}

# --- what it is worth here

# the package in $1 tests itself within $2 seconds, where a Python can
prove() {
    runs=
    for each in "${python:-python3}" "${python:-python}"; do
        [ -n "$runs" ] || ! "$each" -c 'import numpy, onnxruntime' >/dev/null 2>&1 </dev/null || runs=$each
    done
    if [ -n "$runs" ]; then
        receipt=$(timeout "$2" "$runs" "$1/runners/python/run.py" --self-test 2>.nnx/said </dev/null)
        code=$?
        say "receipt $receipt"
        [ $code -ne 124 ] || no "its self-test took longer than $2 s"
        [ $code -eq 0 ] || no "it fails its self-test, which ended with code $code: $(tail -n 1 .nnx/said)"
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
    name=$digest
    # a damaged one may be live: it is not mended, another takes its place
    while [ -e "releases/$name" ] && ! whole "releases/$name" "$digest"; do name=$name+; done
    if [ ! -e "releases/$name" ]; then
        mv -f .nnx/new "releases/$name" || no "the package could not be renamed"
    elif [ -e .nnx/new/model.sig ]; then # the same files, which are signed only now, or anew
        mv -f .nnx/new/model.sig "releases/$name/model.sig" || no "the signature could not be renamed"
    fi
    flush || no "the disk could not be flushed"
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
    [ "$(sha256sum <current/SHA256SUMS)" = "$digest  -" ] || no "what is live is not what was sent"
    unsure=
    say "live $1"
}

# all versions go but these two
prune() {
    for old in releases/*; do
        name=${old#releases/}
        case $name in *[!0-9a-f+]*) continue ;; esac # not of a push
        [ ${#name} -ge 64 ] && [ "$old" != "$1" ] && [ "$old" != "$2" ] || continue
        rm -rf .nnx/old ".nnx/before/$name" && mv -f "$old" .nnx/old && rm -rf .nnx/old
    done
}

serve
