"""JSON, array, image and checkpoint files broken with fixed seeds, through the commands that read them."""

import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.hard import verdicts
from benchmarks.hard.base_models import BASES
from benchmarks.hard.mutated_models import cut_bytes, flip_bytes
from benchmarks.hard.runs import Place, watched
from benchmarks.hard.verdicts import Verdict
from toolchain.conversion.record import Journal, Plan

PART = "hostile files"
COUNT = 450
_ODD: tuple[Any, ...] = (
    None, True, "", "\x1b[31mred", "a\nb", "x" * 1_000_000, -1, 0, 1 << 80, 1e308, float("nan"), float("inf"), [], {},
    [[]], {"": None}, "../../etc/passwd", "=1+1", "<script>", "\u202e",
)  # fmt: skip
_DEEP = 100_000
_NETWORK = """
import torch
def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
"""
_STATIC = ("quantize", "model.onnx", "--int8", "--no-time", "--no-cache", "-o", "made.onnx")

Change = Callable[[bytes, random.Random], bytes]


def of_seed(seed: int) -> list[Verdict]:
    """One broken file of the kind whose turn it is, through a command that reads it."""
    draw = random.Random(seed)
    kind = ("json", "arrays", "json", "arrays", "images", "checkpoint")[seed % 6]
    with Place.new() as place:
        done = watched(lambda: _write(kind, place.here, draw), place)
        assert done[0] == 0, (place.folder / "err").read_text(encoding="utf-8")
        told = (place.folder / "out").read_text(encoding="utf-8").split("\n")
        run = place.nnx(*json.loads(told[1]), makes=("made.onnx", "made.html", "made.onnx.search.json"))
        made = any((place.here / name).exists() for name in ("made.onnx", "made.html"))
        return [verdicts.of(run, part=PART, name=f"{seed} {kind} {told[0]}", made=made)]


def _write(kind: str, folder: Path, draw: random.Random) -> int:
    """The files; prints what was done to them, and the command."""
    change, command = {"json": _json, "arrays": _arrays, "images": _images, "checkpoint": _checkpoint}[kind](
        folder, draw
    )
    print(change)
    print(json.dumps(command))
    return 0


def _network(name: str, folder: Path) -> dict[str, Any]:
    base = BASES[name]()
    onnx.save(base.model, folder / "model.onnx")
    return base.samples


def _json(folder: Path, draw: random.Random) -> tuple[str, tuple[str, ...]]:
    samples = _network("products", folder)
    np.savez(folder / "calib.npz", allow_pickle=False, **samples)
    searched = (*_STATIC[:3], "--mode", "dynamic", "--no-time", "--eval", "calib.npz", "-o", "made.onnx")
    verdict = {"status": "ok", "text": "t", "samples": 3}
    documents: dict[str, tuple[str, tuple[str, ...]]] = {
        "plan.json": (Plan(exclude=("n_a",)).to_json(), (*searched, "--plan", "plan.json")),
        "made.onnx.search.json": (
            Journal(key="k", trials=()).to_json(), (*searched, "--min-sqnr", "30", "--budget", "5s"),
        ),
        "bench.json": (json.dumps(_BENCH), ("compare", "bench.json", "bench.json")),
        "page.json": (json.dumps(_BENCH), ("report", "page.json", "-o", "made.html")),
        "sent/manifest.json": (
            json.dumps({"schema_version": 1, "recipe": "digits", "steps": {"train": verdict}}),
            ("report", "sent", "-o", "made.html"),
        ),
    }  # fmt: skip
    name = draw.choice(sorted(documents))
    text, command = documents[name]
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    change, content = broken_json(text, draw)
    path.write_bytes(content)
    return f"{name} {change}", command


_BENCH: dict[str, Any] = {
    "schema_version": 2, "made_by": "nnx bench", "machine": {"cpu": "a", "cores": 2}, "rows": [
        {"label": "a", "provider": "cpu", "batch": 1, "threads": 1, "rounds_ms": [[1.0], [1.2]], "status": "ok"},
    ],
}  # fmt: skip


def broken_json(text: str, draw: random.Random) -> tuple[str, bytes]:
    """What was done to a document, and what came of it."""
    how = draw.choice(["value", "value", "value", "key", "drop", "deep", "bytes", "cut", "twice", "encoding"])
    document = json.loads(text)
    places = list(_places(document))
    if how in ("value", "key", "drop") and places:
        holder, key = draw.choice(places)
        if how == "value":
            holder[key] = draw.choice(_ODD)
        elif how == "key" and isinstance(holder, dict):
            holder[draw.choice(["", "extra", "x" * 10_000, "\x00"])] = holder[key]
        else:
            del holder[key]
        return how, json.dumps(document).encode()
    content = text.encode()
    if how == "deep":
        opening, closing = draw.choice([("[", "]"), ('{"a":', "}")])
        return how, (opening * _DEEP + "1" + closing * draw.choice([0, _DEEP])).encode()
    if how == "twice":
        return how, content + content
    if how == "encoding":
        return how, draw.choice([text.encode("utf-16"), b"\xef\xbb\xbf" + content, b"\xff\xfe\x00", b""])
    change: Change = flip_bytes if how == "bytes" else cut_bytes
    return how, change(content, draw)


def _places(document: Any) -> list[tuple[Any, Any]]:
    """(Holder, key) of everything in a document."""
    found: list[tuple[Any, Any]] = []
    pending = [document]
    while pending:
        holder = pending.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else []
        for key in keys:
            found.append((holder, key))
            pending.append(holder[key])
    return found


def _arrays(folder: Path, draw: random.Random) -> tuple[str, tuple[str, ...]]:
    samples = _network("convolutions", folder)
    option = draw.choice(["--calibration", "--calibration", "--eval"])
    command = (*_STATIC, option, "bad.npz") if option == "--calibration" else (
        *_STATIC[:3], "--mode", "dynamic", "--no-time", "-o", "made.onnx", option, "bad.npz",
    )  # fmt: skip
    how = draw.choice(["bytes", "cut", "odd", "odd", "odd", "header", "members", "zip"])
    path, stored = folder / "bad.npz", io.BytesIO()
    np.savez(stored, allow_pickle=False, **samples)
    if how in ("bytes", "cut"):
        path.write_bytes((flip_bytes if how == "bytes" else cut_bytes)(stored.getvalue(), draw))
    elif how == "odd":
        odd = draw.choice(_ODD_ARRAYS)
        named = (
            {"x": odd(samples["x"])}
            if draw.random() < 0.8
            else {**samples, draw.choice(["y", "labels"]): odd(samples["x"])}
        )
        np.savez(path, allow_pickle=True, **named)
    else:
        _odd_members(path, how, draw)
    return how, command


_ODD_ARRAYS: tuple[Callable[[Any], Any], ...] = (
    lambda x: x[:0], lambda x: x[0], lambda x: x.astype(np.float64), lambda x: x * np.nan, lambda x: x * np.inf,
    lambda x: x.astype(str), lambda x: x.astype(object), lambda x: np.array({"a": 1}), lambda x: x.astype(complex),
    lambda x: x.reshape(-1), lambda x: x[..., None], lambda x: x > 0, lambda x: np.array(3.0),
    lambda x: x.astype("U1000"),
    lambda x: x.view([("a", "f4")]), lambda x: x.astype(">f4"), lambda x: np.asfortranarray(x),
    lambda x: np.zeros((0, 3, 8, 8), np.float32), lambda x: x.astype("M8[s]"), lambda x: x.astype(np.float16),
)  # fmt: skip


def _odd_members(path: Path, how: str, draw: random.Random) -> None:
    shape = draw.choice([(1 << 40, 3, 8, 8), (-1, 3, 8, 8), (16, 3, 8, 8, 0), (1 << 62,), ()])
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    member = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(1000)
    with zipfile.ZipFile(
        path, "w", draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
    ) as archive:
        if how == "header":
            archive.writestr("x.npy", member)
        elif how == "members":
            for name in draw.sample(["x.npy", "../x.npy", "x.npy/", "/x", "x", ".", "n" * 60_000], 3):
                archive.writestr(name, draw.choice([member, b"", b"text"]))
        else:
            archive.writestr("x.npy", member[:128] + bytes(draw.choice([0, 64 << 20])))


def _images(folder: Path, draw: random.Random) -> tuple[str, tuple[str, ...]]:
    from PIL import Image

    _network("convolutions", folder)
    images = folder / "images"
    for label in ("one", "two"):
        (images / label).mkdir(parents=True)
        for number in range(3):
            pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(images / label / f"{number}.png")
    chosen = images / "one" / "0.png"
    content = chosen.read_bytes()
    how = draw.choice(["bytes", "cut", "empty", "large", "mode", "thin", "folder", "text", "name"])
    if how in ("bytes", "cut"):
        chosen.write_bytes((flip_bytes if how == "bytes" else cut_bytes)(content, draw))
    elif how == "empty":
        chosen.write_bytes(b"")
    elif how == "large":
        width = draw.choice([1 << 31, 60_000, (1 << 31) - 1])
        chosen.write_bytes(content[:16] + width.to_bytes(4, "big") * 2 + content[24:])
    elif how == "mode":
        mode = draw.choice(["1", "L", "P", "RGBA", "CMYK", "I", "F", "LA", "I;16"])
        Image.new(mode, (8, 8)).save(chosen.with_suffix(".tiff"))
    elif how == "thin":
        Image.new("RGB", draw.choice([(1, 5000), (5000, 1)])).save(chosen)
    elif how == "folder":
        (images / "three" / "4.png").mkdir(parents=True)
    elif how == "text":
        (images / "one" / "notes.jpg").write_text("no image", encoding="utf-8")
    else:
        chosen.rename(images / "one" / "\x1b[31m\n.png")
    return how, (*_STATIC, "--calibration", "images")


def _checkpoint(folder: Path, draw: random.Random) -> tuple[str, tuple[str, ...]]:
    import torch

    (folder / "net.py").write_text(_NETWORK, encoding="utf-8")
    weights = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).state_dict()
    stored = io.BytesIO()
    torch.save(weights, stored)
    name = draw.choice(["bad.pt", "bad.pt", "bad.safetensors"])
    how = draw.choice(["bytes", "cut", "object", "shape", "keys", "text", "other", "dtype"])
    path = folder / name
    if how in ("bytes", "cut"):
        path.write_bytes((flip_bytes if how == "bytes" else cut_bytes)(stored.getvalue(), draw))
    elif how == "text":
        path.write_bytes(
            draw.choice([b"", b"\x80\x04.", b"{}", b"PK\x03\x04", (1 << 60).to_bytes(8, "little") + b"{}"])
        )
    elif how == "other":
        torch.save(draw.choice([3, "a", None, [1], {"a": {"b": 1}}, torch.zeros(3), {}, {1: torch.zeros(1)}]), path)
    elif how == "object":
        torch.save({"model": weights, "made": draw.choice([Path("a"), random.Random(0), object, 1j])}, path)
    else:
        torch.save(_changed(weights, how, draw), path)
    return f"{name} {how}", ("export", "net.py:make", "--input", "x=float32[1,4]", "--weights", name, "-o", "made.onnx")


def _changed(weights: dict[str, Any], how: str, draw: random.Random) -> dict[str, Any]:
    import torch

    key = draw.choice(sorted(weights))
    if how == "shape":
        odd = draw.choice([torch.zeros(0), torch.zeros(()), torch.zeros(9, 9), torch.zeros(4, 8, device="meta")])
        return {**weights, key: odd}
    if how == "dtype":
        kind = draw.choice([torch.int64, torch.bool, torch.complex64, torch.float16, torch.float64, torch.bfloat16])
        return {name: value.to(kind) for name, value in weights.items()}
    if draw.random() < 0.5:
        return {name: value for name, value in weights.items() if name != key}
    return {**weights, draw.choice(["", "\x1b[31m", "n" * 100_000, f"{key}.x"]): weights[key]}
