"""A file that shows the fault of a module by itself: with torch, onnxruntime and the user's own code alone."""

import base64
import io
import re
import subprocess
import sys
import tempfile
import textwrap
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from exporters import provenance
from exporters.atomic_file import staged
from exporters.errors import AnotherRoad, NotExportable, WrongResult
from exporters.input_tree import Input, Tree
from exporters.torch_module import bound
from toolchain.bisection import repro_text
from toolchain.bisection.construction import Names, of_module, of_value
from toolchain.bisection.finding import Finding
from toolchain.bisection.sources import Cut, NotDescribable
from toolchain.bisection.trial import Fault, Tried
from toolchain.conversion import export_proof
from toolchain.conversion.reference import Arrays, DoesNotRun
from toolchain.errors import BadUsage
from toolchain.inputs.input_specs import BATCH

_MARK = "Shows a fault of an export; written by nnx export --bisect."
"""Stands in the first line: what has it may be replaced."""
_MOST_INLINED = 12_000
"""Characters of real weights and inputs that are written into the file."""
_MOST_SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class Maker:
    """The user's file and what in it makes the whole model, for a module that cannot be cut out of it."""

    file: Path
    name: str
    arguments: Mapping[str, Any]


def require_free(path: Path) -> None:
    """Raise BadUsage where a file that this did not write has the name."""
    if path.exists() and _MARK not in path.read_text(encoding="utf-8", errors="replace")[:200]:
        raise BadUsage(
            f"{path} is there, and was not written by --bisect.", "Choose another --output, or move it away."
        )


def write(tried: Tried, finding: Finding, path: Path, *, opset: int, maker: Maker | None) -> str:
    """Write to ``path`` the first form of the file that shows the fault when it is run; say why there is none.

    Tried in turn: weights and inputs drawn from a seed, those of the model written down, and the user's own file
    imported. Nothing is returned where one was written.
    """
    require_free(path)
    reasons: list[str] = []
    for make in _FORMS:
        try:
            text = make(tried, finding, opset, maker)
        except NotDescribable as error:
            reasons.append(str(error))
            continue
        try:
            code, said = _run(text)
        except subprocess.TimeoutExpired:
            reasons.append(f"the file ran for {_MOST_SECONDS} s without an end")
            continue
        if code == 1 and _is_the_fault(said, None if tried.unstable else tried.fault):
            with staged(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            return ""
        what = "with such values there is no fault" if code == 0 else f"cut out, it does something else ({said})"
        reasons.append(what)
    return "; ".join(dict.fromkeys(reasons)) + "."


def _is_the_fault(said: str, fault: Fault | None) -> bool:
    """Whether the file tells of the ``fault``, and of none of its own; None is one that it shows in PyTorch alone."""
    if fault is None:
        return "FAULT: " in said
    if isinstance(fault, NotExportable) and not isinstance(fault, AnotherRoad):
        reason = re.findall(r"\w{4,}", fault.what.partition(" could not be exported: ")[2] or fault.what)[:8]
        return "raises" in said and 2 * sum(word in said for word in reason) >= max(1, len(reason))
    # torch may declare an axis open that it has fixed inside: then the values are wrong at another length
    of_a_file = ["does not agree", "onnxruntime fails", *(["became fixed"] if isinstance(fault, WrongResult) else [])]
    return any(symptom in said for symptom in of_a_file)


def _run(text: str) -> tuple[int, str]:
    """The exit code, and the last line that it printed, of the file run in a process of its own.

    Raises subprocess.TimeoutExpired.
    """
    with tempfile.TemporaryDirectory(prefix="nnx-repro-") as folder:
        (Path(folder) / "repro.py").write_text(text, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "repro.py"], cwd=folder, capture_output=True, text=True, timeout=_MOST_SECONDS,
            check=False,
        )  # fmt: skip
    lines = (
        done.stdout if done.returncode == 1 and "FAULT" in done.stdout else done.stderr or done.stdout
    ).splitlines()
    return done.returncode, next((line for line in lines if "FAULT: " in line), (lines or [""])[-1])[:900]


def _seeded(tried: Tried, finding: Finding, opset: int, maker: Maker | None) -> str:
    return _cut_out(tried, finding, opset, real=False)


def _inlined(tried: Tried, finding: Finding, opset: int, maker: Maker | None) -> str:
    return _cut_out(tried, finding, opset, real=True)


def _imported(tried: Tried, finding: Finding, opset: int, maker: Maker | None) -> str:
    """The model made by the user's own file, and the module taken out of it."""
    if maker is None:
        raise NotDescribable("there is no file of theirs to import")
    body = textwrap.dedent(f'''
        def make():
            """{finding.module or "The model"} out of the model that {maker.name} makes; its weights are the seed's."""
            sys.path[:0] = {[str(folder) for folder in (maker.file.parent, *maker.file.parent.parents[:2])]}
            spec = importlib.util.spec_from_file_location({maker.file.stem!r}, {str(maker.file)!r})
            theirs = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(theirs)
            torch.manual_seed(0)
            made = functools.reduce(getattr, {maker.name.split(".")}, theirs)
            if not isinstance(made, (torch.nn.Module, tuple)):
                made = made(**{dict(maker.arguments)!r})
            made = made[0] if isinstance(made, tuple) else made
            return made.get_submodule({finding.module!r})
    ''')
    imports = ["import functools", "import importlib.util"]
    names = Names()
    called = _called(tried, names)
    if names.theirs:
        raise NotDescribable("an argument is an object of theirs")
    return _text(tried, finding, opset, imports, [], body, called, real=False)


_FORMS = (_seeded, _inlined, _imported)


def _cut_out(tried: Tried, finding: Finding, opset: int, *, real: bool) -> str:
    names, cut = Names(), Cut()
    made = of_module(tried.reference.module, names, 4)
    loaded = '    made.load_state_dict(VALUES["weights"])\n' if real else ""
    body = f"\n\ndef make():\n    made = {made}\n{loaded}    return made\n"
    called = _called(tried, names)
    for name, thing in names.theirs.items():
        cut.add(thing.__module__, name)
    imports = [*cut.imports, *(f"import {module}" for module in names.imports if module not in ("torch", "builtins"))]
    body = "".join(
        [
            repro_text.BUILD if "build(" in made else "",
            repro_text.HOLDING if "holding(" in made + called else "",
            repro_text.FILLED if "filled(" in made else "",
            body,
        ]
    )
    return _text(tried, finding, opset, imports, cut.statements, body, called, real=real)


def _text(
    tried: Tried,
    finding: Finding,
    opset: int,
    imports: Sequence[str],
    statements: Sequence[str],
    body: str,
    called: str,
    *,
    real: bool,
) -> str:
    runs = list(_runs(tried))
    axes = {_word(name): sorted(words) for name, words in tried.found.example.axes.items()}
    wanted = ["import sys", "import torch", *imports]
    check = repro_text.COUPLED if not tried.fault else repro_text.TWICE if tried.unstable else repro_text.EXPORT
    if check is repro_text.EXPORT:
        wanted.append("import onnxruntime")
    if real:
        wanted += ["import base64", "import io", "import zlib"]
    batches = [
        next((axis for axis, word in words.items() if word == BATCH), None)
        for words in tried.found.example.axes.values()
    ]
    parts = [
        _header(finding),
        "\n".join(sorted(set(wanted), key=_rank)),
        f"\nOPSET = {opset}\nTOLERANCE = {1e-3 if check is repro_text.EXPORT else 1e-5}",
        f"BATCHES = {batches}" if check is repro_text.COUPLED else f"AXES = {axes}",
        _values(tried, runs) if real else "",
        *(f"\n\n{statement}" for statement in statements),
        repro_text.TENSOR,
        body,
        called,
        _calls(runs, real=real),
        repro_text.LEAVES,
        check,
        repro_text.MAIN,
    ]
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(parts))


def _header(finding: Finding) -> str:
    named = f"'{finding.module}' ({finding.kind})" if finding.module else finding.kind
    what = textwrap.fill(f"{named}: {finding.what}".replace("\\", "/").replace('"""', "'''"), 110)
    return (
        f'"""{_MARK}\n\n{what}\n\nMade with {provenance.tool_versions()}. '
        'Run it: exit code 1 while the fault is there, 0 when it is gone.\n"""\n'
    )


def _rank(line: str) -> tuple[bool, bool, bool, str]:
    """The place of an import: __future__ first, then the standard library."""
    module = line.split()[1].partition(".")[0]
    return module != "__future__", module not in sys.stdlib_module_names, line.startswith("from"), line


def _word(name: str) -> str:
    """An input's name as one of Python's."""
    word = re.sub(r"\W", "_", name)
    return word if word.isidentifier() and word not in ("self", "torch") else f"x_{word}"


def _takes(tried: Tried, names: Names) -> tuple[list[str], dict[str, str]]:
    """The arguments of forward() as text, positional and by name."""
    positional, keywords = bound(tried.reference.module, tried.reference.takes)
    return [_filled(tree, names) for tree in positional], {k: _filled(tree, names) for k, tree in keywords.items()}


def _filled(tree: Tree, names: Names) -> str:
    if isinstance(tree, Input):
        return _word(tree.name)
    if isinstance(tree, Mapping):
        return "{" + ", ".join(f"{key!r}: {_filled(inner, names)}" for key, inner in tree.items()) + "}"
    if type(tree) in (list, tuple):
        inner = ", ".join(_filled(each, names) for each in tree)
        return f"[{inner}]" if isinstance(tree, list) else f"({inner}{',' if len(tree) == 1 else ''})"
    return of_value(tree, names, "an argument")


def _called(tried: Tried, names: Names) -> str:
    positional, keywords = _takes(tried, names)
    inputs = [_word(name) for name in tried.found.example.axes]
    given = ", ".join([*positional, *(f"{name}={text}" for name, text in keywords.items())])
    return textwrap.dedent(f'''
        class Called(torch.nn.Module):
            """The module as the model calls it."""

            def __init__(self, module):
                super().__init__()
                self.module = module

            def forward(self, {", ".join(inputs)}):
                return tuple(leaves(self.module({given})))
    ''')


def _runs(tried: Tried) -> Iterator[Arrays]:
    """What reaches the module at the lengths at which it is captured, and at others."""
    broken = [tried.trouble.lengths] if isinstance(tried.trouble, AnotherRoad) and tried.trouble.lengths else []
    sizes = [tried.found.lengths, *export_proof.sizes(tried.found), *broken]
    for size in {tuple(size.items()): size for size in sizes}.values():
        try:
            yield tried.reference.fed(tried.found.example.at(size))
        except DoesNotRun:  # at lengths that nobody asked for
            continue


def _calls(runs: Sequence[Arrays], *, real: bool) -> str:
    if real:
        return '\ndef calls():\n    return VALUES["calls"]\n'
    lines = []
    for arrays in runs:
        inputs = [_drawn(torch.from_numpy(array)) for array in arrays.values()]
        lines.append(f"        [{', '.join(inputs)}],")
    return '\ndef calls():\n    """Inputs at several sizes."""\n    return [\n' + "\n".join(lines) + "\n    ]\n"


def _drawn(value: torch.Tensor) -> str:
    if not value.numel():
        return f"torch.empty({tuple(value.shape)}, dtype={value.dtype})"
    low, high = (float(value.double().nan_to_num().min()), float(value.double().nan_to_num().max()))
    return f"tensor({tuple(value.shape)}, {value.dtype}, {low:.6g}, {high:.6g})"


def _values(tried: Tried, runs: Sequence[Arrays]) -> str:
    """The model's own weights and inputs, as text."""
    weights = tried.reference.module.state_dict()
    if sum(value.nbytes for value in weights.values()) > 4 * _MOST_INLINED:
        raise NotDescribable("the real weights are too many to be written down")
    written = io.BytesIO()
    calls = [[torch.from_numpy(array) for array in arrays.values()] for arrays in runs]
    torch.save({"weights": weights, "calls": calls}, written)
    text = base64.b85encode(zlib.compress(written.getvalue(), 9)).decode()
    if len(text) > _MOST_INLINED:
        raise NotDescribable("the real values are too many to be written down")
    lines = "\n".join(f"    {line!r}" for line in textwrap.wrap(text, 110))
    return "\nVALUES = torch.load(io.BytesIO(zlib.decompress(base64.b85decode(\n" + lines + "\n))), weights_only=True)"
