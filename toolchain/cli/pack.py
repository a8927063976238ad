"""``nnx pack``."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import options, types
from toolchain.cli.option_groups import group, option
from toolchain.cli.outputs import writable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from toolchain.progress import Progress
    from toolchain.serving.repository import Repository
    from toolchain.shipping.contents import Contents
    from toolchain.shipping.packing import Packed

_TARGETS = ("linux-x64", "linux-arm64", "web", "node", "cpp", "android", "ios")
"""Those of :mod:`toolchain.shipping.targets`, which takes a second to load."""
_ENGINES = ("triton", "ovms", "kserve")
"""Those of :mod:`toolchain.serving.repository`."""


@dataclass(frozen=True, kw_only=True)
class _Packaging:
    """What the package is to be."""

    devices: tuple[str, ...] = option(
        "--target", multiple=True, type=click.Choice((*_TARGETS, *_ENGINES)),
        help="What it goes to: carries that runner, for android and ios --ort; may be repeated. For triton, ovms and "
        "kserve, one alone, no package is made but the repository that the engine serves.",
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


@dataclass(frozen=True, kw_only=True)
class _Engine:
    """What goes into an engine's repository."""

    variant: str | None = option(
        "--variant", metavar="NAME", help="The model that the engine serves.  [default: the recommended one]"
    )
    most_rows: int = option(
        "--max-batch", type=click.IntRange(min=1), default=8, show_default=True,
        help="The largest batch that Triton makes of requests.",
    )  # fmt: skip
    trust: Path | None = option(
        "--trust", type=types.FILE, metavar="KEY.pub", help="The public key that must have signed all of PACKAGE."
    )


@dataclass(frozen=True, kw_only=True)
class _Given:
    """What is known of the models."""

    samples: str | None = option(
        "--samples", metavar="DATA",
        help="Where golden inputs come from: .npz, .npy, .tar, a folder of images or rows, file.py:factory, or a "
        "recipe's test split.",
    )  # fmt: skip
    data: Path | None = option("--data", type=types.FOLDER, help=options.DATA_HELP)
    benchmark: Path | None = option(
        "--bench", type=types.FILE, help="What `nnx bench` wrote.  [default: ARTIFACTS/bench.json]"
    )
    recipes: tuple[str, ...] = option(
        "--recipe", multiple=True, metavar="FILE.PY:NAME", help="A recipe of ARTIFACTS whose code you trust."
    )


@click.command("pack")
@click.argument("targets", nargs=-1, required=True, metavar="ARTIFACTS|MODEL...|PACKAGE", type=types.FILE_OR_FOLDER)
@click.option(
    "-o", "--output", type=types.OUTPUT_FOLDER,
    help="The package, or the repository.  [default: NAME.ortpackage or NAME.ENGINE in this folder]",
)  # fmt: skip
@options.reading
@group("given", _Given)
@group("packaging", _Packaging)
@group("engine", _Engine)
@options.as_json
def command(
    targets: tuple[Path, ...],
    output: Path | None,
    given: _Given,
    packaging: _Packaging,
    engine: _Engine,
    as_json: bool,
) -> None:
    """Make one folder of models that a device runs, tests and explains: an ONNX Runtime model package.

    It holds an artifacts folder's models, or those named, the one that the benchmark recommends first; real inputs with
    the outputs that a device must give; preprocessing, labels, measured rows, a model card, a bill of materials, and a
    runner. The package tests itself in a fresh process first: one that fails is not written.

    For an engine, --target triton, ovms or kserve, a repository is made of such a package, or of a PACKAGE that is
    there, a folder or a .tar or .zip of it, which is verified first.

    \b
    Example:
      nnx pack artifacts/digits --licence Apache-2.0 --sign release.key
      nnx pack net.onnx net.int8.onnx --samples images/ -o net.ortpackage
      nnx pack digits.ortpackage --target triton -o repository
    """
    from toolchain.console import LiveProgress, print_json
    from toolchain.serving import repository
    from toolchain.shipping import contents, keys, packing, signature
    from toolchain.shipping.package import CHECKSUMS, SUFFIX, require_replaceable
    from toolchain.shipping.targets import TARGETS, cautions

    progress = LiveProgress()
    if (engine_name := repository.engine_among(packaging.devices)) is not None:
        options.refuse(("ort_files", "key"), "in a repository")
        with _package(targets, given, packaging, progress) as package:
            made = repository.write(
                package,
                engine_name,
                output or repository.default_name(package.name, engine_name),
                variant=engine.variant,
                trust=engine.trust,
                most_rows=engine.most_rows,
                progress=progress,
            )
        _show_repository(made, as_json=as_json)
        return
    options.refuse(("variant", "most_rows", "trust"), f"without --target {', '.join(_ENGINES)}")
    place = output or Path(f"{contents.name_of(targets)}{SUFFIX}")
    require_replaceable(place)
    name = place.name.removesuffix(SUFFIX)
    title = packing.Title(name=name, version=packaging.version, licence=packaging.licence)
    writable(place / CHECKSUMS, makes="")
    if packaging.key is not None:
        keys.private(packaging.key)  # what is no key, before the work
    found = _contents(targets, given, progress)
    chosen = [TARGETS[name] for name in packaging.devices]
    for caution in cautions(chosen, found.machine):
        progress.warn(caution)
    packed = packing.pack(found, place, title, targets=chosen, ort_files=packaging.ort_files, progress=progress)
    signed_by = None if packaging.key is None else signature.sign(place, packaging.key)
    if as_json:
        print_json(_facts(packed, signed_by))
    else:
        _show(packed, signed_by)


@contextlib.contextmanager
def _package(
    targets: tuple[Path, ...],
    given: _Given,
    packaging: _Packaging,
    progress: "Progress",
) -> "Iterator[Path]":
    """The package that is named, or one that is packed of the rest and goes with the block."""
    import tempfile

    from toolchain.shipping import contents, packing
    from toolchain.shipping.package import PACKAGE, SUFFIX

    if len(targets) == 1 and ((targets[0] / PACKAGE).is_file() or targets[0].suffix in (".tar", ".zip")):
        made_by = ("samples", "data", "benchmark", "recipes", "licence", "version")
        options.refuse(made_by, "to a package that is made already")
        yield targets[0]
        return
    options.refuse(("trust",), "where no package is named")
    name = contents.name_of(targets)
    title = packing.Title(name=name, version=packaging.version, licence=packaging.licence)
    found = _contents(targets, given, progress)
    with tempfile.TemporaryDirectory(prefix="nnx-package-") as folder:
        yield packing.pack(found, Path(folder, f"{name}{SUFFIX}"), title, progress=progress).path


def _contents(
    targets: tuple[Path, ...],
    given: _Given,
    progress: "Progress",
) -> "Contents":
    from toolchain.shipping import contents

    folders = [target for target in targets if target.is_dir()]
    if folders and len(targets) > 1:
        raise click.UsageError("Name one artifacts folder, or model files.")
    if folders:
        return contents.of_folder(
            folders[0],
            samples_source=given.samples,
            data_folder=given.data,
            recipes=given.recipes,
            benchmark=given.benchmark,
            progress=progress,
        )
    options.refuse(("recipes",), "for model files")
    return contents.of_models(
        targets,
        samples_source=given.samples,
        data_folder=given.data,
        benchmark=given.benchmark,
        progress=progress,
    )


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


def _show_repository(made: "Repository", *, as_json: bool) -> None:
    from dataclasses import asdict

    from toolchain.console import print_json, print_result

    if as_json:
        print_json({**asdict(made), "path": str(made.path)})
        return
    batches = f", batches up to {made.most_rows}" if made.most_rows > 1 else ""
    print_result(f"{made.path}: {made.name}, version {made.version}, {made.variant}{batches}, for {made.engine}")
    print_result("\n".join(f"  {file}" for file in made.files))


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
