"""Model repositories: folders that Triton, OpenVINO Model Server and KServe serve, made of one variant of a package.

The package is verified and answers its golden inputs first, as for ``nnx serve``; that its batch may be of any length
is proven on them too.
"""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporters.atomic_file import sha256_of
from toolchain import regular_file, strict_json
from toolchain.errors import BadUsage
from toolchain.progress import SILENT, Progress
from toolchain.serving import checked, tensors, triton_config
from toolchain.serving.checked import Served
from toolchain.serving.triton_config import Config, Warmup
from toolchain.shipping import golden_values, staged_folder
from toolchain.shipping.package import CHECKSUMS, SUFFIX

RECEIPT = "nnx.json"
"""Of what a repository was made; engines look at folders alone."""
MODELS = "models"
"""Where KServe's repository lies beside its YAML."""
_TOLD = ("engine", "package", "package_version")
_RECEIPT = {"type": "object", "required": [*_TOLD], "properties": {key: {"type": "string"} for key in _TOLD}}
_WARMUP = "warmup"  # Triton looks for the files there
_LABELS = "labels.txt"


@dataclass(frozen=True, kw_only=True)
class Repository:
    """What was made: the model is called ``name`` there, and has the ``version``."""

    path: Path
    engine: str
    name: str
    version: int
    variant: str
    most_rows: int
    files: tuple[str, ...]


def write(
    package: Path,
    engine: str,
    output: Path,
    *,
    variant: str | None = None,
    trust: Path | None = None,
    most_rows: int = 8,
    progress: Progress = SILENT,
) -> Repository:
    """Leave the repository ``output`` for one of :data:`ENGINES`, in the place of one that is there.

    ``most_rows`` is the largest batch that Triton makes. Raises what :func:`checked.opened` raises, and BadUsage for an
    ``output`` that is something else.
    """
    require_replaceable(output)
    with (
        checked.opened(package, variant=variant, trust=trust, most_rows=most_rows, progress=progress) as served,
        staged_folder.staged(output) as folder,
    ):
        version = max(1, int(re.match(r"\d{0,9}", served.package.version)[0] or 1))  # type: ignore[index]
        for caution in ENGINES[engine](folder, served, version):
            progress.warn(caution)
        receipt = {
            "engine": engine,
            "package": served.package.name,
            "package_version": served.package.version,
            "package_sha256": sha256_of(served.folder / CHECKSUMS),
            "variant": served.variant.name,
            "model_sha256": served.variant.sha256,
            "onnxruntime": served.variant.onnxruntime,
        }
        _save(folder / RECEIPT, json.dumps(receipt, indent=1))
        files = tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))
        return Repository(
            path=output,
            engine=engine,
            name=served.package.name,
            version=version,
            variant=served.variant.name,
            most_rows=served.most_rows,
            files=files,
        )


def require_replaceable(output: Path) -> None:
    """BadUsage unless a repository may be written there: to a new name, or over one of ours."""
    if output.is_symlink():
        raise BadUsage(f"{output} is a link.", "Name the folder itself, or another place.")
    if output.exists() and not (output.is_dir() and _is_ours(output)):
        raise BadUsage(f"{output} is there, and is no repository of nnx.", "Choose another place, or remove it.")


def _is_ours(folder: Path) -> bool:
    if not (folder / RECEIPT).is_file():
        return not any(folder.iterdir())
    try:
        return receipt_of(folder)["engine"] in ENGINES
    except BadUsage:
        return False


def receipt_of(folder: Path) -> dict[str, str]:
    """Of what the repository in ``folder`` was made, and for which ``engine``; BadUsage for what is none of ours."""
    try:
        told = strict_json.parsed(regular_file.read_bytes(folder / RECEIPT))
        strict_json.check(told, _RECEIPT)
    except ValueError as error:
        raise BadUsage(f"{folder} is no repository of nnx.", "Make one with `nnx pack --target kserve`.") from error
    return dict(told)


def _triton(folder: Path, served: Served, version: int) -> list[str]:
    place = folder / served.package.name
    batched, cautions = _batches_in_triton(served)
    _copy_model(place / str(version), served)
    labels = _labels(served)
    if labels:
        _save(place / _LABELS, "\n".join(labels))
    config = Config(
        interface=served.interface,
        most_rows=served.most_rows if batched else 0,
        threads=served.threads,
        settings=served.variant.session_options,
        warmups=_warmups(place / _WARMUP, served, batched),
        labels=dict.fromkeys(served.interface.outputs if labels else (), _LABELS),
    )
    _save(place / "config.pbtxt", triton_config.text(config))
    for each in config.unknown:
        cautions.append(
            f"Triton's backend cannot be told {each}: measure there before you trust the package's latency."
        )
    return cautions


def _batches_in_triton(served: Served) -> tuple[bool, list[str]]:
    """Whether it makes batches, and what is to be said of that. Raises BadUsage for what it does not serve at all.

    It has no tensors without axes, and none in a sample of a batch either: where a sample is a number, clients would
    have to send other shapes than the model takes.
    """
    tensors = (*served.interface.inputs.values(), *served.interface.outputs.values())
    if lacking := [tensor.name for tensor in tensors if not tensor.shape]:
        raise BadUsage(
            f"Triton serves no single values: '{lacking[0]}' has no axes.", "Give it one, of length 1, in the model."
        )
    numbers = [tensor.name for tensor in tensors if len(tensor.shape) == 1]
    if served.most_rows == 1 or not numbers:
        return served.most_rows > 1, []
    return False, [f"Triton runs each request alone: a sample of '{numbers[0]}' is a number, without an axis."]


def _ovms(folder: Path, served: Served, version: int) -> list[str]:
    """OpenVINO computes the model itself: of ONNX Runtime's settings none holds."""
    name = served.package.name
    _copy_model(folder / name / str(version), served)
    config = {"name": name, "base_path": name}  # from the folder of this file on
    _save(folder / "config.json", json.dumps({"model_config_list": [{"config": config}]}, indent=1))
    return ["OpenVINO computes otherwise than ONNX Runtime, which measured the tolerances: ask it the golden inputs."]


_INFERENCE_SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: "{service}"
spec:
  predictor:
    model:
      modelFormat:
        name: triton
      runtime: kserve-tritonserver
      protocolVersion: v2
      # where the folder `models` beside this file was brought: pvc://, s3://, gs:// or https://
      storageUri: pvc://models/{service}
"""


def _kserve(folder: Path, served: Served, version: int) -> list[str]:
    cautions = _triton(folder / MODELS, served, version)
    service = re.sub(r"[^a-z0-9]+", "-", served.package.name.lower()).strip("-")[:63].strip("-")
    _save(folder / "inferenceservice.yaml", _INFERENCE_SERVICE.format(service=service or "model"))
    return cautions


ENGINES: dict[str, Callable[[Path, Served, int], list[str]]] = {"triton": _triton, "ovms": _ovms, "kserve": _kserve}


def _copy_model(place: Path, served: Served) -> None:
    """The model and its weights, each where the model looks for it."""
    places = {"model.onnx": served.variant.model, **served.variant.external_data}
    for name, source in places.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(served.folder / source, place / name)


def _labels(served: Served) -> list[str]:
    """What the classes are called, where the only output has one number for each, and every name is a line."""
    outputs = list(served.interface.outputs.values())
    if served.package.labels is None or len(outputs) != 1:
        return []
    labels = strict_json.parsed(regular_file.read_bytes(served.folder / served.package.labels))
    if type(labels) is not list or not all(type(each) is str for each in labels):
        return []
    fits = bool(outputs[0].shape) and outputs[0].shape[-1] == len(labels)
    return labels if fits and all(each.splitlines() == [each] for each in labels) else []


def _warmups(folder: Path, served: Served, batched: bool) -> list[Warmup]:
    """A request of each shape that the golden inputs have, alone, and as large as a batch may be."""
    values = golden_values.read(served.folder, served.variant.name)
    folder.mkdir()
    found: dict[tuple[tuple[int, ...], ...], Warmup] = {}
    for number, call in enumerate(values.calls[: values.singles]):
        samples = {name: array[:1] if batched else array for name, array in call.items()}
        key = tuple(array.shape for array in samples.values())
        if key in found:
            continue
        files = {name: f"golden-{number}-{place}" for place, name in enumerate(samples)}
        for name, array in samples.items():
            (folder / files[name]).write_bytes(tensors.to_bytes(array))
        shapes = {name: array.shape[1:] if batched else array.shape for name, array in samples.items()}
        found[key] = Warmup(name=f"golden {number}", rows=1, files=files, shapes=shapes)
    return [*found.values(), *(_full(each, served.most_rows) for each in found.values() if batched)]


def _full(warmup: Warmup, rows: int) -> Warmup:
    return Warmup(name=f"{warmup.name}, {rows} times", rows=rows, files=warmup.files, shapes=warmup.shapes)


def _save(path: Path, content: str) -> None:
    path.write_text(content if content.endswith("\n") else content + "\n", encoding="utf-8", newline="\n")


def default_name(package: str, engine: str) -> Path:
    """Where a repository made of a package of that name goes when nobody says."""
    return Path(f"{package.removesuffix('.tar').removesuffix('.zip').removesuffix(SUFFIX)}.{engine}")


def engine_among(targets: Sequence[str]) -> str | None:
    """The engine that is named there, which must be alone; None where there is none. Raises BadUsage."""
    engines = [target for target in targets if target in ENGINES]
    if engines and len(set(targets)) > 1:
        raise BadUsage(
            f"{engines[0]} reads a repository of its own, and no package.",
            "Name it alone, and pack once more for the rest.",
        )
    return engines[0] if engines else None
