import pytest

from toolchain import machine
from toolchain.errors import BadUsage, NotAvailable
from toolchain.progress import Progress
from toolchain.recipes.digits import recipe
from toolchain.training.options import Switches, resolve, resolve_amp, resolve_device


class Notes(Progress):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_amp_on_a_gpu_follows_its_generation(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: str
) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)
    assert resolve_amp("auto", "cuda") == expected


@pytest.mark.parametrize(("bf16", "expected"), [(True, "bf16"), (False, "off")])
def test_amp_on_a_cpu_follows_its_instructions(monkeypatch: pytest.MonkeyPatch, bf16: bool, expected: str) -> None:
    monkeypatch.setattr(machine, "has_bf16", lambda: bf16)
    assert resolve_amp("auto", "cpu") == expected
    assert resolve_amp("fp16", "cpu") == "fp16"


def test_cuda_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(NotAvailable):
        resolve_device("cuda")


def test_a_missing_compiler_is_said_once_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtimes.torch_compiler.why_not", lambda device: "there is no C++ compiler")
    notes = Notes()
    options = resolve(recipe, progress=notes, device="cpu")
    assert not options.switches.compile
    assert notes.warnings == ["Training without torch.compile: there is no C++ compiler."]


@pytest.mark.parametrize("change", [{"epochs": 0}, {"batch_size": 0}, {"lr": 0.0}, {"lr": -1.0}])
def test_senseless_numbers_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(BadUsage):
        resolve(recipe, progress=Progress(), device="cpu", **change)  # type: ignore[arg-type]


def test_the_plain_loop_has_everything_off() -> None:
    assert Switches().on() == []
    assert Switches(amp="bf16", compile=True).on() == ["amp bf16", "compile"]
