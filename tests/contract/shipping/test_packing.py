"""A package: the same bytes from the same input, everything in it true, nothing written that fails its own test."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from exporters.model_file import ModelFile
from runtimes.session_settings import KEY, SessionSettings
from tests.contract.shipping.conftest import Pack, runner_of, write_net
from tests.contract.tiny_models import MODELS
from toolchain.conversion import fitting
from toolchain.conversion.given import Given
from toolchain.conversion.precisions import Fp16
from toolchain.errors import BadUsage, CheckFailed
from toolchain.inputs import made_up
from toolchain.shipping import contents, golden, ort_format, package, packing, self_test, tolerance
from toolchain.shipping.packing import Title


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_input_gives_the_same_bytes_in_another_place(pack: Pack, tmp_path: Path) -> None:
    net = write_net(tmp_path / "net.onnx")
    (tmp_path / "elsewhere").mkdir()
    again = shutil.copy(net, tmp_path / "elsewhere" / "net.onnx")
    first, second = pack(net), pack(Path(again))
    assert files_of(first.path) == files_of(second.path)
    assert first.digest == second.digest
    text = b"".join(files_of(first.path).values())
    assert str(tmp_path).encode() not in text
    assert not re.search(rb"20\d\d-\d\d-\d\d", text)


def test_the_list_of_files_is_whole_and_true(pack: Pack, tmp_path: Path) -> None:
    packed = pack(write_net(tmp_path / "net.onnx"))
    found = files_of(packed.path)
    listed = {line[66:]: line[:64] for line in found.pop(package.CHECKSUMS).decode().splitlines()}
    assert listed == {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}
    assert list(listed) == sorted(listed)
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--quiet", "-c", package.CHECKSUMS], cwd=packed.path, check=True)


def test_a_package_says_what_lies_in_it(pack: Pack, tmp_path: Path) -> None:
    packed = pack(write_net(tmp_path / "net.onnx"))
    told = package.read(packed.path)
    assert told == packed.package
    (variant,) = told.variants
    assert (variant.name, variant.model, variant.opset, variant.ir_version) == ("fp32", "net/fp32/model.onnx", 18, 9)
    assert variant.sha256 == hashlib.sha256((packed.path / variant.model).read_bytes()).hexdigest()
    assert variant.onnxruntime == told.onnxruntime == "1.16"  # the oldest that nnx knows reads IR 9 and opset 18
    assert [(each.name, each.dtype, each.shape) for each in told.inputs] == [("x", "float32", ("N", 4))]
    assert (told.preprocessing, told.labels, told.rows, told.task) == (None, None, None, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 3}, "name is 3"),
        ({"surprise": 1}, "surprise is not known"),
        ({"format": 2}, "format is 2"),
        ({"variants": []}, "variants is"),
    ],
)
def test_a_description_that_is_not_as_described_is_refused(packed: Path, change: dict[str, object], said: str) -> None:
    place = packed / package.PACKAGE
    place.write_text(json.dumps(json.loads(place.read_text()) | change))
    with pytest.raises(BadUsage, match=said):
        package.read(packed)


def test_a_package_that_fails_its_test_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Golden outputs of another model stand for a kernel that computes something else in the fresh process."""
    given = contents.of_models([write_net(tmp_path / "net.onnx")])
    other = contents.of_models([write_net(tmp_path / "other.onnx", shift=0.01)])
    measured = tolerance.measured(other.models[0].file, given.inputs.cases.calls)
    monkeypatch.setattr(tolerance, "measured", lambda *_: measured)
    place = tmp_path / "new" / "net.ortpackage"
    with pytest.raises(CheckFailed, match=r"golden fp32: 'scores' of case 0 is off by 0\.01"):
        packing.pack(given, place, Title(name="net"))
    assert not place.exists()
    assert not list(place.parent.iterdir())


def test_a_failed_pack_leaves_the_package_that_was_there(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack(write_net(tmp_path / "net.onnx"))
    before = files_of(packed.path)

    def fails(folder: Path) -> None:
        raise CheckFailed("It fails.", "Mend it.")

    monkeypatch.setattr(self_test, "run", fails)
    given = contents.of_models([write_net(tmp_path / "other.onnx", shift=1.0)])
    with pytest.raises(CheckFailed):
        packing.pack(given, packed.path, Title(name="net"))
    assert files_of(packed.path) == before
    assert [path.name for path in packed.path.parent.iterdir()] == ["net.ortpackage"]


def test_a_package_takes_the_place_of_another(pack: Pack, tmp_path: Path) -> None:
    packed = pack(write_net(tmp_path / "net.onnx"))
    given = contents.of_models([write_net(tmp_path / "other.onnx", shift=1.0)])
    packing.pack(given, packed.path, Title(name="net"))
    assert package.read(packed.path).variants[0].sha256 == given.models[0].file.sha256
    assert [path.name for path in packed.path.parent.iterdir()] == ["net.ortpackage"]


@pytest.mark.parametrize("what", ["file", "folder", "link", "name"])
def test_nothing_else_is_replaced(what: str, tmp_path: Path) -> None:
    place = tmp_path / ("net.ortpackage" if what != "name" else "net")
    if what == "file":
        place.write_text("mine")
    elif what == "folder":
        (place / "mine").mkdir(parents=True)
    elif what == "link":
        (tmp_path / "there").mkdir()
        place.symlink_to(tmp_path / "there")
    with pytest.raises(BadUsage):
        package.require_replaceable(place)


@pytest.mark.parametrize("name", ["nnx", "RUNNERS", "shared_assets", "../up", ".hidden", "a/b", "", "a" * 101])
def test_a_name_that_would_be_in_the_way_is_refused(name: str) -> None:
    with pytest.raises(BadUsage, match="cannot be called"):
        Title(name=name)


def test_models_of_other_interfaces_are_two_packages(tmp_path: Path) -> None:
    model = onnx.load(write_net(tmp_path / "net.onnx"))
    model.graph.output[0].name = model.graph.node[1].output[0] = "others"
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(BadUsage, match="other inputs or outputs"):
        contents.of_models([tmp_path / "net.onnx", tmp_path / "other.onnx"])


def test_weights_beside_a_model_travel_with_it(pack: Pack, tmp_path: Path) -> None:
    packed = pack(write_net(tmp_path / "net.onnx", external=True))
    (variant,) = packed.package.variants
    assert variant.external_data == {"weights.bin": "net/fp32/weights.bin"}
    assert variant.shared_weights is None
    assert (packed.path / "net/fp32/weights.bin").is_file()


def test_weights_that_two_variants_share_lie_there_once(pack: Pack, tmp_path: Path) -> None:
    paths = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        paths.append(write_net(tmp_path / name / f"{name}.onnx", external=True, shift=float(name == "two")))
    packed = pack(*paths)
    one, two = packed.package.variants
    assert (one.name, two.name) == ("one", "two")
    assert one.external_data == two.external_data
    (place,) = one.external_data.values()
    digest = hashlib.sha256((packed.path / place).read_bytes()).hexdigest()
    folder = hashlib.sha256(f"{digest}  weights.bin\n".encode()).hexdigest()
    assert one.shared_weights == two.shared_weights == f"shared_assets/sha256-{folder}"
    assert len(list(packed.path.rglob("weights.bin"))) == 1
    assert json.loads((packed.path / "manifest.json").read_text())["shared_assets"] == {
        f"sha256:{folder}": one.shared_weights
    }


def test_stored_session_settings_are_told_as_onnxruntime_reads_them(pack: Pack, tmp_path: Path) -> None:
    net = write_net(tmp_path / "net.onnx")
    model = onnx.load(net)
    settings = SessionSettings(graph_level="basic", disabled_optimizers=("GeluFusionL1",), spinning=False)
    onnx.helper.set_model_props(model, {KEY: settings.to_json()})
    onnx.save(model, net)
    packed = pack(net)
    wanted = {
        "session.graph_optimization_level": "enable_basic",
        "optimization.disable_specified_optimizers": "GeluFusionL1",
        "session.intra_op.allow_spinning": "0",
    }
    assert packed.package.variants[0].session_options == wanted
    component = json.loads((packed.path / "net" / "component.json").read_text())
    assert component["variants"]["fp32"]["executor_info"]["ort"]["session_options"] == wanted


@pytest.mark.parametrize("harm", ["changed model", "changed golden", "missing", "extra", "linked", "list"])
def test_the_self_test_finds_harm_and_names_it(harm: str, packed: Path, tmp_path: Path) -> None:
    model, arrays = packed / "net/fp32/model.onnx", packed / package.GOLDEN_ARRAYS
    if harm == "changed model":
        write_net(model, shift=0.5)
    elif harm == "changed golden":
        arrays.write_bytes(arrays.read_bytes()[:-4] + b"\0\0\x80\x7f")
    elif harm == "missing":
        (packed / package.CARD).unlink()
    elif harm == "extra":
        (packed / "more.txt").write_text("more")
    elif harm == "linked":
        (tmp_path / "target").write_bytes(model.read_bytes())
        model.unlink()
        model.symlink_to(tmp_path / "target")
    else:
        text = (packed / package.CHECKSUMS).read_text()
        (packed / package.CHECKSUMS).write_text(text.replace("README.md", "README"))
    named = {
        "changed model": r"changed: net/fp32/model\.onnx; golden fp32: 'scores' of case 0 is off by 0\.5",
        "changed golden": r"changed: nnx/golden\.bin; golden fp32",
        "missing": r"missing: README\.md",
        "extra": r"extra: more\.txt",
        "linked": r"changed: net/fp32/model\.onnx",
        "list": r"missing: README; extra: README\.md",
    }
    with pytest.raises(CheckFailed, match=named[harm]):
        self_test.run(packed)


def test_the_self_test_says_why_a_model_does_not_open(packed: Path) -> None:
    (packed / "net/fp32/model.onnx").write_bytes(b"no model")
    with pytest.raises(CheckFailed, match=r"golden fp32: onnxruntime .* refuses net/fp32/model\.onnx"):
        self_test.run(packed)


def test_the_runner_answers_for_an_array_and_refuses_the_rest_in_a_sentence(packed: Path, tmp_path: Path) -> None:
    run = [sys.executable, str(packed / self_test.RUNNER)]
    np.save(tmp_path / "x.npy", np.zeros((1, 4), np.float32))
    np.save(tmp_path / "wrong.npy", np.zeros((1, 5), np.float32))
    good = subprocess.run([*run, str(tmp_path / "x.npy")], capture_output=True, text=True, check=True)
    assert json.loads(good.stdout)["outputs"] == {"scores": [[0.0, 1.0, 2.0]]}
    for given, said in {
        "wrong.npy": "onnxruntime refuses that input",
        "none.npy": "cannot be read",
        "a sentence": "How to make an input of that is not in the package.",
        "--variant=int4": "There is no variant 'int4'.",
        "--threads=0": "--threads is no number above 0.",
        "--max-slowdown=x": "--max-slowdown is no number above 0.",
        "--nothing": "option --nothing not recognized.",
    }.items():
        ended = subprocess.run([*run, given], capture_output=True, text=True, check=False, cwd=tmp_path, input="")
        assert (ended.returncode, ended.stdout) == (2, ""), given
        assert said in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


def test_the_runner_serves_a_benchmark_line_by_line(packed: Path, tmp_path: Path) -> None:
    from toolchain.accuracy import calls_file

    np.save(tmp_path / "x.npy", np.arange(20, dtype=np.float32).reshape(5, 4))
    requests = [
        {"op": "open", "batch": 2, "threads": 1, "inputs": {"x": str(tmp_path / "x.npy")}},
        {"op": "start"},
        {"op": "turn", "min_runs": 30, "most_kept": 10, "seconds": 0.0, "warm_up_s": 0.0},
        {"op": "memory"},
        {"op": "outputs", "path": str(tmp_path / "out.npz")},
        {"op": "nothing"},
        {"op": "open", "variant": "int4"},
    ]
    ended = subprocess.run(
        [sys.executable, str(packed / self_test.RUNNER)],
        input="".join(json.dumps(each) + "\n" for each in requests),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    opened, started, turned, memory, saved, unknown, refused = map(json.loads, ended.stdout.splitlines())
    assert opened == saved == {"result": None}
    assert set(started["result"]) == {"load_ms", "first_run_ms", "nodes", "facts", "shapes"}
    assert started["result"]["shapes"] == {"x": [2, 4]}
    assert sum(started["result"]["nodes"].values()) >= 1
    assert (len(turned["result"]["runs_ms"]), turned["result"]["runs"]) == (10, 30)
    assert memory["result"]["peak_memory_bytes"] is None or memory["result"]["peak_memory_bytes"] > 10**6
    assert unknown["error"]["what"] == "There is no operation 'nothing' now."
    assert refused["error"]["what"] == "There is no variant 'int4'."
    calls = calls_file.read(tmp_path / "out.npz")
    assert [call["scores"].shape for call in calls] == [(2, 3), (2, 3), (1, 3)]


def test_golden_inputs_are_spread_over_the_samples_and_light(tmp_path: Path) -> None:
    from toolchain.inputs.samples import Samples

    values = np.arange(1000, dtype=np.float32)[:, None] * np.ones((1, 4), np.float32)
    cases = golden.choose(Samples(inputs={"x": values}, labels=None, source="here"), ("a", "b") * 500)
    assert cases.singles == 7
    assert [int(call["x"][0, 0]) for call in cases.calls[:7]] == [71, 214, 357, 500, 642, 785, 928]
    assert cases.calls[7]["x"].shape == (4, 4)
    assert cases.texts == ["b", "a", "b", "a", "a", "b", "a", None]
    heavy = np.zeros((9, 3, 1024, 1024), np.float32)
    assert len(golden.choose(Samples(inputs={"x": heavy}, labels=None, source="here")).calls) == 1


def test_a_runner_without_onnxruntime_says_what_it_wants(packed: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-I", "-S", str(packed / self_test.RUNNER), "--self-test"],
        capture_output=True, text=True, check=False, env={**os.environ},
    )  # fmt: skip
    assert ended.returncode == 3
    assert json.loads(ended.stdout)["error"]["do"] == "pip install onnxruntime numpy."


def test_a_slowdown_fails_only_where_somebody_asks(packed: Path) -> None:
    place = packed / package.PACKAGE
    told = json.loads(place.read_text())
    row = {"latency_ms": {"p50": 1e-9, "p90": 1e-9, "p99": 1e-9}, "batch": 1, "threads": 1, "machine": "a fast one"}
    told["variants"][0]["row"] = row
    place.write_text(json.dumps(told))
    runner = runner_of(packed, "self_test")
    receipt = runner.self_test(runner.PACKAGE["variants"], None, None)
    assert [each["name"] for each in receipt["checks"] if not each["ok"]] == ["files"]  # the description was changed
    receipt = runner.self_test(runner.PACKAGE["variants"], None, 100.0)
    assert [each["name"] for each in receipt["checks"] if not each["ok"]] == ["files", "latency fp32"]
    assert "times that of a fast one" in receipt["checks"][-1]["detail"]


def test_ort_files_are_proven_and_their_operators_told(pack: Pack, tmp_path: Path) -> None:
    packed = pack(write_net(tmp_path / "net.onnx", external=True), ort_files=True)
    (variant,) = packed.package.variants
    assert (variant.ort_file, packed.package.required_operators) == ("net/fp32/model.ort", package.OPERATORS)
    assert variant.ort_file is not None
    session = onnxruntime.InferenceSession(str(packed.path / variant.ort_file))
    assert session.run(None, {"x": np.zeros((1, 4), np.float32)})[0].tolist() == [[0.0, 1.0, 2.0]]
    told = (packed.path / package.OPERATORS).read_text().splitlines()
    assert told
    assert all(line.startswith("ai.onnx;") for line in told)


def test_an_ort_file_that_answers_otherwise_is_not_packed(tmp_path: Path) -> None:
    net = ModelFile(write_net(tmp_path / "net.onnx"))
    calls = [{"x": np.ones((1, 4), np.float32)}]
    wanted = tolerance.measured(ModelFile(write_net(tmp_path / "other.onnx", shift=0.1)), calls)
    places = {"fp32": tmp_path / "model.ort"}
    with pytest.raises(CheckFailed, match="fp32 gives other values"):
        ort_format.add(places, tmp_path / "config", {"fp32": net}, calls, {"fp32": wanted}, platform="arm")
    assert not places["fp32"].exists()


@pytest.mark.parametrize("name", MODELS)
def test_every_tiny_model_is_packed_in_two_precisions(
    name: str, exported: Callable[[str], Path], pack: Pack, tmp_path: Path
) -> None:
    fp32 = exported(name)
    fp16 = tmp_path / "half.onnx"
    given = Given(calibration=None, judged_on=made_up.samples_for(ModelFile(fp32), 4))
    fitting.convert(ModelFile(fp32), fp16, Fp16(), given=lambda *_: given)
    packed = pack(fp32, fp16)
    assert [variant.name for variant in packed.package.variants] == ["fp32", "fp16"]
    assert packed.receipt["ok"]


@pytest.mark.parametrize("name", ["weights\n.bin", "Model.ONNX", "model.ort", "a\\b", "con:x"])
def test_names_that_a_device_cannot_have_are_refused(name: str, pack: Pack, tmp_path: Path) -> None:
    net = write_net(tmp_path / "net.onnx", external=True)
    model = onnx.load(net, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = name if entry.key == "location" else entry.value
    net.write_bytes(model.SerializeToString())
    (tmp_path / "weights.bin").rename(tmp_path / name)
    with pytest.raises(BadUsage, match="which not every device can have"):
        pack(net)
    assert not list(tmp_path.glob("net*/*"))


def test_outputs_that_are_no_numbers_are_refused(pack: Pack, tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["": 18]>
    parts (float[N, 4] x) => (seq(float[N, 2]) y) { y = SplitToSequence<axis = 1>(x) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "parts.onnx")
    with pytest.raises(BadUsage, match="'y' is list, and golden values are arrays of numbers"):
        pack(tmp_path / "parts.onnx")
