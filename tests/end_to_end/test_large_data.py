"""A training on more data than there is memory, and on real pictures in files."""

import json
import resource
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests import stored_pictures
from tests.end_to_end.command import run_nnx
from toolchain.training.record import History

pytestmark = pytest.mark.slow

SHAPE = (256, 1024)  # 1 MB each
SAMPLES = 2_000
LIMIT_BYTES = 1_500 << 20

RECIPE = """
import numpy as np
from torch import nn
from toolchain.recipe import Dataset, Made, Recipe, Split, WebDataset

def mean():
    return nn.Sequential(nn.AvgPool2d(256), nn.Flatten(), nn.Linear(4, 2))

def in_memory(folder):
    def load():
        data = WebDataset(folder, inputs="npy").load()
        read = {name: [split.reader.sample(row) for row in range(len(split))] for name, split in data.splits.items()}
        inputs = {name: np.stack([array for array, _ in samples]) for name, samples in read.items()}
        labels = {name: np.array([label for _, label in samples]) for name, samples in read.items()}
        return Dataset(**{name: Split(inputs[name], labels[name]) for name in read})
    return Made("in memory", load)

def recipe(name, data):
    return Recipe(name=name, model=mean, data=data, epochs=2, batch_size=16, lr=0.1, compile_on_cpu=False)

files = recipe("files", lambda folder: WebDataset(folder, inputs="npy"))
memory = recipe("memory", in_memory)
"""


def sparse_shard(path: Path, samples: range) -> None:
    """Arrays of zeros that take no room on the disk."""
    header = np.lib.format.header_data_from_array_1_0(np.empty((1, *SHAPE), np.float32)[0])
    with path.open("wb") as file:
        for sample in samples:
            label = tarfile.TarInfo(f"{sample}.cls")
            label.size = 1
            file.write(label.tobuf() + b"%d" % (sample % 2) + bytes(511))
            array = tarfile.TarInfo(f"{sample}.npy")
            start = file.tell() + 512
            file.seek(start)
            np.lib.format.write_array_header_1_0(file, header)
            size = file.tell() - start + 4 * SHAPE[0] * SHAPE[1]
            array.size = size
            file.seek(start - 512)
            file.write(array.tobuf())
            file.seek(start + -(-size // 512) * 512)
        file.write(bytes(1024))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone limits what a process may hold so")
def test_more_data_than_memory_is_trained_on_from_files_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for place in range(4):
        samples = range(place * SAMPLES // 4, (place + 1) * SAMPLES // 4)
        sparse_shard(tmp_path / "data" / f"train-{place:06}.tar", samples)
    assert sum(path.stat().st_size for path in (tmp_path / "data").iterdir()) > LIMIT_BYTES
    (tmp_path / "large.py").write_text(RECIPE)
    codes = {}
    for name in ("files", "memory"):
        ended = subprocess.run(
            [sys.executable, "-m", "toolchain", "train", f"large.py:{name}", "--data", "data", "--amp", "off"],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, resource.RLIM_INFINITY)),
            capture_output=True, text=True, timeout=500, check=False, cwd=tmp_path,
        )  # fmt: skip
        codes[name] = ended.returncode
        if name == "files":
            assert ended.returncode == 0, ended.stderr
        else:
            assert "There is not enough memory" in ended.stderr or "most likely for want of memory" in ended.stderr
    assert codes == {"files": 0, "memory": 3}


REAL = """
from toolchain.datasets.cifar10 import CLASSES
from toolchain.recipe import ImageFolder, Pictures, Recipe, WebDataset
from toolchain.recipes.cifar10 import Cifar10Net

def recipe(data):
    return Recipe(
        name="real", model=Cifar10Net, data=data, epochs=1, batch_size=64, lr=0.1, input_name="image",
        compile_on_cpu=False, cast_inputs=True,
    )

folders = recipe(lambda folder: ImageFolder(folder, Pictures(size=(32, 32))))
shards = recipe(lambda folder: WebDataset(folder, Pictures(size=(32, 32)), classes=CLASSES))
"""


@pytest.mark.data
def test_real_pictures_in_folders_and_in_shards_train_alike(cifar10_folder: Path, tmp_path: Path) -> None:
    """A tenth of CIFAR-10, the same pictures in the same order: the same losses, and the same weights."""
    pictures, shards = tmp_path / "folders", tmp_path / "shards"
    for part, share in (("train", 10), ("test", 20)):
        samples = []
        for label, folder in enumerate(sorted((cifar10_folder / part).iterdir())):
            chosen = sorted(folder.iterdir())[::share]
            (pictures / part / folder.name).mkdir(parents=True)
            for path in chosen:
                content = path.read_bytes()
                (pictures / part / folder.name / path.name).write_bytes(content)
                samples.append((f"{folder.name}-{path.stem}", {"jpg": content, "cls": b"%d" % label}))
        stored_pictures.shard(shards / f"{part}-000000.tar", samples)
    (tmp_path / "real.py").write_text(REAL)
    epochs = {}
    for name in ("folders", "shards"):
        ended = run_nnx("train", f"real.py:{name}", "--data", name, "--out", f"made-{name}", cwd=tmp_path, timeout=540)
        assert ended.returncode == 0, ended.stderr
        history = History.from_json((tmp_path / f"made-{name}" / "training.json").read_bytes())
        epochs[name] = [(each.loss, each.train_score, each.validation_score) for each in history.epochs]
        assert history.best.validation_score is not None
        assert history.best.validation_score > 0.25
        assert json.loads((tmp_path / f"made-{name}" / "preprocessing.json").read_text())["crop"] == 1.0
    assert epochs["folders"] == epochs["shards"]
