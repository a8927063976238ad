"""Packages broken with fixed seeds, as folders and archives, through ``nnx verify``, and held against model_signing.

Half of the changed ones get a SHA256SUMS that fits again, as whoever meant harm would write it: then the format must
hold, and with a trusted key the signature. What OpenSSF's own verifier refuses, nnx must refuse.
"""

import contextlib
import io
import json
import os
import random
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError, EncodeError
from model_signing import verifying

from benchmarks.hard import base_package, verdicts
from benchmarks.hard.hostile_files import broken_json
from benchmarks.hard.mutated_models import FIELDS, cut_bytes, flip_bytes
from benchmarks.hard.runs import SECONDS, Place, watched
from benchmarks.hard.verdicts import Verdict
from exporters import external_data
from toolchain.shipping import keys, signature, verification
from toolchain.shipping.package import SIGNATURE

PART = "hostile packages"
COUNT = 1000
_LOADED = external_data, verification, verifying  # by whom forks, so that no command need load them again
_OUTSIDE = "outside"
IMPOSSIBLE = (OSError, ValueError, LookupError, TypeError, RecursionError, DecodeError, EncodeError)
"""Where what was to be changed is gone or broken already, or no file system takes the name."""
_METHODS = (*[zipfile.ZIP_STORED] * 4, *[zipfile.ZIP_DEFLATED] * 4, zipfile.ZIP_LZMA)
_ODD_NAMES = (
    f"../{_OUTSIDE}", f"a/../../{_OUTSIDE}", "a\\..\\b", "C:\\x", "con", "a.", "a ", "\x1b[31mred", "a\nb", "\udcff",
    "é", "e\u0301", "README.MD", "readme.md/x", "README.md/x", "x" * 300, "d/" * 40 + "x", "", ".", "/", "a//b",
    "./README.md", "SHA256SUMS", "model.sig", "manifest.json", "small/fp32/Model.onnx", ".git/hooks/x",
    ".gitattributes",
)  # fmt: skip


def of_seed(seed: int, *, seconds: float = SECONDS) -> list[Verdict]:
    """One broken package, verified with or without a trusted key; longer than ``seconds`` is a hang."""
    draw = random.Random(seed)
    with Place.new() as place:
        done = watched(lambda: _write(place, draw), place, seconds=seconds)
        assert done[0] == 0, (place.folder / "err").read_text(encoding="utf-8")
        told, package, trusted, whole = (place.folder / "out").read_text(encoding="utf-8").splitlines()
        run = place.nnx("verify", package, *(("--trust", "../one.pub") if trusted == "True" else ()), seconds=seconds)
        return [verdicts.of(run, part=PART, name=f"{seed} {told}", judge=lambda: _wrong(place, trusted, whole))]


def _wrong(place: Place, trusted: str, whole: str) -> str:
    """What is wrong with a package that nnx found right."""
    if (place.folder / _OUTSIDE).exists() or (place.here / _OUTSIDE).exists():
        return "wrote outside its folder"
    if trusted == "True" and whole != "True":
        return "accepted what nobody has signed so"
    folder = place.here / "p.ortpackage"
    if trusted == "True" and folder.is_dir() and not _accepted_by_model_signing(folder, place.folder / "one.pub"):
        return "accepted what model_signing refuses"
    return ""


def _accepted_by_model_signing(folder: Path, key: Path) -> bool:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, folder / SIGNATURE)
    except Exception:  # noqa: BLE001 - it raises whatever comes up in it
        return False
    return True


def _write(place: Place, draw: random.Random) -> int:
    """The package; prints what was done to it, its name, whether a key is trusted, and whether it is as it was."""
    folder = base_package.write(place.here / "p.ortpackage")
    for name in ("one", "other"):
        keys.new(place.folder / name)
    signer = draw.choice(["one", "one", "one", "other", None])
    if signer is not None:
        signature.sign(folder, place.folder / f"{signer}.key")
    trusted, before, done = draw.random() < 0.5, _held(folder), list[str]()
    how = draw.choice(["folder", "folder", "folder", ".tar", ".tar", ".zip", ".zip"])
    if draw.random() < (0.95 if how == "folder" else 0.3):
        for _ in range(draw.choice([1, 1, 1, 2, 3])):
            change = draw.choice(CHANGES)
            with contextlib.suppress(*IMPOSSIBLE):
                change(folder, draw)
                done.append(change.__name__.strip("_"))
        if draw.random() < 0.5:
            with contextlib.suppress(OSError, ValueError):
                base_package.write_checksums(folder)
                done.append("summed")
    whole = signer == "one" and _held(folder) == before
    package = folder
    if how != "folder":
        package = place.here / f"p{how}"
        with contextlib.suppress(OSError, ValueError):  # names that no archive takes
            (_to_tar if how == ".tar" else _to_zip)(folder, package, draw, done)
        whole = whole and done[-1:] != ["entries"]  # a header that is broken may end a .tar before them
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{how} {'+'.join(done) or 'none'} by {signer}{' trusted' if trusted else ''}", package.name, sep="\n")
    print(trusted, whole, sep="\n")
    return 0


def _held(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All that lies in ``folder``, kinds and contents."""
    found = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        found[str(path.relative_to(folder))] = (stat.S_IFMT(mode), path.read_bytes() if stat.S_ISREG(mode) else b"")
    return {name: each for name, each in found.items() if not stat.S_ISDIR(each[0])}


def _some_file(folder: Path, draw: random.Random, ending: str = "") -> Path:
    return draw.choice(sorted(path for path in folder.rglob(f"*{ending}") if path.is_file() and not path.is_symlink()))


def _flip(folder: Path, draw: random.Random) -> None:
    path = _some_file(folder, draw)
    path.write_bytes(flip_bytes(path.read_bytes(), draw))


def _cut(folder: Path, draw: random.Random) -> None:
    path = _some_file(folder, draw)
    path.write_bytes(cut_bytes(path.read_bytes(), draw))


def _rename(folder: Path, draw: random.Random) -> None:
    _some_file(folder, draw).rename(_inside(folder, draw.choice(_ODD_NAMES)))


def _copy(folder: Path, draw: random.Random) -> None:
    shutil.copy(_some_file(folder, draw), _inside(folder, draw.choice(_ODD_NAMES)))


def _inside(folder: Path, name: str) -> Path:
    """A file of that name, where it is one in the folder."""
    path = Path(os.path.normpath(folder / name))
    if not path.parent.resolve().is_relative_to(folder.resolve()) or path.is_symlink() or path.is_fifo():
        raise ValueError("it would lie elsewhere here already")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _plain(path: Path) -> Path:
    """It, where it is a file still: what an earlier change made a link or a pipe is neither followed nor waited for."""
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"{path.name} is no file any more")
    return path


def _swap(folder: Path, draw: random.Random) -> None:
    one, other = _some_file(folder, draw), _some_file(folder, draw)
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)


def _remove(folder: Path, draw: random.Random) -> None:
    _some_file(folder, draw).unlink()


def _replace(folder: Path, draw: random.Random) -> None:
    """A file becomes a link, a pipe, a folder."""
    path, how = _some_file(folder, draw), draw.choice(["link", "link out", "folder link", "pipe", "folder", "hard"])
    if how == "hard":
        os.link(path, folder.parent / "hard")
        return
    path.unlink()
    if how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    else:
        path.symlink_to({"link": "README.md", "link out": "/etc/passwd", "folder link": "/"}[how])


def _json(folder: Path, draw: random.Random) -> None:
    path = _some_file(folder, draw, ".json")
    path.write_bytes(broken_json(path.read_text(encoding="utf-8"), draw)[1])


def _sums(folder: Path, draw: random.Random) -> None:
    """Lines of SHA256SUMS change, go or come."""
    path = _plain(folder / "SHA256SUMS")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    how, where = draw.choice(["drop", "twice", "odd", "case", "binary"]), draw.randrange(len(lines))
    if how == "drop":
        del lines[where]
    elif how == "odd":
        lines.insert(where, f"{'0' * 64}  {draw.choice(_ODD_NAMES)}")
    elif how == "case":
        lines[where] = lines[where].upper()
    else:
        lines.insert(where, lines[where].replace("  ", " *") if how == "binary" else lines[where])
    path.write_text(
        "\n".join(lines) + draw.choice(["\n", "\n", "", "\r\n"]), encoding="utf-8", errors="surrogateescape"
    )


def _signed(folder: Path, draw: random.Random) -> None:
    """The signature's JSON, or that of what it signs, changes."""
    import base64

    path = _plain(folder / SIGNATURE)
    bundle = json.loads(path.read_bytes())
    if draw.random() < 0.5:
        path.write_bytes(broken_json(json.dumps(bundle), draw)[1])
        return
    envelope = bundle["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"]).decode()
    envelope["payload"] = base64.b64encode(broken_json(payload, draw)[1]).decode()
    path.write_text(json.dumps(bundle), encoding="utf-8")


def _model(folder: Path, draw: random.Random) -> None:
    path = _some_file(folder, draw, ".onnx")
    model = onnx.load(path, load_external_data=False)
    if draw.random() < 0.5:
        for entry in model.graph.initializer[0].external_data:
            entry.value = draw.choice(["/etc/passwd", "../../README.md", "none", "-1", "", "9" * 30, entry.value])
    else:
        draw.choice(FIELDS)(model, draw)
    path.write_bytes(model.SerializeToString())


CHANGES: tuple[Callable[[Path, random.Random], None], ...] = (
    _flip, _cut, _rename, _copy, _swap, _remove, _replace, _json, _json, _sums, _signed, _signed, _model, _model,
)  # fmt: skip


def _to_tar(folder: Path, made: Path, draw: random.Random, done: list[str]) -> None:
    with tarfile.open(made, "w", format=draw.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])) as archive:
        archive.add(folder, folder.name)
        if draw.random() < 0.5:
            for _ in range(draw.choice([1, 3])):
                entry, content = _odd_entry(folder, made, draw)
                archive.addfile(entry, io.BytesIO(content))
                done.append("folders" if entry.isdir() else "entries")
            done.sort(reverse=True)
    _spoil(made, draw, done)


def _odd_entry(folder: Path, made: Path, draw: random.Random) -> tuple[tarfile.TarInfo, bytes]:
    prefix = draw.choice(["", f"{folder.name}/", f"{folder.name}/"])
    entry = tarfile.TarInfo(draw.choice([f"{prefix}{draw.choice(_ODD_NAMES)}", str(made.parents[1] / _OUTSIDE)]))
    kinds = (
        tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE,
        tarfile.BLKTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"Z",
    )  # fmt: skip
    entry.type, entry.linkname = draw.choice(kinds), draw.choice(["", "/etc/passwd", f"../../{_OUTSIDE}", "README.md"])
    content = b"odd"
    entry.size = len(content) if entry.isreg() and not entry.issparse() else 0
    if draw.random() < 0.2:
        odd: Any = draw.choice([1 << 40, -1, 1 << 62])
        entry.pax_headers = {
            draw.choice(["size", "GNU.sparse.realsize", "path", "comment"]): str(odd) * draw.choice([1, 9])
        }
    return entry, content


def _to_zip(folder: Path, made: Path, draw: random.Random, done: list[str]) -> None:
    with zipfile.ZipFile(made, "w", draw.choice(_METHODS)) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                archive.write(path, str(path.relative_to(folder)))
        if draw.random() < 0.5:
            for _ in range(draw.choice([1, 3])):
                entry = zipfile.ZipInfo(draw.choice([*_ODD_NAMES, str(made.parents[1] / _OUTSIDE)]) or "/")
                entry.external_attr = draw.choice([0, stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR]) << 16
                archive.writestr(entry, draw.choice([b"/etc/passwd", b"", bytes(1 << 20)]), zipfile.ZIP_DEFLATED)
                done.append("folders" if entry.is_dir() else "entries")
            done.sort(reverse=True)
    _spoil(made, draw, done)


def _spoil(made: Path, draw: random.Random, done: list[str]) -> None:
    if draw.random() < 0.5:
        done.append("bytes")
        made.write_bytes(draw.choice([flip_bytes, flip_bytes, flip_bytes, cut_bytes])(made.read_bytes(), draw))
