"""``nnx pack``: contents become a package, which its own runner has tested before it gets its name."""

import json
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from exporters import provenance
from exporters.atomic_file import sha256_of
from runtimes.session_settings import KEY
from toolchain import machine
from toolchain.bench.record import Benchmark, Row, shown_host
from toolchain.errors import BadUsage
from toolchain.inspection.targets import lowest_release
from toolchain.progress import SILENT, Progress
from toolchain.shipping import (
    card,
    checksums,
    golden,
    model_package,
    ort_format,
    sbom,
    self_test,
    staged_folder,
    tolerance,
)
from toolchain.shipping import package as packages
from toolchain.shipping.contents import Contents, Model
from toolchain.shipping.model_package import Placed
from toolchain.shipping.package import Measured, Package, Tensor, Variant
from toolchain.shipping.targets import Target
from toolchain.shipping.tolerance import Answers

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LICENCE = re.compile(r"[A-Za-z0-9.+-]+( (AND|OR|WITH) [A-Za-z0-9.+-]+)*")
_TAKEN = {"nnx", "runners", "shared_assets", "manifest.json", "readme.md", "sha256sums", "model.sig"}


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What was made, and the receipt of its self-test."""

    path: Path
    package: Package
    size_bytes: int
    digest: str
    receipt: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Title:
    """What a package is called: ``version`` is its own, ``licence`` an SPDX expression. Raises BadUsage."""

    name: str
    version: str = "1.0.0"
    licence: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name.casefold() in _TAKEN:
            raise BadUsage(f"A package cannot be called '{self.name}'.", "Use letters, digits, dots, - and _.")
        if not _NAME.fullmatch(self.version):
            raise BadUsage(f"'{self.version}' is no version.", "Give one such as 1.2.0.")
        if self.licence is not None and not _LICENCE.fullmatch(self.licence):
            raise BadUsage(f"'{self.licence}' is no SPDX expression.", "Give one such as Apache-2.0 or MIT.")


def pack(
    contents: Contents,
    output: Path,
    title: Title,
    *,
    targets: Sequence[Target] = (),
    ort_files: bool = False,
    progress: Progress = SILENT,
) -> Packed:
    """Leave the package ``output``, in the place of one that is there, with what each of ``targets`` wants.

    ``ort_files`` adds ONNX Runtime's own format for all; these files alone are not the same at every packing.

    Raises CheckFailed, and leaves all as it was, when the package does not answer in a fresh process as its models do
    here; BadUsage for what cannot be packed, and for an ``output`` that is something else.
    """
    packages.require_replaceable(output)
    answers = {}
    with progress.bar("golden", len(contents.models)) as bar:
        for model in contents.models:
            answers[model.name] = tolerance.measured(model.file, contents.inputs.cases.calls)
            bar.advance(row=model.name)
    with staged_folder.staged(output) as folder:
        package = _write(folder, contents, title, answers, targets, ort_files or any(each.ort for each in targets))
        progress.note("self-test ...")
        receipt = self_test.run(folder)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        digest = sha256_of(folder / packages.CHECKSUMS)
    return Packed(path=output, package=package, size_bytes=size, digest=digest, receipt=receipt)


def _write(
    folder: Path,
    contents: Contents,
    title: Title,
    answers: Mapping[str, Answers],
    targets: Sequence[Target],
    ort_files: bool,
) -> Package:
    files = {model.name: model.file for model in contents.models}
    (folder / packages.FOLDER).mkdir()
    described, arrays = golden.written(contents.inputs.cases, answers)
    _save(folder / packages.GOLDEN, described)
    (folder / packages.GOLDEN_ARRAYS).write_bytes(arrays)
    if contents.inputs.preprocessing is not None:
        _save(folder / packages.PREPROCESSING, _json(dict(contents.inputs.preprocessing)))
    if contents.inputs.labels:
        _save(folder / packages.LABELS, _json(list(contents.inputs.labels)))
    if contents.benchmark is not None:
        _save(folder / packages.ROWS, _json(_rows(contents.benchmark, contents.models)))
    runners = tuple(dict.fromkeys(["python", *(runner for target in targets for runner in target.runners)]))
    for runner in runners:
        _copy_runner(runner, folder / "runners" / runner)
    task = _task(contents)
    placed = model_package.write(folder, title.name, title.version, _description(title, task), files)
    package = _describe(contents, title, task, placed, runners, ort_files)
    if ort_files:
        places = {each.name: folder / str(each.ort_file) for each in package.variants}
        ort_format.add(
            places, folder / packages.OPERATORS, files, contents.inputs.cases.calls, answers,
            platform=_platform(targets),
        )  # fmt: skip
    _save(folder / packages.PACKAGE, _json(asdict(package)))
    tolerances = {name: each.tolerances for name, each in answers.items()}
    _save(folder / packages.CARD, card.text(package, tolerances, contents.inputs.source))
    versions = {name: version for name, version in machine.library_versions().items() if version != "-"}
    _save(folder / packages.BILL, sbom.text(package, versions, contents.inputs.source))
    checksums.write(folder)
    return package


def _describe(
    contents: Contents,
    title: Title,
    task: str | None,
    placed: Mapping[str, Placed],
    runners: tuple[str, ...],
    ort_files: bool,
) -> Package:
    first = contents.models[0].file
    variants = tuple(_variant(model, placed[model.name], contents.benchmark, ort_files) for model in contents.models)
    return Package(
        format=packages.FORMAT,
        name=title.name,
        version=title.version,
        task=task,
        variants=variants,
        onnxruntime=max(
            (each.onnxruntime for each in variants), key=lambda name: [int(part) for part in name.split(".")]
        ),
        inputs=tuple(Tensor(name=each.name, dtype=each.dtype, shape=each.shape) for each in first.inputs),
        outputs=tuple(Tensor(name=each.name, dtype=each.dtype, shape=each.shape) for each in first.outputs),
        golden=packages.GOLDEN,
        preprocessing=None if contents.inputs.preprocessing is None else packages.PREPROCESSING,
        labels=packages.LABELS if contents.inputs.labels else None,
        rows=None if contents.benchmark is None else packages.ROWS,
        required_operators=packages.OPERATORS if ort_files else None,
        licence=title.licence,
        provenance={**contents.inputs.provenance, "packed_with": provenance.tool_versions()},
        runners=runners,
    )


def _variant(model: Model, placed: Placed, benchmark: Benchmark | None, ort_files: bool) -> Variant:
    file, row = model.file, model.row
    facts = {name: fact for name, fact in sorted(file.facts.items()) if name != KEY.removeprefix("nnx.")}
    return Variant(
        name=model.name,
        model=placed.model,
        sha256=file.sha256,
        size_bytes=file.size_bytes,
        opset=file.opset,
        ir_version=file.ir_version,
        precision=file.precision,
        onnxruntime=lowest_release(file.graph),
        ort_file=placed.model.removesuffix(".onnx") + ".ort" if ort_files else None,
        external_data=placed.external_data,
        shared_weights=placed.shared_weights,
        session_options=placed.session_options,
        row=None if row is None or benchmark is None else _measured(row, benchmark),
        peak_memory_bytes=None if row is None else row.peak_memory_bytes,
        accuracy=None if row is None or row.accuracy is None or row.metric is not None else row.accuracy.estimate,
        provenance=facts,
    )


def _platform(targets: Sequence[Target]) -> str:
    """The kind of processor that ``.ort`` files are optimized for: the targets', else this one's."""
    named = [target.architecture for target in targets if target.architecture]
    return ort_format.PLATFORMS.get(named[0] if named else platform.machine(), "arm")


def _measured(row: Row, benchmark: Benchmark) -> Measured:
    machine = benchmark.machine_of(row)
    return Measured(
        latency_ms=_latency(row),
        batch=row.setting.batch,
        threads=row.setting.threads,
        machine=f"{machine.get('processor', 'an unknown processor')}, {machine.get('cores')} cores",
    )


def _latency(row: Row) -> dict[str, float]:
    return {f"p{q}": float(value) for q in (50, 90, 99) if (value := row.latency_ms(q)) is not None}


def _rows(benchmark: Benchmark, models: Sequence[Model]) -> dict[str, Any]:
    """What was measured of these files, without the raw samples and the paths of this machine."""
    names = {model.file.sha256: model.name for model in models}
    rows = [
        {
            "variant": names[row.candidate.sha256],
            **({} if row.setting.host is None else {"host": shown_host(row.setting.host)}),
            "provider": row.setting.where,
            "batch": row.setting.batch,
            "threads": row.setting.threads,
            "concurrency": row.setting.concurrency,
            "status": row.status.value,
            "latency_ms": _latency(row),
            "throughput_per_s": row.throughput_per_s,
            "accuracy": None if row.accuracy is None else row.accuracy.estimate,
            "peak_memory_bytes": row.peak_memory_bytes,
            "facts": {name: fact for name, fact in row.facts.items() if name != "profile"},
        }
        for row in benchmark.rows
        if row.candidate.sha256 in names and not row.repeats
    ]
    others = {shown_host(host): facts for host, facts in benchmark.hosts.items()}
    told = {"machine": benchmark.machine} | ({"hosts": others} if others else {})
    return {**told, "measured": benchmark.created, "rows": rows}


def _task(contents: Contents) -> str | None:
    """As Hugging Face calls it."""
    if not contents.inputs.labels or contents.inputs.preprocessing is None:
        return None
    return {"image": "image-classification", "tfidf": "text-classification"}.get(contents.inputs.preprocessing["kind"])


def _description(title: Title, task: str | None) -> str:
    return f"{title.name} {title.version}" + (f", {task}" if task else "")


def _copy_runner(name: str, target: Path) -> None:
    with resources.as_file(resources.files("toolchain.shipping") / "runners" / name) as source:
        shutil.copytree(source, target, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("__pycache__"))


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _save(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
