#!/usr/bin/env bash
# Makes FOLDER with a Python for arm64 that has numpy and onnxruntime, and that runs here: FOLDER/python3, by qemu.
#
#     .ci/arm64_python.sh build/arm64                 # a cortex-a76, as in the Raspberry Pi 5
#     .ci/arm64_python.sh build/arm64-old cortex-a72  # as in the 4: without instructions for int8
#     build/arm64/python3 digits.ortpackage/runners/python/run.py --self-test
#
# Needs Debian's apt and keys, pip, and qemu-aarch64-static (qemu-user-static). Nothing outside FOLDER is changed:
# Debian's packages for arm64 are fetched and unpacked there, never installed. Speed there says nothing of a device's.
set -euo pipefail

fail() {
  echo "$2" >&2
  exit "$1"
}
(($# == 1 || $# == 2)) || fail 2 "usage: ${0##*/} FOLDER [cortex-a76|cortex-a72]"
processor=${2:-cortex-a76}
case $processor in
  cortex-a76) part=0xd0b ;;
  cortex-a72) part=0xd08 ;;
  *) fail 2 "no $processor here: cortex-a76 or cortex-a72" ;;
esac
qemu=$(command -v qemu-aarch64-static) || fail 3 "no qemu-aarch64-static: apt-get install qemu-user-static"
mkdir -p "$1/root" "$1/bin"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
python=3.11 # bookworm's
fetched=$(mktemp -d)
trap 'rm -rf "$fetched"' EXIT

# an apt of its own, which believes that nothing is installed: so all that Python needs comes along, libc to begin with
mkdir -p "$fetched"/{lists,cache/archives}/partial
touch "$fetched/status"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
printf "deb [signed-by=$keys] http://deb.debian.org/%s main\n" \
  'debian bookworm' 'debian-security bookworm-security' >"$fetched/sources"
apt() {
  apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User= -o Debug::NoLocking=1 \
    -o Dir::Etc::SourceList="$fetched/sources" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$fetched/lists" \
    -o Dir::State::Status="$fetched/status" -o Dir::Cache="$fetched/cache" "$@"
}
apt update
apt install --download-only --no-install-recommends --yes "python$python" libstdc++6
for package in "$fetched"/cache/archives/*.deb; do
  dpkg-deb --extract "$package" "$folder/root"
done

# onnxruntime looks in /proc/cpuinfo for what it may use, and crashes in another architecture's; qemu looks here first
mkdir -p "$folder/root/proc"
for ((number = 0; number < $(nproc --all); number++)); do
  printf '%s\t: %s\n' processor $number 'CPU implementer' 0x41 'CPU architecture' 8 'CPU variant' 0x0 \
    'CPU part' $part 'CPU revision' 3
  echo
done >"$folder/root/proc/cpuinfo"
printf 'Model\t\t: %s, emulated by qemu\n' $processor >>"$folder/root/proc/cpuinfo"

# a virtual environment of that Python, whose bin/python3 starts it by qemu; pip here unpacks the wheels for it
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-warn-conflicts --upgrade \
  --only-binary :all: --target "$folder/lib/python$python/site-packages" --implementation cp --python-version "$python" \
  --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
  --constraint constraints.txt numpy onnxruntime
printf 'home = %s/root/usr/bin\n' "$folder" >"$folder/pyvenv.cfg"
cat >"$folder/bin/python3" <<END
#!/bin/sh
exec $qemu -cpu $processor -L '$folder/root' -0 '$folder/bin/python3' '$folder/root/usr/bin/python$python' "\$@"
END
chmod +x "$folder/bin/python3"
ln -sf bin/python3 "$folder/python3"
"$folder/python3" -c 'import numpy, onnxruntime, platform; print(platform.machine(), numpy.__version__, onnxruntime.__version__)'
