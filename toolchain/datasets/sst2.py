"""SST-2 (Socher et al. 2013): movie-review sentences, positive or negative, as TF-IDF vectors."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toolchain.datasets import preparation
from toolchain.datasets.dataset import Dataset, Split, digest_of_files
from toolchain.datasets.tfidf import Tfidf
from toolchain.errors import BadUsage

Labels = npt.NDArray[np.int64]

_FILES = ("train.tsv", "dev.tsv", "test.tsv")
_FEATURES = 5000
_VALIDATION_SHARE = 0.2
_SEED = 42


class Sst2:
    """``train.tsv`` split 80/20 at random (seed 42) into train and validation; dev.tsv and test.tsv are the test.

    Inputs ``(N, 5000)`` float32: TF-IDF weights, fitted on the train part alone.
    """

    def __init__(self, folder: Path | None) -> None:
        if folder is None:
            raise BadUsage("The recipe sst2 needs its sentences.", "Add --data DIR with train.tsv, dev.tsv, test.tsv.")
        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:
            raise BadUsage(
                f"{folder} does not hold SST-2: looked for {', '.join(_FILES)}, missing {', '.join(missing)}.",
                "Each line of these files is a sentence, a TAB, and 0 or 1.",
            )
        self._folder = folder

    def digest(self) -> str:
        return digest_of_files((self._folder / name for name in _FILES), self._folder)

    def load(self) -> Dataset:
        train, labels, validation, validation_labels = self._split()
        vectorizer = Tfidf.fit(train, features=_FEATURES)
        test, test_labels = _read(self._folder / "test.tsv")
        dev, dev_labels = _read(self._folder / "dev.tsv")
        return Dataset(
            train=Split(vectorizer.transform(train), labels),
            validation=Split(vectorizer.transform(validation), validation_labels),
            test=Split(vectorizer.transform(dev + test), np.concatenate([dev_labels, test_labels])),
            classes=("negative", "positive"),
            texts=tuple(dev + test),
        )

    def save_preprocessing(self, folder: Path) -> list[Path]:
        """The vocabulary and the weights that turn a sentence into the model's input."""
        return [preparation.save(folder, Tfidf.fit(self._split()[0], features=_FEATURES).as_data())]

    def _split(self) -> tuple[list[str], Labels, list[str], Labels]:
        sentences, labels = _read(self._folder / "train.tsv")
        # the permutation of scikit-learn's train_test_split(random_state=42), by which the source was split
        order = np.random.RandomState(_SEED).permutation(len(sentences))
        cut = math.ceil(len(sentences) * _VALIDATION_SHARE)
        validation, train = order[:cut], order[cut:]
        return (
            [sentences[row] for row in train], labels[train],
            [sentences[row] for row in validation], labels[validation],
        )  # fmt: skip


def _read(path: Path) -> tuple[list[str], Labels]:
    sentences, labels = [], []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise BadUsage(f"{path} is not UTF-8 text.", "Convert it with iconv.") from error
    for number, line in enumerate((line for line in lines if line), start=1):
        sentence, tab, label = line.rpartition("\t")
        if not tab or label not in ("0", "1"):
            raise BadUsage(f"Line {number} of {path} is not a sentence, a TAB, and 0 or 1.", "Mend or remove it.")
        sentences.append(sentence)
        labels.append(int(label))
    return sentences, np.array(labels, np.int64)
