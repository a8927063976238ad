import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.end_to_end.command import run_nnx
from toolchain.datasets.dataset import Split
from toolchain.errors import BadUsage
from toolchain.inputs import sources
from toolchain.progress import SILENT, Progress
from toolchain.recipe import Recipe
from toolchain.recipes.rows import Rows
from toolchain.training import checkpoint, evaluation, given_weights, loop
from toolchain.training import options as training_options
from toolchain.training.options import TrainingOptions

Nnx = Callable[..., tuple[int, str, str]]


class StopAfter(Progress):
    """Interrupts the training when the given epoch begins."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def bar(self, title: str, total: int):  # type: ignore[no-untyped-def]
        if title.startswith(f"epoch {self._epoch}/"):
            raise KeyboardInterrupt
        return super().bar(title, total)


def options(recipe: Recipe, **more: object) -> TrainingOptions:
    given = {"epochs": 4, "device": "cpu", "compile": False, **more}
    return training_options.resolve(recipe, progress=SILENT, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_a_resumed_training_ends_in_the_same_weights(amp: str, tmp_path: Path) -> None:
    recipe = sources.recipe_named("digits")
    data = recipe.data(None).load()
    data = replace(data, train=Split(data.train.inputs[:256], data.train.targets[:256]))
    chosen = options(recipe, amp=amp)
    unbroken = loop.train(recipe, data, chosen, tmp_path / "a", progress=SILENT)
    with pytest.raises(KeyboardInterrupt):
        loop.train(recipe, data, chosen, tmp_path / "b", progress=StopAfter(3))
    resumed = loop.train(recipe, data, chosen, tmp_path / "b", resume=True, progress=SILENT)
    first, second = (checkpoint.load(folder / checkpoint.RESUME) for folder in (tmp_path / "a", tmp_path / "b"))
    for name, value in first["trainer"]["model"].items():
        assert torch.equal(value, second["trainer"]["model"][name]), name
    assert [epoch.validation_score for epoch in resumed.epochs] == [epoch.validation_score for epoch in unbroken.epochs]
    assert first["trainer"]["scaler"] == second["trainer"]["scaler"]


def test_a_state_of_another_training_is_not_resumed(tmp_path: Path) -> None:
    recipe = sources.recipe_named("digits")
    data = recipe.data(None).load()
    chosen = options(recipe, epochs=1)
    loop.train(recipe, data, chosen, tmp_path, made_from="old data", progress=SILENT)
    again = loop.train(recipe, data, chosen, tmp_path, made_from="old data", progress=StopAfter(1))
    assert len(again.epochs) == 1
    with pytest.raises(KeyboardInterrupt):
        loop.train(recipe, data, chosen, tmp_path, made_from="new data", progress=StopAfter(1))
    with pytest.raises(BadUsage, match="data set or code"):
        loop.train(recipe, data, chosen, tmp_path, made_from="new data", resume=True, progress=SILENT)


def test_the_checkpoint_is_the_best_epochs(tmp_path: Path) -> None:
    recipe = sources.recipe_named("digits")
    data = recipe.data(None).load()
    result = loop.train(recipe, data, options(recipe, epochs=6), tmp_path, progress=SILENT)
    kept = checkpoint.load(result.checkpoint)
    assert kept["validation_score"] == max(epoch.validation_score or 0 for epoch in result.epochs)
    module = recipe.model()
    given_weights.load(module, given_weights.Weights(file=result.checkpoint))
    score = evaluation.score_of(module, Rows(recipe, data), data.validation, recipe.judged_by(), "cpu")
    assert score == pytest.approx(kept["validation_score"])


def test_the_command_trains_resumes_and_refuses_other_options(nnx: Nnx, tmp_path: Path) -> None:
    out = ["--out", tmp_path, "--no-compile", "--epochs", "3"]
    code, stdout, stderr = nnx("train", "digits", *out)
    assert code == 0
    assert "test accuracy" in stdout
    assert "epoch 3/3" in stderr
    code, stdout, stderr = nnx("train", "digits", *out, "--resume", "--json")
    assert code == 0
    assert len(json.loads(stdout)["epochs"]) == 3
    assert "reused" in stderr
    code, _, stderr = nnx("train", "digits", *out, "--resume", "--lr", "0.01")
    assert code == 2
    assert "another lr" in stderr


@pytest.mark.slow
def test_compiled_training_works(tmp_path: Path) -> None:
    recipe = sources.recipe_named("digits")
    chosen = training_options.resolve(recipe, progress=SILENT, epochs=3, device="cpu")
    if not chosen.switches.compile:
        pytest.skip("no compiler")
    result = loop.train(recipe, recipe.data(None).load(), chosen, tmp_path, progress=SILENT)
    assert (result.epochs[-1].train_score or 0) > (result.epochs[0].train_score or 0)


def test_a_compiler_that_breaks_is_said_once_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Notes(Progress):
        def __init__(self) -> None:
            self.warnings: list[str] = []

        def warn(self, text: str) -> None:
            self.warnings.append(text)

    def broken(model: torch.nn.Module, **ignored: object) -> object:
        def forward(inputs: torch.Tensor) -> torch.Tensor:
            raise torch._dynamo.exc.BackendCompilerFailed(broken, RuntimeError("no"), None)

        return forward

    monkeypatch.setattr("torch.compile", broken)
    recipe = sources.recipe_named("digits")
    notes = Notes()
    chosen = training_options.resolve(recipe, progress=SILENT, epochs=2, device="cpu")
    loop.train(recipe, recipe.data(None).load(), chosen, tmp_path, progress=notes)
    assert len([text for text in notes.warnings if "torch.compile" in text]) == int(chosen.switches.compile)


@pytest.mark.slow
def test_the_ablation_measures_each_switch_and_all(tmp_path: Path) -> None:
    ended = run_nnx("train", "digits", "--ablate", "--epochs", "2", "--rounds", "2", "--json", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    names = [variant["name"] for variant in found["variants"]]
    assert names[0] == "plain"
    assert "all switches" in names
    assert "compile" in found["dropped"] or "compile" in names
    assert {"channels_last", "whole_batches"} <= set(names)
    plain = found["variants"][0]
    assert plain["switched_on"] == []
    assert plain["step_gain"]["estimate"] == pytest.approx(1)
    assert all(len(variant["steps_ms"]) == 2 and variant["epoch_s"] > 0 for variant in found["variants"])
    assert (tmp_path / "artifacts" / "digits" / "ablation.md").read_text().count("\n") == len(names) + 2
