"""Every runner says of a package what Python's says: well or harmed, whatever the types, options and sentences."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from runtimes.base import FEEDABLE
from tests.contract.shipping.conftest import Pack, write_net, write_two
from tests.contract.shipping.device_runners import COMMANDS, run
from tests.contract.shipping.test_contents import sentiment
from toolchain.shipping import checksums, contents, package, packing, self_test
from toolchain.shipping.packing import Title
from toolchain.shipping.targets import TARGETS

EVERY = [TARGETS[name] for name in ("node", "cpp")]
NUMBER = re.compile(r"\b\d[\d.]*(?:e-?\d+)?")
pytestmark = pytest.mark.parametrize("runner", COMMANDS)


def receipt(runner: str, folder: Path, *arguments: str) -> dict[str, Any]:
    ended = run(runner, folder, "--self-test", *arguments)
    assert ended.returncode in (0, 1), ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    assert ended.returncode == (0 if told["ok"] else 1)
    return told


def agreed(runner: str, folder: Path) -> None:
    """The same checks with the same results as by Python's; where nothing is measured, in the same words."""
    ours, theirs = receipt(runner, folder), self_test.run(folder)
    assert [each for each in ours["checks"] if not each["ok"]] == []
    assert [each["name"] for each in ours["checks"]] == [each["name"] for each in theirs["checks"]]
    assert {name: set(each) for name, each in ours["variants"].items()} == {
        name: set(each) for name, each in theirs["variants"].items()
    }
    for key in ("package", "version", "digest"):
        assert ours[key] == theirs[key]
    assert set(ours["machine"]) == set(theirs["machine"])
    assert ours["latency_ms"] == next(iter(ours["variants"].values()))["latency_ms"]


def test_its_receipt_is_that_of_python(runner: str, pack: Pack, tmp_path: Path) -> None:
    agreed(runner, pack(write_net(tmp_path / "net.onnx"), targets=EVERY).path)


def test_weights_are_found_and_options_given(runner: str, pack: Pack, tmp_path: Path) -> None:
    """Two variants that share their weights, one with every session setting that nnx stores."""
    packed = pack(*write_two(tmp_path), targets=EVERY)
    assert all(variant.shared_weights for variant in packed.package.variants)
    agreed(runner, packed.path)


def test_an_option_that_onnxruntime_does_not_take_is_named(runner: str, pack: Pack, tmp_path: Path) -> None:
    """Else the options of the test above might go nowhere."""
    folder = pack(write_net(tmp_path / "net.onnx"), targets=EVERY).path
    place = folder / package.PACKAGE
    told = json.loads(place.read_text())
    told["variants"][0]["session_options"] = {"session.intra_op_thread_affinities": "nonsense"}
    place.write_text(json.dumps(told))
    failed = {
        each["name"]: each["detail"] for each in receipt(runner, folder, "--threads", "2")["checks"] if not each["ok"]
    }
    assert set(failed) == {"files", "golden fp32"}
    assert "refuses net/fp32/model.onnx" in failed["golden fp32"]


def every_type(path: Path) -> Path:
    """A net that gives back what it is given, in every type."""
    names = sorted(FEEDABLE)
    kinds = [onnx.helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in names]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", [f"x{name}"], [f"y{name}"]) for name in names],
        "types",
        [
            onnx.helper.make_tensor_value_info(f"x{name}", kind, ["N", 5])
            for name, kind in zip(names, kinds, strict=True)
        ],
        [
            onnx.helper.make_tensor_value_info(f"y{name}", kind, ["N", 5])
            for name, kind in zip(names, kinds, strict=True)
        ],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, ir_version=9, opset_imports=opset), path)
    return path


def test_every_type_is_read_and_compared(runner: str, pack: Pack, tmp_path: Path) -> None:
    folder = pack(every_type(tmp_path / "net.onnx"), targets=EVERY).path
    agreed(runner, folder)
    golden = json.loads((folder / package.GOLDEN).read_text())
    arrays = bytearray((folder / package.GOLDEN_ARRAYS).read_bytes())
    for entry in golden["cases"][0]["outputs"]["fp32"]:
        arrays[entry["offset"] + entry["bytes"] // 5 - 1] ^= 1 if "bool" in entry["name"] else 0x11
    (folder / package.GOLDEN_ARRAYS).write_bytes(arrays)
    checks = {each["name"]: each["detail"] for each in receipt(runner, folder)["checks"]}
    said = [part for part in checks["golden fp32"].split("; ") if "of case 0 " in part]
    assert len(said) == len(FEEDABLE)
    assert all(("is off by" in part) == ("'yfloat" in part) for part in said)


@pytest.mark.parametrize(
    "harm", ["changed model", "changed golden", "missing", "extra", "linked", "list", "no model", "short golden"]
)
def test_harm_is_found_and_named(runner: str, harm: str, pack: Pack, tmp_path: Path) -> None:
    folder = pack(write_net(tmp_path / "net.onnx"), targets=EVERY).path
    model, arrays = folder / "net/fp32/model.onnx", folder / package.GOLDEN_ARRAYS
    if harm == "changed model":
        write_net(model, shift=0.5)
    elif harm == "changed golden":
        arrays.write_bytes(arrays.read_bytes()[:-4] + b"\0\0\x80\x7f")
    elif harm == "short golden":
        arrays.write_bytes(arrays.read_bytes()[:40])
    elif harm == "missing":
        (folder / package.CARD).unlink()
    elif harm == "extra":
        (folder / "more.txt").write_text("more")
    elif harm == "linked":
        (tmp_path / "target").write_bytes(model.read_bytes())
        model.unlink()
        model.symlink_to(tmp_path / "target")
    elif harm == "list":
        text = (folder / package.CHECKSUMS).read_text()
        (folder / package.CHECKSUMS).write_text(text.replace("README.md", "README"))
    else:
        model.write_bytes(b"no model")
    ours = run(runner, folder, "--self-test")
    assert ours.returncode == 1
    theirs = subprocess.run(
        [sys.executable, str(folder / self_test.RUNNER), "--self-test"], capture_output=True, text=True, check=False
    )
    failed = [
        {each["name"]: each["detail"] for each in json.loads(ended.stdout)["checks"] if not each["ok"]}
        for ended in (ours, theirs)
    ]
    assert set(failed[0]) == set(failed[1])
    for name, detail in failed[1].items():
        if harm == "no model" and name.startswith("golden"):
            assert "refuses net/fp32/model.onnx" in failed[0][name]
        elif harm == "short golden" and name.startswith("golden"):
            assert failed[0][name]
        else:
            assert NUMBER.split(failed[0][name]) == NUMBER.split(detail)
            assert [*map(float, NUMBER.findall(failed[0][name]))] == [*map(float, NUMBER.findall(detail))]


def test_sentences_become_the_same_vectors(runner: str, tmp_path: Path) -> None:
    """Spaces and capitals of many scripts among them; Python's idea of both is the one that was trained on."""
    odd = [
        "a\x85fine film",
        "a\x1cfine\x1ffilm",
        "\ufefffine film",
        "İSTANBUL fine",
        "ΣΑΣ ΌΣΟΣ",
        "ĄŹ n't !",
        "ﬁne ß ẞ 😀 🎬",
    ]
    for name in ("train.tsv", "dev.tsv", "test.tsv"):
        lines = [f"{odd[number % 7]} take {number % 3}\t{number % 2}\n" for number in range(21)]
        (tmp_path / name).write_text("".join(lines), encoding="utf-8")
    found = contents.of_models([sentiment(tmp_path / "net.onnx")], samples_source="sst2", data_folder=tmp_path)
    folder = packing.pack(found, tmp_path / "net.ortpackage", Title(name="net"), targets=EVERY).path
    texts = [case["text"] for case in json.loads((folder / package.GOLDEN).read_text())["cases"]]
    assert len({text.split(" take")[0] for text in texts if text}) >= 4
    agreed(runner, folder)
    place = folder / package.PREPROCESSING
    place.write_text(place.read_text().replace('"take": ', '"tale": '))
    checksums.write(folder)
    failed = [each for each in receipt(runner, folder)["checks"] if not each["ok"]]
    assert [each["name"] for each in failed] == [f"preprocessing {number}" for number in range(7)]


def test_it_answers_for_an_array_and_refuses_the_rest_in_a_sentence(runner: str, pack: Pack, tmp_path: Path) -> None:
    folder = pack(write_net(tmp_path / "net.onnx"), targets=EVERY).path
    np.save(tmp_path / "x.npy", np.zeros((1, 4), np.float32))
    np.save(tmp_path / "wrong.npy", np.zeros((1, 5), np.float32))
    np.save(tmp_path / "other.npy", np.zeros((1, 4), np.float64))
    np.save(tmp_path / "turned.npy", np.zeros((3, 4), np.float32, order="F"))
    (tmp_path / "short.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-4])
    (tmp_path / "text.npy").write_text("this is no array")
    good = run(runner, folder, str(tmp_path / "x.npy"))
    assert json.loads(good.stdout)["outputs"] == {"scores": [[0.0, 1.0, 2.0]]}
    for given, said in {
        "wrong.npy": "onnxruntime refuses that input",
        "other.npy": "onnxruntime refuses that input",
        "turned.npy": "cannot be read",
        "short.npy": "cannot be read",
        "text.npy": "cannot be read",
        "none.npy": "cannot be read",
    }.items():
        ended = run(runner, folder, str(tmp_path / given))
        assert (ended.returncode, ended.stdout) == (2, ""), (given, ended)
        assert said in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
    for arguments, said in {
        ("a sentence",): "How to make an input of that is not in the package.",
        ("--self-test", "--variant", "int4"): "There is no variant 'int4'.",
        ("--threads", "0", "x.npy"): "--threads",
        ("--nothing",): "--nothing",
        ("one.npy", "two.npy"): "Name one thing",
    }.items():
        ended = run(runner, folder, *arguments)
        assert (ended.returncode, ended.stdout) == (2, ""), (arguments, ended)
        assert said in ended.stderr


def test_a_slowdown_fails_only_where_somebody_asks(runner: str, pack: Pack, tmp_path: Path) -> None:
    folder = pack(write_net(tmp_path / "net.onnx"), targets=EVERY).path
    place = folder / package.PACKAGE
    told = json.loads(place.read_text())
    row = {"latency_ms": {"p50": 1e-9, "p90": 1e-9, "p99": 1e-9}, "batch": 1, "threads": 1, "machine": "a fast one"}
    told["variants"][0]["row"] = row
    place.write_text(json.dumps(told))
    checksums.write(folder)
    assert receipt(runner, folder)["ok"]
    failed = [each for each in receipt(runner, folder, "--max-slowdown", "100")["checks"] if not each["ok"]]
    assert [each["name"] for each in failed] == ["latency fp32"]
    assert "times that of a fast one" in failed[0]["detail"]


def test_a_benchmark_is_served_line_by_line(runner: str, pack: Pack, tmp_path: Path) -> None:
    from toolchain.accuracy import calls_file

    folder = pack(write_net(tmp_path / "net.onnx"), targets=EVERY).path
    samples = np.arange(20, dtype=np.float32).reshape(5, 4)
    np.save(tmp_path / "x.npy", samples)
    requests = [
        {"op": "start"},
        {"op": "open"},
        {"op": "start"},
        {"op": "open", "variant": None, "batch": 2, "threads": 1, "inputs": {"x": str(tmp_path / "x.npy")}},
        {"op": "start"},
        {"op": "turn", "min_runs": 30, "most_kept": 10, "seconds": 0.0, "warm_up_s": 0.0},
        {"op": "memory"},
        {"op": "outputs", "path": str(tmp_path / "out.npz")},
        {"op": "open", "variant": "int4"},
    ]
    lines = "".join(json.dumps(each) + "\n" for each in requests)
    ended = subprocess.run(COMMANDS[runner](folder), input=lines, capture_output=True, text=True, check=True)
    early, first, golden, opened, started, turned, memory, saved, refused = map(json.loads, ended.stdout.splitlines())
    assert early["error"]["what"] == "There is no operation 'start' now."
    assert first == opened == saved == {"result": None}
    assert set(started["result"]) == {"load_ms", "first_run_ms", "nodes", "facts", "shapes"}
    assert (golden["result"]["shapes"], started["result"]["shapes"]) == ({"x": [1, 4]}, {"x": [2, 4]})
    assert (len(turned["result"]["runs_ms"]), turned["result"]["runs"]) == (10, 30)
    assert memory["result"]["peak_memory_bytes"] is None or memory["result"]["peak_memory_bytes"] > 10**6
    assert refused["error"]["what"] == "There is no variant 'int4'."
    calls = calls_file.read(tmp_path / "out.npz")
    want = onnxruntime.InferenceSession(str(folder / "net/fp32/model.onnx")).run(None, {"x": samples})[0]
    assert [call["scores"].shape for call in calls] == [(2, 3), (2, 3), (1, 3)]
    np.testing.assert_allclose(np.concatenate([call["scores"] for call in calls]), want, rtol=1e-6)


def test_samples_are_stacked_along_any_axis_and_every_type_is_sent_back(
    runner: str, pack: Pack, tmp_path: Path
) -> None:
    from toolchain.accuracy import calls_file

    folder = pack(every_type(tmp_path / "net.onnx"), targets=EVERY).path
    names = sorted(FEEDABLE)
    samples = {f"x{name}": np.arange(20).reshape(4, 5).astype(name) for name in names}
    samples["xint32"] = np.arange(20, dtype=np.int32).reshape(4, 5)
    for name, array in samples.items():
        np.save(tmp_path / f"{name}.npy", array)
    axes: dict[str, Any] = {"inputs": {"xint32": 1}}
    given = {name: str(tmp_path / f"{name}.npy") for name in samples}
    requests = [
        {"op": "open", "batch": 5, "inputs": given, "axes": axes},
        {"op": "outputs", "path": str(tmp_path / "o")},
    ]
    lines = "".join(json.dumps(each) + "\n" for each in requests)
    ended = subprocess.run(COMMANDS[runner](folder), input=lines, capture_output=True, text=True, check=True)
    assert [json.loads(line) for line in ended.stdout.splitlines()] == [{"result": None}] * 2
    (call,) = calls_file.read(tmp_path / "o")
    rows = [0, 1, 2, 3, 0]
    for name in names:
        array = samples[f"x{name}"]
        want = array[rows].T if name == "int32" else array[:4]
        got = call[f"y{name}"]
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, want[: len(got)])
