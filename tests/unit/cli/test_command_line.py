import inspect
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from toolchain.cli import COMMANDS, nnx

ROOT = Path(__file__).resolve().parents[3]


def test_help_loads_neither_torch_nor_onnxruntime(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "toolchain", "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    loaded = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "click" in loaded
    assert not loaded & {"torch", "onnxruntime", "onnx", "numpy", "scipy", "rich", "jsonschema"}
    ours = {name for name in loaded if name.partition(".")[0] in ("toolchain", "exporters", "runtimes")}
    assert ours <= {
        "toolchain",
        "toolchain.cli",
        "toolchain.cli.crash_watch",
        "toolchain.streams",
        "toolchain.__main__",
    }


@pytest.mark.parametrize("module", ["toolchain.html_report.gather", "toolchain.bench.compare_table"])
def test_what_only_reads_records_loads_none_of_their_makers(module: str) -> None:
    """``nnx report`` and ``nnx compare`` work where no model runs; records are checked when one is read."""
    command = [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split())
    assert module in loaded
    assert not loaded & {"torch", "onnxruntime", "onnx", "jsonschema"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_an_example(name: str) -> None:
    shown = CliRunner().invoke(nnx, [name, "--help"])
    assert shown.exit_code == 0
    assert "Example:" in shown.output
    assert f"nnx {name} " in shown.output
    options = [line for line in shown.output.splitlines() if line.startswith("  -")]
    assert options


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help(name: str) -> None:
    command = nnx.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert parameter.help, f"nnx {name} {parameter.opts}"


def test_the_opsets_offered_are_those_that_are_honoured() -> None:
    from exporters.torch_onnx import DEFAULT_OPSET, OPSETS
    from toolchain.cli.export import command
    from toolchain.cli.types import OPSET

    assert (OPSET.min, OPSET.max) == (OPSETS.start, OPSETS.stop - 1)
    opset = next(parameter for parameter in command.params if parameter.name == "opset")
    assert isinstance(opset, click.Option) and opset.help is not None
    assert f"[default: {DEFAULT_OPSET}, or" in opset.help


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_takes_a_long_list_of_parameters(name: str) -> None:
    command = nnx.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None and command.callback is not None
    assert len(inspect.signature(command.callback).parameters) <= 8


def test_an_unknown_command_is_wrong_usage() -> None:
    assert CliRunner().invoke(nnx, ["fly"]).exit_code == 2


def test_a_package_is_offered_for_every_target_that_there_is() -> None:
    from toolchain.cli import pack
    from toolchain.shipping.targets import TARGETS

    assert set(pack._TARGETS) == set(TARGETS)
