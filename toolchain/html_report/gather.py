"""What there is to report: a benchmark, and beside it whatever else a run has left."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from toolchain import manifest
from toolchain.artifacts_folder import ABLATION, BENCH, EXPLANATION, HISTORY
from toolchain.bench.record import Benchmark
from toolchain.errors import BadUsage
from toolchain.stats import Interval

_Kind = TypeVar("_Kind")
_Content = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One pass over the training data; accuracies are shares."""

    number: int
    loss: float
    train_accuracy: float
    validation_accuracy: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training run."""

    epochs: tuple[Epoch, ...]
    device: str


@dataclass(frozen=True, kw_only=True)
class Loop:
    """One training loop of an ablation; gains are over the plain loop, None where that could not run."""

    name: str
    step_ms: float
    epoch_s: float
    step_gain: Interval | None
    epoch_gain: Interval | None
    validation_accuracy: float


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """One layer of an explained model; None where it was not compared."""

    name: str
    op_type: str
    precision: str
    own_db: float | None
    accumulated_db: float | None
    noise_share: float | None
    time_share: float


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What ``nnx explain --json`` said of a model, its most damaging layer first."""

    model: str
    precision: str
    reference: str | None
    samples: str
    layers: tuple[LayerFacts, ...]
    advice: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """All that a page is made of.

    ``recipe`` and ``data`` are the manifest's; ``source`` is what the user named, ``files`` what was read.
    """

    name: str
    source: Path
    files: tuple[Path, ...]
    benchmark: Benchmark
    training: Training | None = None
    ablation: tuple[Loop, ...] = ()
    explained: Explained | None = None
    recipe: str | None = None
    data: str | None = None


def read(target: Path) -> Gathered:
    """Read an artifacts folder, or a benchmark's JSON file alone.

    Raises BadUsage when there is no benchmark, and for a file that is not what its name says.
    """
    file = target / BENCH if target.is_dir() else target
    benchmark = _benchmark(file)
    if not benchmark.rows:
        raise BadUsage(f"{file} holds no rows: a report needs bench data.", "Run the bench again.")
    if not target.is_dir():
        return Gathered(name=file.stem, source=target, files=(file,), benchmark=benchmark)
    known = manifest.Manifest(target)
    recipe, data = (_fact(known, name) for name in ("recipe", "data"))
    return Gathered(
        name=Path(recipe or target.resolve().name).name,
        source=target,
        files=(file, *(target / name for name in (HISTORY, ABLATION, EXPLANATION, manifest.NAME))),
        benchmark=benchmark,
        training=_part(target / HISTORY, _training, "nnx train"),
        ablation=_part(target / ABLATION, _loops, "nnx train --ablate") or (),
        explained=_part(target / EXPLANATION, _explained, "nnx explain --json"),
        recipe=recipe,
        data=data,
    )


def _benchmark(file: Path) -> Benchmark:
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadUsage(
            f"There is no {file}: a report needs bench data.", "Make it with `nnx bench TARGET --output FILE`."
        ) from error
    except UnicodeDecodeError as error:
        raise BadUsage(f"{file} is not a benchmark of nnx.", "Run the bench again.") from error
    try:
        return Benchmark.from_json(text)
    except BadUsage as error:
        raise BadUsage(f"{file}: {error.what}", error.do) from error


def _fact(known: manifest.Manifest, name: str) -> str | None:
    """What the manifest says, if that can be used."""
    value = known.fact(name)
    return value if isinstance(value, str) and value else None


def _part(file: Path, made_of: Callable[[_Content], _Kind], maker: str) -> _Kind | None:
    """What ``file`` holds, None where there is no such file."""
    try:
        return made_of(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadUsage(f"{file} is not what `{maker}` writes.", "Make it again, or remove it.") from error


def _training(content: _Content) -> Training:
    epochs = tuple(_only(Epoch, entry) for entry in content["epochs"])
    return _only(Training, {"device": content["options"]["device"], "epochs": epochs})


def _loops(content: _Content) -> tuple[Loop, ...]:
    _require_version(content)
    gains = ("step_gain", "epoch_gain")
    return tuple(
        _only(Loop, {**entry, **{name: entry[name] and _only(Interval, entry[name]) for name in gains}})
        for entry in content["variants"]
    )


def _explained(content: _Content) -> Explained:
    _require_version(content)
    layers = tuple(
        _only(LayerFacts, {**entry, "own_db": entry["own_sqnr_db"], "accumulated_db": entry["accumulated_sqnr_db"]})
        for entry in content["layers"]
    )
    return _only(Explained, {**content, "layers": layers, "advice": tuple(content["advice"])})


def _require_version(content: _Content) -> None:
    if content["schema_version"] != 1:
        raise ValueError("another schema version")


def _only(kind: Callable[..., _Kind], entry: _Content) -> _Kind:
    """``kind`` made of those entries that it has fields for; TypeError for one of another type."""
    fields = {name: (entry[name], wanted) for name, wanted in get_type_hints(kind).items()}
    if wrong := [name for name, (value, wanted) in fields.items() if not _fits(value, wanted)]:
        raise TypeError(wrong[0])
    return kind(**{name: value for name, (value, _) in fields.items()})


def _fits(value: object, wanted: Any) -> bool:
    """Whether JSON's ``value`` is what an annotation asks for: a number may be whole, and is no truth value."""
    if isinstance(wanted, UnionType):
        return any(_fits(value, each) for each in get_args(wanted))
    if get_origin(wanted) is tuple:
        return isinstance(value, tuple) and all(_fits(each, get_args(wanted)[0]) for each in value)
    if wanted is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, wanted) and not isinstance(value, bool)
