"""A package's variants as files to bench: whole, fp32 first, fed with the golden inputs."""

from pathlib import Path

import numpy as np
import pytest

from exporters.batch_axes import BatchAxes
from exporters.model_file import ModelFile
from tests.contract.shipping.conftest import Pack, write_net, write_two
from toolchain.bench import target_rows
from toolchain.bench.effort import Effort
from toolchain.bench.record import Setting
from toolchain.bench.target_rows import Variants
from toolchain.errors import CheckFailed
from toolchain.shipping import golden_values, variants
from toolchain.shipping.golden_values import Golden

QUICK = Effort(min_rounds=2, min_runs=3, seconds=0.01, warm_up_s=0.0, max_time_s=1.0)


def test_weights_that_variants_share_lie_beside_each_and_go_again(pack: Pack, tmp_path: Path) -> None:
    packed = pack(*write_two(tmp_path))
    with variants.opened([packed.path]) as (found,):
        assert isinstance(found, Variants)
        assert list(found.files) == [each.name for each in packed.package.variants]
        places = [file.path for file in found.files.values()]
        assert all(file.external_files for file in found.files.values())
        rows = target_rows.bench([found], [Setting(provider="cpu", batch=1, threads=1)], effort=QUICK).rows
        assert all(row.rounds_ms for row in rows), [row.reason for row in rows]
        assert [row.candidate.sha256 for row in rows] == [each.sha256 for each in packed.package.variants]
    assert not any(place.exists() for place in places)


def test_the_others_are_judged_by_fp32(pack: Pack, tmp_path: Path) -> None:
    net = write_net(tmp_path / "net.onnx")
    packed = pack(net, write_net(tmp_path / "other.onnx", shift=1.0))
    with variants.opened([packed.path]) as (found,):
        assert isinstance(found, Variants)
        assert [file.precision for file in found.files.values()] == ["fp32", "fp32"]
        (first, other) = target_rows.bench([found], [Setting(provider="cpu", batch=2, threads=1)], effort=QUICK).rows
        assert (first.status, other.status) == ("ok", "unproven")
        golden = golden_values.read(packed.path, first.candidate.label)
        one = np.concatenate([call["x"] for call in golden.calls[: golden.singles]])
        np.testing.assert_array_equal(np.asarray(found.samples.inputs["x"]), one)


def test_a_package_that_is_not_as_it_was_packed_is_not_measured(pack: Pack, tmp_path: Path) -> None:
    packed = pack(write_net(tmp_path / "net.onnx"))
    (packed.path / "README.md").write_text("other")
    with pytest.raises(CheckFailed, match="is not what it should be"), variants.opened([packed.path]):
        pass


def test_what_is_no_package_is_what_it_was(tmp_path: Path) -> None:
    net = write_net(tmp_path / "net.onnx")
    with variants.opened([net, tmp_path]) as (file, folder):
        assert isinstance(file, ModelFile)
        assert folder == tmp_path


@pytest.mark.parametrize(
    ("axis", "fixed", "shapes", "stacked"),
    [
        (0, None, [(1, 4), (1, 4)], [(2, 4)]),
        (1, None, [(3, 1, 4), (3, 1, 4)], [(2, 3, 4)]),
        (0, 2, [(2, 4), (2, 4)], [(4, 4)]),
        (0, None, [(1, 5, 4), (1, 6, 4)], [(5, 4), (6, 4)]),
        (None, None, [(3, 4), (3, 4)], [(2, 3, 4)]),
        (0, None, [(3, 4), (5, 4)], [(3, 4), (5, 4)]),
    ],
)
def test_golden_calls_become_the_samples_that_they_were_made_of(
    axis: int | None, fixed: int | None, shapes: list[tuple[int, ...]], stacked: list[tuple[int, ...]]
) -> None:
    calls = [{"x": np.random.default_rng(0).normal(size=shape)} for shape in shapes]
    golden = Golden([*calls, {"x": np.zeros((9, 9))}], [], {}, len(calls))
    found = variants.stacked(golden, BatchAxes({"x": axis}, {}, fixed))["x"]
    got = [found.shape] if isinstance(found, np.ndarray) else [array.shape for array in found]
    assert got == stacked
