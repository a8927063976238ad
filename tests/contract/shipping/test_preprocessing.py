"""What a runner makes of a picture or a sentence is what the recipe trains on."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.contract.shipping.conftest import runner_of
from toolchain.datasets import image_folder, preparation
from toolchain.datasets.digits import Digits
from toolchain.datasets.tfidf import Tfidf
from toolchain.recipes.digits import recipe
from toolchain.recipes.rows import Rows

SENTENCES = [
    "a fine , fine film !",
    "not a fine film",
    "!",
    "Unknown words only ?",
    "  \t spaces\u00a0of\u2003kinds ",
    "",
]


@pytest.fixture
def runner(packed: Path) -> ModuleType:
    return runner_of(packed, "inputs")


def prepared(runner: ModuleType, packed: Path, how: dict[str, Any], given: str) -> Any:
    (packed / "nnx" / "preprocessing.json").write_text(json.dumps(how | {"input": "x"}))
    runner.PACKAGE["preprocessing"] = "nnx/preprocessing.json"
    return runner.prepared(given)["x"]


def test_a_picture_of_a_digit_becomes_what_the_recipe_makes_of_it(
    runner: ModuleType, packed: Path, tmp_path: Path
) -> None:
    data = Digits().load()
    (path,) = Digits().save_preprocessing(tmp_path)
    wanted: Any = Rows(recipe, data).arrays(data.test, np.arange(20))[0]["image"]
    for number in range(20):
        stored = np.asarray(data.test.inputs[number, 0])
        Image.fromarray(np.round(stored * (255 / 16)).astype(np.uint8)).save(tmp_path / "digit.png")
        got = prepared(runner, packed, json.loads(path.read_text()), str(tmp_path / "digit.png"))
        assert got.shape == (1, 1, 8, 8)
        np.testing.assert_allclose(got[0], wanted[number], atol=0.5 / 255 / 0.376 + 1e-6)  # pixels are whole numbers


def test_a_picture_is_cut_and_normalised_as_a_folder_of_images_is(
    runner: ModuleType, packed: Path, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for width, height in ((90, 60), (50, 70), (48, 48)):
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / "one.png")
        content = (tmp_path / "images" / "one.png").read_bytes()
        cut = image_folder.pictures_for((1, 3, 48, 40), "images").decode(content, "one.png")
        wanted = image_folder.normalised(cut)[np.newaxis]
        how = image_folder.prepared_as((1, 3, 48, 40))
        got = prepared(runner, packed, how, str(tmp_path / "images" / "one.png"))
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_a_grey_picture_has_one_channel_and_a_coloured_one_three(
    runner: ModuleType, packed: Path, tmp_path: Path
) -> None:
    Image.fromarray(np.full((6, 6, 4), 255, np.uint8)).save(tmp_path / "see-through.png")
    for channels in (1, 3):
        how = preparation.of_image((channels, 4, 4), mean=[0.5] * channels, std=[0.5] * channels)
        got = prepared(runner, packed, how, str(tmp_path / "see-through.png"))
        np.testing.assert_allclose(got, np.ones((1, channels, 4, 4)))


def test_sentences_become_the_vectors_that_the_vectorizer_makes(runner: ModuleType, packed: Path) -> None:
    fitted = Tfidf.fit(SENTENCES[:3], features=6)
    how = json.loads(json.dumps(fitted.as_data()))
    for sentence, wanted in zip(SENTENCES, fitted.transform(SENTENCES), strict=True):
        np.testing.assert_allclose(prepared(runner, packed, how, sentence)[0], wanted, atol=1e-7)


@given(st.text())
def test_any_text_becomes_the_same_vector(_packed_once: Path, text: str) -> None:
    fitted = Tfidf(vocabulary={"a": 0, "film": 1, text.lower().strip() or "-": 2}, idf=np.array([1, 2, 3], np.float32))
    module = runner_of(_packed_once, "inputs")
    module.PACKAGE["preprocessing"] = "x"
    module.read = lambda _: fitted.as_data() | {"input": "x"}  # type: ignore[attr-defined]
    np.testing.assert_allclose(module.prepared(text)["x"][0], fitted.transform([text])[0], atol=1e-7)
