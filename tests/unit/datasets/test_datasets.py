import json
import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from exporters.model_file import ModelFile
from toolchain.datasets import arrays
from toolchain.datasets.cifar10 import CLASSES, Cifar10
from toolchain.datasets.dataset import Dataset, Scale, Split
from toolchain.datasets.digits import Digits
from toolchain.datasets.sst2 import Sst2
from toolchain.datasets.tfidf import Tfidf
from toolchain.errors import BadUsage
from toolchain.inputs import samples
from toolchain.recipes.digits import recipe
from toolchain.recipes.rows import Rows

SENTENCES = ["a fine , fine film !", "not a fine film", "!", "unknown words only ?"]


def make_batches(folder: Path, per_batch: int = 20) -> None:
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        content = {
            b"data": random.integers(0, 256, (per_batch, 3072)).astype(np.uint8),
            b"labels": [index % 10 for index in range(per_batch)],
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))


def make_tree(folder: Path, suffix: str = "png", size: int = 32) -> None:
    from PIL import Image

    for part in ("train", "test"):
        for label, name in enumerate(CLASSES):
            (folder / part / name).mkdir(parents=True)
            for index in range(6):
                pixels = np.full((size, size, 3), label * 20 + index, np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{index}.{suffix}")


def test_digits_are_split_without_overlap() -> None:
    data = Digits().load()
    assert (len(data.train), len(data.validation), len(data.test)) == (1078, 360, 359)
    assert data.train.inputs.dtype == np.uint8
    scaled = data.scale(torch.from_numpy(data.train.inputs))  # type: ignore[operator]
    assert scaled.shape == (1078, 1, 8, 8)
    assert abs(scaled.mean()) < 0.05


@pytest.mark.parametrize("nested", [True, False])
def test_cifar10_batches_are_read(tmp_path: Path, nested: bool) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    make_batches(folder)
    data = Cifar10(tmp_path if nested else folder).load()
    assert (len(data.train), len(data.validation), len(data.test)) == (96, 4, 20)
    assert data.train.inputs.shape == (96, 3, 32, 32)


def test_a_batch_that_would_run_code_is_refused(tmp_path: Path) -> None:
    make_batches(tmp_path / "b")
    (tmp_path / "b" / "test_batch").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(BadUsage, match="not a batch"):
        Cifar10(tmp_path / "b").load()
    assert not Path("pwned").exists()


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_cifar10_image_tree_is_read(tmp_path: Path, suffix: str) -> None:
    make_tree(tmp_path, suffix)
    data = Cifar10(tmp_path).load()
    assert (len(data.train) + len(data.validation), len(data.test)) == (60, 60)
    for pixels, label in zip(data.test.inputs, data.test.targets, strict=True):
        assert abs(int(pixels.mean()) - 20 * int(label)) <= 8


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    make_tree(tmp_path)
    before = Cifar10(tmp_path).digest()
    assert Cifar10(tmp_path).digest() == before
    file = tmp_path / "test" / "cat" / "0.png"
    file.write_bytes(file.read_bytes() + b"x")
    assert Cifar10(tmp_path).digest() != before


def test_missing_parts_are_named(tmp_path: Path) -> None:
    make_tree(tmp_path)
    for file in (tmp_path / "test" / "frog").iterdir():
        file.unlink()
    (tmp_path / "test" / "frog").rmdir()
    with pytest.raises(BadUsage, match="test/frog"):
        Cifar10(tmp_path)
    make_batches(tmp_path / "b")
    (tmp_path / "b" / "data_batch_3").unlink()
    with pytest.raises(BadUsage, match="lacks data_batch_3"):
        Cifar10(tmp_path / "b").load()


@pytest.mark.parametrize("damage", ["size", "content"])
def test_unfit_images_are_named(tmp_path: Path, damage: str) -> None:
    make_tree(tmp_path, size=32 if damage == "content" else 16)
    if damage == "content":
        (tmp_path / "train" / "cat" / "3.png").write_bytes(b"no image")
    with pytest.raises(BadUsage, match=r"3\.png is not a readable" if damage == "content" else "16 x 16"):
        Cifar10(tmp_path).load()


def test_tfidf_matches_scikit_learn_and_survives_being_data() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    fitted = Tfidf.fit(SENTENCES[:3], features=6)
    reference = TfidfVectorizer(max_features=6, token_pattern=r"(?u)\S+").fit(SENTENCES[:3])
    np.testing.assert_allclose(fitted.transform(SENTENCES), reference.transform(SENTENCES).toarray(), atol=1e-6)
    again = Tfidf.of_data(json.loads(json.dumps(fitted.as_data())))
    np.testing.assert_array_equal(again.transform(SENTENCES), fitted.transform(SENTENCES))


def test_sst2_lines_are_checked(tmp_path: Path) -> None:
    for name in ("train.tsv", "dev.tsv", "test.tsv"):
        (tmp_path / name).write_text("good film\t1\nbad film\t0\n" * 5)
    assert len(Sst2(tmp_path).load().test) == 20
    (tmp_path / "dev.tsv").write_text("good film\t1\nbad film 0\n")
    with pytest.raises(BadUsage, match=r"Line 2 of .*dev\.tsv"):
        Sst2(tmp_path).load()


def test_rows_are_drawn_once_each_in_order_and_the_same_again() -> None:
    chosen = arrays.choose(100, 10, seed=3)
    assert len(set(chosen)) == 10
    assert list(chosen) == sorted(chosen)
    np.testing.assert_array_equal(chosen, arrays.choose(100, 10, seed=3))
    np.testing.assert_array_equal(arrays.choose(5, 1000), np.arange(5))


def test_scaling_leaves_the_data_as_it_was() -> None:
    values = np.full((4, 2), 8, np.float32)
    split = Split(values, np.zeros(4, np.int64))
    data = Dataset(train=split, validation=split, test=split, scale=Scale(divisor=2))
    for _ in range(2):
        np.testing.assert_array_equal(Rows(recipe, data).arrays(split)[0]["image"], np.full((4, 2), 4))
        assert (Scale(divisor=2)(torch.from_numpy(values)) == 4).all()
    assert (values == 8).all()


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(BadUsage, match="0 inputs"):
        Split(np.zeros((0, 2)), np.zeros(0, np.int64))


def test_calibration_and_proof_share_no_sample(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=np.arange(50))
    model = ModelFile.of(onnx.ModelProto(), tmp_path / "m.onnx")  # an .npz names its inputs itself
    for count in (10, 50, 1000):
        used, others = samples.for_calibration(str(tmp_path / "x.npz"), None, count=count, model=model)
        assert not set(used.inputs["image"]) & set(others.inputs["image"])
        assert len(used) == min(count, 40)
