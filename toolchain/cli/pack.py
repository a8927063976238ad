"""``nnx pack``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import options, types
from toolchain.cli.outputs import writable

if TYPE_CHECKING:
    from toolchain.progress import Progress
    from toolchain.shipping.contents import Contents
    from toolchain.shipping.packing import Packed

_TARGETS = ("linux-x64", "linux-arm64", "android", "ios")
"""Those of :mod:`toolchain.shipping.targets`, which takes a second to load."""


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
    "--target", "devices", multiple=True, type=click.Choice(_TARGETS),
    help="What it goes to: carries that runner, for android and ios --ort; may be repeated.",
)  # fmt: skip
@click.option(
    "--ort", "ort_files", is_flag=True,
    help="Also ONNX Runtime's own format, and the operators that a minimal build needs for it.",
)  # fmt: skip
@click.option("--licence", metavar="SPDX", help="The model's licence, such as Apache-2.0.")
@click.option("--package-version", default="1.0.0", show_default=True, metavar="VERSION", help="The package's own.")
@click.option(
    "--recipe", "recipes", multiple=True, metavar="FILE.PY:NAME", help="A recipe of ARTIFACTS whose code you trust."
)
@options.as_json
def command(
    targets: tuple[Path, ...],
    output: Path | None,
    samples: str | None,
    data: Path | None,
    benchmark: Path | None,
    devices: tuple[str, ...],
    ort_files: bool,
    licence: str | None,
    package_version: str,
    recipes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make one folder of models that a device runs, tests and explains: an ONNX Runtime model package.

    It holds an artifacts folder's models, or those named, the one that the benchmark recommends first; real inputs with
    the outputs that a device must give; preprocessing, labels, measured rows, a model card, a bill of materials, and a
    runner. The package tests itself in a fresh process first: one that fails is not written.

    \b
    Example:
      nnx pack artifacts/digits --licence Apache-2.0
      nnx pack net.onnx net.int8.onnx --samples images/ -o net.ortpackage
    """
    from toolchain.console import LiveProgress, print_json
    from toolchain.shipping import contents, packing
    from toolchain.shipping.package import CHECKSUMS, SUFFIX
    from toolchain.shipping.targets import TARGETS, cautions

    place = output or Path(f"{contents.name_of(targets)}{SUFFIX}")
    packing.require_replaceable(place)
    title = packing.Title(name=place.name.removesuffix(SUFFIX), version=package_version, licence=licence)
    writable(place / CHECKSUMS, makes="")
    progress = LiveProgress()
    found = _contents(targets, samples, data, benchmark, recipes, progress)
    chosen = [TARGETS[name] for name in devices]
    for caution in cautions(chosen, found.benchmark):
        progress.warn(caution)
    packed = packing.pack(found, place, title, targets=chosen, ort_files=ort_files, progress=progress)
    if as_json:
        print_json(_facts(packed))
    else:
        _show(packed)


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


def _facts(packed: "Packed") -> dict[str, object]:
    return {
        "package": str(packed.path),
        "size_bytes": packed.size_bytes,
        "digest": packed.digest,
        "variants": [variant.name for variant in packed.package.variants],
        "onnxruntime": packed.package.onnxruntime,
        "receipt": packed.receipt,
    }


def _show(packed: "Packed") -> None:
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
    print_text(f"It passed its self-test of {len(packed.receipt['checks'])} checks. On a device:")
    print_result(f"python {packed.path}/runners/python/run.py --self-test")
