"""``nnx/package.json``: what a package says of itself, beyond what ONNX Runtime reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toolchain import regular_file
from toolchain.errors import BadUsage
from toolchain.records import Form

SUFFIX = ".ortpackage"
FORMAT = 1
FOLDER = "nnx"
"""Ours, inside a package."""
PACKAGE = f"{FOLDER}/package.json"
GOLDEN = f"{FOLDER}/golden.json"
GOLDEN_ARRAYS = f"{FOLDER}/golden.bin"
PREPROCESSING = f"{FOLDER}/preprocessing.json"
LABELS = f"{FOLDER}/labels.json"
ROWS = f"{FOLDER}/rows.json"
OPERATORS = f"{FOLDER}/required_operators.config"
BILL = f"{FOLDER}/sbom.cdx.json"
CARD = "README.md"
CHECKSUMS = "SHA256SUMS"
SIGNATURE = "model.sig"

FORM = Form(
    name="a package of nnx",
    again="Make it again with `nnx pack`.",
    room="toolchain.shipping",
    schema="package.schema.json",
)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or output: ``dtype`` as numpy names it, ``shape`` with a name for each dynamic axis."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a run of a variant took, and where that was; ``latency_ms`` by p50, p90, p99."""

    latency_ms: Mapping[str, float]
    batch: int
    threads: int
    machine: str


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One model file: where it lies, what opens it and how.

    ``onnxruntime`` is the lowest release with all its kernels. ``ort_file`` is the same in ONNX Runtime's own format,
    where that was asked for; it keeps its weights inside. ``external_data`` maps what the model calls a file of
    weights to where it lies; where several variants share them, ``shared_weights`` is the folder that a session must be
    told. ``session_options`` are ONNX Runtime's configuration entries. ``provenance`` is what the file says of its
    making.
    """

    name: str
    model: str
    sha256: str
    size_bytes: int
    opset: int
    ir_version: int
    precision: str
    onnxruntime: str
    ort_file: str | None
    external_data: Mapping[str, str]
    shared_weights: str | None
    session_options: Mapping[str, str]
    row: Measured | None
    peak_memory_bytes: int | None
    accuracy: float | None
    provenance: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Package:
    """The variants in the order of recommendation; paths are relative to the package, None for what it does not have.

    ``required_operators`` is what a minimal build of ONNX Runtime for the ``.ort`` files is made by. ``licence`` is an
    SPDX expression, ``provenance`` tells recipe, data and tools, as far as they are known.
    """

    format: int
    name: str
    version: str
    task: str | None
    variants: tuple[Variant, ...]
    onnxruntime: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    golden: str
    preprocessing: str | None
    labels: str | None
    rows: str | None
    required_operators: str | None
    licence: str | None
    provenance: Mapping[str, str]
    runners: tuple[str, ...]


def read(folder: Path) -> Package:
    """What the package in ``folder`` says; raise BadUsage for what is none."""
    if not (folder / PACKAGE).is_file():
        raise BadUsage(f"{folder} is not a package: it has no {PACKAGE}.", "Make one with `nnx pack`.")
    return FORM.read(Package, regular_file.read_bytes(folder / PACKAGE))


def require_replaceable(output: Path) -> None:
    """BadUsage unless a package may be written there: to a new name, or over another package."""
    if not output.name.endswith(SUFFIX):
        raise BadUsage(f"{output} does not end in {SUFFIX}.", f"Call it NAME{SUFFIX}.")
    if output.is_symlink():
        raise BadUsage(f"{output} is a link.", "Name the folder itself, or another place.")
    if output.exists() and not (output.is_dir() and _is_ours(output)):
        raise BadUsage(f"{output} is there, and is no package of nnx.", "Choose another place, or remove it.")


def _is_ours(folder: Path) -> bool:
    return (folder / PACKAGE).is_file() or not any(folder.iterdir())
