"""A model in two files: weights stay in files until they are asked for, and the pair is replaced as a pair."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import external_data, large_weights, onnx_file
from exporters.calibration import cache
from exporters.errors import BadModelFile, BadOption, NotConvertible
from exporters.large_weights import array_of, is_stub, tensor_of
from exporters.model_file import ModelFile

SIDE = 160  # 100 kB of fp32


def model_of(scale: float) -> onnx.ModelProto:
    weight = np.arange(SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE) * np.float32(scale)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", SIDE]) for name in "xy")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_data, "MAX_BYTES", 10_000)
    monkeypatch.setattr(large_weights, "LARGE_BYTES", 10_000)


def scale_of(path: Path) -> float:
    """What :func:`model_of` was given; the pair must be whole."""
    return float(array_of(ModelFile(path).proto.graph.initializer[0])[0, 1])


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    onnx_file.save(model_of(1.0), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_weights_stay_in_the_file_and_read_as_they_are(pair: Path) -> None:
    tensor = ModelFile(pair).proto.graph.initializer[0]
    assert is_stub(tensor)
    assert not tensor.raw_data
    assert np.array_equal(array_of(tensor), array_of(model_of(1.0).graph.initializer[0]))


def test_without_a_limit_in_reach_they_are_in_memory(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_weights, "LARGE_BYTES", 2**30)
    assert ModelFile(pair).proto.graph.initializer[0].raw_data


def test_a_stub_written_to_one_file_is_the_model_again(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ModelFile(pair).proto
    monkeypatch.setattr(external_data, "MAX_BYTES", 2**30)
    onnx_file.save(model, tmp_path / "one.onnx")
    assert onnx.load(tmp_path / "one.onnx") == model_of(1.0)
    file = ModelFile.of(model, tmp_path / "one.onnx")
    assert (file.external_files, file.size_bytes) == ((), (tmp_path / "one.onnx").stat().st_size)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "int64", "bool"])
def test_new_weights_lie_in_a_scratch_file_while_it_is_there(dtype: str) -> None:
    array = (np.arange(2**18) % 100).reshape(2, -1).astype(dtype)
    with large_weights.scratch():
        tensor = tensor_of(array.T, "t")
        assert is_stub(tensor)
        assert np.array_equal(array_of(tensor), array.T)
        assert not is_stub(tensor_of(np.ones(3), "small"))
    with pytest.raises(BadModelFile, match="could not be read"):
        array_of(tensor)
    assert not is_stub(tensor_of(array, "t"))


def test_a_source_that_becomes_shorter_is_named(pair: Path) -> None:
    tensor = ModelFile(pair).proto.graph.initializer[0]
    os.truncate(external_data.data_path(pair), 100)
    with pytest.raises(BadModelFile, match="became shorter"):
        array_of(tensor)


def test_a_file_cannot_name_a_place_as_we_do(pair: Path) -> None:
    model = onnx.load(pair, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "0" * 32 + ":/etc/passwd"
    pair.write_bytes(model.SerializeToString())
    with pytest.raises(BadModelFile, match="could not be read"):
        _ = ModelFile(pair).proto


def test_statistics_are_known_by_what_weights_hold(pair: Path, tmp_path: Path) -> None:
    def key(path: Path) -> str:
        return cache.key(ModelFile(path).proto, data_sha256="d", tensors=["y"])

    first = key(pair)
    onnx_file.save(model_of(1.0), tmp_path / "same.onnx")
    onnx_file.save(model_of(2.0), tmp_path / "other.onnx")
    assert key(tmp_path / "same.onnx") == first != key(tmp_path / "other.onnx")


def test_a_pair_takes_the_place_of_a_pair_under_the_other_name_and_back(pair: Path) -> None:
    folder, first, second = pair.parent, *external_data.data_names(pair)
    first.chmod(0o640)
    onnx_file.save(model_of(2.0), pair)
    assert sorted(folder.iterdir()) == sorted([pair, second])
    assert (scale_of(pair), second.stat().st_mode & 0o777) == (2.0, 0o640)
    onnx_file.save(model_of(3.0), pair)
    assert (sorted(folder.iterdir()), scale_of(pair)) == (sorted([pair, first]), 3.0)


def test_a_pair_is_written_anew_from_its_own_weights(pair: Path) -> None:
    onnx_file.save(ModelFile(pair).proto, pair)
    assert scale_of(pair) == 1.0


def test_a_model_that_needs_two_files_does_not_go_behind_a_link(pair: Path) -> None:
    link = pair.with_name("link.onnx")
    link.symlink_to(pair.name)
    with pytest.raises(BadOption, match="is a link"):
        onnx_file.save(model_of(2.0), link)
    assert scale_of(pair) == 1.0


KILLED = """
import os, signal, sys
from pathlib import Path
from exporters import external_data, large_weights, onnx_file
from exporters.atomic_file import remove_leftovers
from tests.unit.test_large_weights import model_of, scale_of

external_data.MAX_BYTES = large_weights.LARGE_BYTES = 10_000
path, staged = Path(sys.argv[1]), sys.argv[2] == "staged"

def killing(call):
    def counted(*arguments, **options):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return counted

def save():
    for name in ("replace", "unlink", "chmod"):
        setattr(Path, name, killing(getattr(Path, name)))
    os.fsync = killing(os.fsync)
    if staged:
        with onnx_file.staged_model(path) as candidate:
            onnx_file.save(model_of(5.0), candidate)
            onnx_file.save(model_of(2.0), candidate)
    else:
        onnx_file.save(model_of(2.0), path)

for left in range(1, 60):
    onnx_file.save(model_of(1.0), path)
    child = os.fork()
    if not child:
        save()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    found = scale_of(path)
    remove_leftovers(path.parent)
    print(status, found, *sorted(file.name for file in path.parent.iterdir()))
    if not status:
        break
onnx_file.save(model_of(4.0), path)
"""


@pytest.mark.parametrize("way", ["saved", "staged"])
def test_a_kill_at_any_moment_leaves_the_old_pair_or_the_new_one(pair: Path, way: str) -> None:
    command = [sys.executable, "-c", KILLED, str(pair), way]
    ended = subprocess.run(command, check=True, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    lines = [line.split() for line in ended.stdout.splitlines()]
    assert [line[0] for line in lines] == [*[str(int(signal.SIGKILL))] * (len(lines) - 1), "0"]
    assert {line[1] for line in lines[:-1]} == {"1.0", "2.0"}
    assert lines[-1][1] == "2.0"
    allowed = {path.name for path in (pair, *external_data.data_names(pair))}
    assert all(set(line[2:]) <= allowed for line in lines)
    assert scale_of(pair) == 4.0


def test_a_failure_at_the_last_moment_leaves_the_old_pair_alone(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def failing(path: Path, target: Path) -> Path:
        if target == pair:
            raise OSError(28, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="No space"):
        onnx_file.save(model_of(2.0), pair)
    assert sorted(pair.parent.iterdir()) == sorted([pair, external_data.data_path(pair)])
    assert scale_of(pair) == 1.0


FULL = """
import resource, signal, sys
from pathlib import Path
from exporters import external_data, large_weights, onnx_file
from tests.unit.test_large_weights import model_of

external_data.MAX_BYTES = large_weights.LARGE_BYTES = 10_000
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
path = Path(sys.argv[1])
try:
    if sys.argv[3] == "staged":
        with onnx_file.staged_model(path) as candidate:
            onnx_file.save(model_of(2.0), candidate)
    else:
        onnx_file.save(model_of(2.0), path)
except OSError as error:
    print(type(error).__name__)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits on files")
@pytest.mark.parametrize("way", ["saved", "staged"])
@pytest.mark.parametrize("room", [0, 100, 60_000])
def test_a_disk_that_is_full_leaves_the_old_pair_and_nothing_else(pair: Path, room: int, way: str) -> None:
    command = [sys.executable, "-c", FULL, str(pair), str(room), way]
    ended = subprocess.run(command, check=True, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert ended.stdout == "OSError\n"
    assert sorted(pair.parent.iterdir()) == sorted([pair, external_data.data_path(pair)])
    assert scale_of(pair) == 1.0


def test_the_hash_of_a_pair_is_that_of_both_files(pair: Path) -> None:
    before, own = ModelFile(pair).sha256, pair.read_bytes()
    data = external_data.data_path(pair)
    changed = bytearray(data.read_bytes())
    changed[-1] ^= 1
    data.write_bytes(changed)
    assert (ModelFile(pair).sha256 != before, pair.read_bytes()) == (True, own)


def test_a_candidate_is_nobodys_leftover_while_its_block_runs(pair: Path) -> None:
    with onnx_file.staged_model(pair) as candidate:
        onnx_file.save(model_of(2.0), candidate)
        other = "import sys, pathlib\nfrom exporters.atomic_file import remove_leftovers\n"
        other += "remove_leftovers(pathlib.Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", other, str(pair.parent)], check=True)
    assert scale_of(pair) == 2.0


def test_another_process_is_given_the_weights_and_what_is_known_of_the_file(pair: Path) -> None:
    file = ModelFile(pair)
    packed = pickle.dumps(file)
    facts = file.sha256, file.size_bytes, file.external_files, file.inputs
    for each in pair.parent.iterdir():
        each.unlink()
    there = pickle.loads(packed)
    assert (there.sha256, there.size_bytes, there.external_files, there.inputs) == facts
    assert not there.has_stubs
    assert array_of(there.normal.graph.initializer[0])[0, 1] == 1.0
    assert is_stub(file.proto.graph.initializer[0])  # the one that was handed on is as before


def test_what_no_message_holds_is_not_handed_on(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_weights, "_MESSAGE_BYTES", 10_000)
    with pytest.raises(NotConvertible, match="2 GB or more") as caught:
        pickle.dumps(ModelFile(pair))
    assert "--ray" in caught.value.do
