"""Session settings that pay are stored in the file; the search itself is scripted here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exporters.int8 import dynamic as int8_dynamic
from exporters.int8 import targets
from exporters.model_file import ModelFile
from runtimes.session_settings import SessionSettings, stored_in
from tests.contract.comparing import compared
from tests.contract.tiny_models import MODELS
from toolchain.conversion import settings_search
from toolchain.conversion.proof import Proven
from toolchain.inputs.samples import Samples
from toolchain.stats import Interval

Exported = Callable[[str], Path]
NO_SKIP = SessionSettings(disabled_optimizers=("SkipLayerNormFusion",))


def proven(name: str, exported: Exported, folder: Path) -> Proven:
    made = int8_dynamic.convert(ModelFile(exported(name)), folder / "m.onnx", int8=targets.named("x86-vnni"))
    inputs = MODELS[name].samples(8)
    found = compared(made.path, exported(name), inputs, precision="int8-dynamic")
    judged_on = Samples(inputs=inputs, labels=None, source="test")
    return Proven(artifact=made, parity=found, proven_on="test", judged_on=judged_on)


def script(patch: pytest.MonkeyPatch, speedup: Interval | None) -> list[Any]:
    asked: list[Any] = []

    def best(model: Path, feeds: Samples, **options: Any) -> settings_search.Found:
        asked.append(model)
        settings = NO_SKIP if speedup else SessionSettings()
        return settings_search.Found(settings=settings, speedup=speedup, rows=())

    patch.setattr(settings_search, "best", best)
    patch.setattr(settings_search.Found, "__str__", lambda found: "no SkipLayerNormFusion")
    return asked


def test_what_pays_is_stored_reported_and_printed(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, Interval(1.3, 1.2, 1.4))
    made = proven("attention", exported, tmp_path)
    after, code = settings_search.tuned(made)
    assert stored_in(made.artifact.path) == NO_SKIP
    assert after.artifact.sha256 != made.artifact.sha256
    assert after.artifact.notes[-1] == "session settings: no SkipLayerNormFusion"
    assert "SkipLayerNormFusion" in code


def test_what_does_not_pay_changes_nothing(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = script(monkeypatch, None)
    made = proven("attention", exported, tmp_path)
    assert settings_search.tuned(made) == (made, "")
    assert asked
    assert stored_in(made.artifact.path) is None


def test_a_graph_without_such_fusions_is_not_timed(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = script(monkeypatch, Interval(1.3, 1.2, 1.4))
    made = proven("mlp", exported, tmp_path)
    assert settings_search.tuned(made) == (made, "")
    assert not asked
