"""What there is to report: a benchmark, and beside it whatever else a run has left."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from toolchain import manifest, regular_file
from toolchain.ablation.record import Ablation
from toolchain.artifacts_folder import ABLATION, BENCH, EXPLANATION, HISTORY
from toolchain.bench.record import Benchmark
from toolchain.errors import BadUsage
from toolchain.layers.record import Explanation
from toolchain.training.record import History

_Kind = TypeVar("_Kind")


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """All that a page is made of.

    ``recipe`` and ``data`` are the manifest's; ``source`` is what the user named, ``files`` what was read.
    """

    name: str
    source: Path
    files: tuple[Path, ...]
    benchmark: Benchmark
    training: History | None = None
    ablation: Ablation | None = None
    explained: Explanation | None = None
    recipe: str | None = None
    data: str | None = None


def read(target: Path) -> Gathered:
    """Read an artifacts folder, or a benchmark's JSON file alone.

    Raises BadUsage when there is no benchmark, and for a file that is not what its name says.
    """
    file = target / BENCH if target.is_dir() else target
    benchmark = _part(file, Benchmark.from_json)
    if benchmark is None:
        raise BadUsage(
            f"There is no {file}: a report needs bench data.", "Make it with `nnx bench TARGET --output FILE`."
        )
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
        training=_part(target / HISTORY, History.from_json),
        ablation=_part(target / ABLATION, Ablation.from_json),
        explained=_part(target / EXPLANATION, Explanation.from_json),
        recipe=recipe,
        data=data,
    )


def _fact(known: manifest.Manifest, name: str) -> str | None:
    """What the manifest says, if that can be used."""
    value = known.fact(name)
    return value if isinstance(value, str) and value else None


def _part(file: Path, from_json: Callable[[bytes], _Kind]) -> _Kind | None:
    """What ``file`` holds, None where there is no such file."""
    try:
        return from_json(regular_file.read_bytes(file))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except BadUsage as error:
        raise BadUsage(f"{file}: {error.what}", error.do) from error
