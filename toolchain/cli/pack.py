"""``nnx pack``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import options, types
from toolchain.cli.option_groups import group, option
from toolchain.cli.outputs import writable

if TYPE_CHECKING:
    from toolchain.progress import Progress
    from toolchain.shipping.contents import Contents
    from toolchain.shipping.packing import Packed

_TARGETS = ("linux-x64", "linux-arm64", "web", "node", "cpp", "android", "ios")
"""Those of :mod:`toolchain.shipping.targets`, which takes a second to load."""


@dataclass(frozen=True, kw_only=True)
class _Packaging:
    """What the package is to be."""

    devices: tuple[str, ...] = option(
        "--target", multiple=True, type=click.Choice(_TARGETS),
        help="What it goes to: carries that runner, for android and ios --ort; may be repeated.",
    )  # fmt: skip
    ort_files: bool = option(
        "--ort", is_flag=True,
        help="Also ONNX Runtime's own format, and the operators that a minimal build needs for it.",
    )  # fmt: skip
    licence: str | None = option("--licence", metavar="SPDX", help="The model's licence, such as Apache-2.0.")
    version: str = option(
        "--package-version", default="1.0.0", show_default=True, metavar="VERSION", help="The package's own."
    )
    key: Path | None = option(
        "--sign", type=types.FILE, metavar="KEY", help="Sign it with this private key of `nnx keys new`."
    )


@click.command("pack")
@click.argument("targets", nargs=-1, required=True, metavar="ARTIFACTS|MODEL...", type=types.FILE_OR_FOLDER)
@click.option(
    "-o", "--output", type=types.OUTPUT_FOLDER, help="The package.  [default: NAME.ortpackage in this folder]"
)
@click.option(
    "--samples", metavar="DATA",
    help="Where golden inputs come from: .npz, .npy, a folder of images, file.py:factory, or a recipe's test split.",
)  # fmt: skip
@options.data
@click.option("--bench", "benchmark", type=types.FILE, help="What `nnx bench` wrote.  [default: ARTIFACTS/bench.json]")
@click.option(
    "--recipe", "recipes", multiple=True, metavar="FILE.PY:NAME", help="A recipe of ARTIFACTS whose code you trust."
)
@group("packaging", _Packaging)
@options.as_json
def command(
    targets: tuple[Path, ...],
    output: Path | None,
    samples: str | None,
    data: Path | None,
    benchmark: Path | None,
    recipes: tuple[str, ...],
    packaging: _Packaging,
    as_json: bool,
) -> None:
    """Make one folder of models that a device runs, tests and explains: an ONNX Runtime model package.

    It holds an artifacts folder's models, or those named, the one that the benchmark recommends first; real inputs with
    the outputs that a device must give; preprocessing, labels, measured rows, a model card, a bill of materials, and a
    runner. The package tests itself in a fresh process first: one that fails is not written.

    \b
    Example:
      nnx pack artifacts/digits --licence Apache-2.0 --sign release.key
      nnx pack net.onnx net.int8.onnx --samples images/ -o net.ortpackage
    """
    from toolchain.console import LiveProgress, print_json
    from toolchain.shipping import contents, keys, packing, signature
    from toolchain.shipping.package import CHECKSUMS, SUFFIX
    from toolchain.shipping.targets import TARGETS, cautions

    place = output or Path(f"{contents.name_of(targets)}{SUFFIX}")
    packing.require_replaceable(place)
    name = place.name.removesuffix(SUFFIX)
    title = packing.Title(name=name, version=packaging.version, licence=packaging.licence)
    writable(place / CHECKSUMS, makes="")
    if packaging.key is not None:
        keys.private(packaging.key)  # what is no key, before the work
    progress = LiveProgress()
    found = _contents(targets, samples, data, benchmark, recipes, progress)
    chosen = [TARGETS[name] for name in packaging.devices]
    for caution in cautions(chosen, found.machine):
        progress.warn(caution)
    packed = packing.pack(found, place, title, targets=chosen, ort_files=packaging.ort_files, progress=progress)
    signed_by = None if packaging.key is None else signature.sign(place, packaging.key)
    if as_json:
        print_json(_facts(packed, signed_by))
    else:
        _show(packed, signed_by)


def _contents(
    targets: tuple[Path, ...],
    samples: str | None,
    data: Path | None,
    benchmark: Path | None,
    recipes: tuple[str, ...],
    progress: "Progress",
) -> "Contents":
    from toolchain.shipping import contents

    folders = [target for target in targets if target.is_dir()]
    if folders and len(targets) > 1:
        raise click.UsageError("Name one artifacts folder, or model files.")
    if folders:
        return contents.of_folder(
            folders[0],
            samples_source=samples,
            data_folder=data,
            recipes=recipes,
            benchmark=benchmark,
            progress=progress,
        )
    options.refuse(("recipes",), "for model files")
    return contents.of_models(targets, samples_source=samples, data_folder=data, benchmark=benchmark, progress=progress)


def _facts(packed: "Packed", signed_by: str | None) -> dict[str, object]:
    return {
        "package": str(packed.path),
        "size_bytes": packed.size_bytes,
        "digest": packed.digest,
        "signed_by": signed_by,
        "variants": [variant.name for variant in packed.package.variants],
        "onnxruntime": packed.package.onnxruntime,
        "receipt": packed.receipt,
    }


def _show(packed: "Packed", signed_by: str | None) -> None:
    from toolchain.console import print_result, print_table, print_text

    print_result(f"{packed.path}: {packed.size_bytes / 1e6:.3f} MB, SHA-256 of its list {packed.digest[:16]}…")
    told = packed.receipt["variants"]
    lines = [
        (
            variant.name,
            f"{variant.size_bytes / 1e6:.3f}",
            f"{told[variant.name]['latency_ms']['p50']:.3g}",
            max(f"{off:.2g}" for off in told[variant.name]["largest_difference"].values()),
            variant.onnxruntime,
        )
        for variant in packed.package.variants
    ]
    print_result("")
    headings = ("variant", "MB", "p50 ms", "largest difference", "ONNX Runtime from")
    print_table(f"{packed.package.name}, the recommended variant first", headings, lines)
    print_result("")
    if signed_by is not None:
        print_text(f"It is signed by the key {signed_by}.")
    print_text(f"It passed its self-test of {len(packed.receipt['checks'])} checks. On a device:")
    print_result(f"python {packed.path}/runners/python/run.py --self-test")
