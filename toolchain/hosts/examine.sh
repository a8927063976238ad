# What `nnx doctor --host` wants to know of a machine: a line each. `python`, `portrait` and `tools` are set above.

export LC_ALL=C PYTHONDONTWRITEBYTECODE=1 PYTHONIOENCODING=utf-8 ORT_DISABLE_TELEMETRY=1
say() { printf 'nnx= %s %s\n' "$1" "$2"; }
case $python in "~/"*) python=$HOME/${python#"~/"} ;; esac

say time "$(date +%s)"
say user "$(id -un)"
say system "$(uname -sr)"
say architecture "$(uname -m)"
for tool in $tools; do command -v "$tool" >/dev/null || say lacks "$tool"; done
for folder in "$HOME" "${TMPDIR:-/tmp}"; do
    if [ -w "$folder" ]; then say free "$(df -Pk "$folder" 2>/dev/null | tail -n 1)"; else say unwritable "$folder"; fi
done
say memory "$(grep MemAvailable /proc/meminfo 2>/dev/null)"
for each in "${python:-python3}" "${python:-python}"; do
    version=$("$each" -c 'import platform; print(platform.python_version())' 2>/dev/null </dev/null) || continue
    say python "$version $(command -v "$each")"
    for library in numpy onnxruntime; do
        "$each" -c "import $library" >/dev/null 2>&1 </dev/null || say without "$library"
    done
    portraits=$(printf '{"op": "describe"}\n{"op": "look"}\n' | "$each" -c "$portrait" 2>/dev/null) || continue
    printf '%s\n' "$portraits" | while IFS= read -r line; do say portrait "$line"; done
    break
done
say end
