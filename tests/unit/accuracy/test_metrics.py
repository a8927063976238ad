"""Each metric beside the library that has it, or beside a value worked out by hand or by the program named."""

import numpy as np
import pytest

from tests.unit.accuracy.detections import made
from toolchain.accuracy.metrics import metric as metric_file
from toolchain.accuracy.metrics.boxes import map50_metric
from toolchain.accuracy.metrics.built_in import BUILT_IN
from toolchain.accuracy.metrics.metric import Metric
from toolchain.accuracy.metrics.texts import edits
from toolchain.errors import BadUsage

sklearn = pytest.importorskip("sklearn.metrics")
RANDOM = np.random.default_rng(5)
SCORES = RANDOM.normal(size=(200, 7)).astype(np.float32)
LABELS = RANDOM.integers(7, size=200)
NUMBERS = RANDOM.normal(size=(200, 3))
NEAR = np.round(NUMBERS + 0.4 * RANDOM.normal(size=(200, 3)), 1)
FLAGS = RANDOM.integers(2, size=(200, 7))
TOKENS = RANDOM.integers(-1, 5, size=(40, 9))
TOKEN_SCORES = RANDOM.normal(size=(40, 9, 5)).astype(np.float32)
SAID = TOKENS >= 0


def of(name: str) -> Metric:
    return BUILT_IN[name]()


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "value"),
    [
        ("top1", SCORES, LABELS, sklearn.accuracy_score(LABELS, SCORES.argmax(1))),
        ("top1", TOKEN_SCORES, TOKENS, sklearn.accuracy_score(TOKENS[SAID], TOKEN_SCORES.argmax(2)[SAID])),
        ("top1", TOKEN_SCORES.transpose(0, 2, 1), TOKENS, (TOKEN_SCORES.argmax(2) == TOKENS)[SAID].mean()),
        ("top5", SCORES, LABELS, sklearn.top_k_accuracy_score(LABELS, SCORES, k=5, labels=range(7))),
        ("f1", SCORES, LABELS, sklearn.f1_score(LABELS, SCORES.argmax(1), average="macro")),
        ("f1", SCORES[:, :2], LABELS % 2, sklearn.f1_score(LABELS % 2, SCORES[:, :2].argmax(1))),
        ("f1", SCORES[:, :1], LABELS % 2, sklearn.f1_score(LABELS % 2, SCORES[:, 0] > 0)),
        ("f1", SCORES, FLAGS, sklearn.f1_score(FLAGS, SCORES > 0, average="macro")),
        ("f1", SCORES[:, :3], FLAGS[:, :3], sklearn.f1_score(FLAGS[:, :3], SCORES[:, :3] > 0, average="macro")),
        ("f1", 1 / (1 + np.exp(-SCORES)), FLAGS, sklearn.f1_score(FLAGS, SCORES > 0, average="macro")),
        ("f1", TOKEN_SCORES, TOKENS, sklearn.f1_score(TOKENS[SAID], TOKEN_SCORES.argmax(2)[SAID], average="macro")),
        ("mae", NEAR, NUMBERS, sklearn.mean_absolute_error(NUMBERS, NEAR)),
        ("mae", NEAR[:, :1], NUMBERS[:, 0], sklearn.mean_absolute_error(NUMBERS[:, 0], NEAR[:, 0])),
        ("rmse", NEAR, NUMBERS, np.sqrt(sklearn.mean_squared_error(NUMBERS.ravel(), NEAR.ravel()))),
        ("r2", NEAR, NUMBERS, sklearn.r2_score(NUMBERS, NEAR)),
        ("r2", NEAR + 1e6, NUMBERS + 1e6, sklearn.r2_score(NUMBERS, NEAR)),
        ("cosine", NEAR, NUMBERS, sklearn.pairwise.cosine_similarity(NUMBERS, NEAR).diagonal().mean()),
    ],
)
def test_a_metric_is_what_scikit_learn_has(name: str, outputs: np.ndarray, targets: np.ndarray, value: float) -> None:
    assert of(name).of(outputs, targets) == pytest.approx(value, abs=1e-9)
    assert of(name).of({"first": outputs}, targets) == pytest.approx(value, abs=1e-9)


def test_spearman_is_what_scipy_has() -> None:
    from scipy.stats import spearmanr

    columns = [spearmanr(NEAR[:, column], NUMBERS[:, column]).statistic for column in range(3)]
    assert of("spearman").of(NEAR, NUMBERS) == pytest.approx(np.mean(columns))


def test_iou_counts_a_class_over_all_pixels() -> None:
    truth = np.array([[[0, 0, 1, 1]], [[1, 1, 2, 255]]])
    answers = np.array([[[0, 1, 1, 1]], [[1, 1, 1, 2]]])
    scores = np.moveaxis(np.eye(3)[answers], -1, 1)  # (2, 3, 1, 4)
    assert of("iou").of(scores, truth) == pytest.approx(np.mean([1 / 2, 4 / 6, 0 / 1]))
    assert of("iou").of(answers, truth) == pytest.approx(np.mean([1 / 2, 4 / 6, 0 / 1]))


def test_iou_of_one_logit_is_that_of_yes() -> None:
    truth = (RANDOM.random((5, 8, 8)) < 0.3).astype(np.int64)
    logits = RANDOM.normal(size=(5, 1, 8, 8))
    expected = sklearn.jaccard_score(truth.ravel(), logits.ravel() > 0)
    assert of("iou").of(logits, truth) == pytest.approx(expected)
    assert of("iou").of(1 / (1 + np.exp(-logits)), truth) == pytest.approx(expected)


def test_map50_is_what_pycocotools_finds() -> None:
    """2.0.11 finds 0.4937766212518687 for COCOeval.stats[1] of these boxes."""
    found, true = made()
    assert map50_metric().of(found, true) == pytest.approx(0.4937766212518687, abs=1e-12)
    by_name = {"boxes": found[..., :4], "scores": found[..., 4], "labels": found[..., 5]}
    named = {"boxes": true[..., :4], "labels": true[..., 4]}
    assert map50_metric().of(by_name, named) == pytest.approx(0.4937766212518687, abs=1e-12)
    ragged = [row[row[:, 4] >= 0] for row in true]
    assert map50_metric().of(found, ragged) == pytest.approx(0.4937766212518687, abs=1e-12)


def test_map50_by_hand() -> None:
    """Of two boxes one is found twice (the second time falsely) before the other: precision 1 and 2/3 at recall 1."""
    true = np.array([[[0, 0, 10, 10, 0], [20, 20, 30, 30, 0]]])
    found = np.array([[[0, 0, 10, 10, 0.9, 0], [0, 0, 10, 10, 0.8, 0], [20, 20, 30, 31, 0.7, 0]]])
    below = 51 / 101  # of the 101 recalls, those up to a half
    assert map50_metric().of(found, true) == pytest.approx(below * 1 + (1 - below) * 2 / 3)


def test_map50_of_images_of_which_some_have_no_box() -> None:
    true = np.array([[[0, 0, 10, 10, 0]], [[-1, -1, -1, -1, -1]]], float)
    found = np.array([[[0, 0, 10, 10, 0.5, 0]], [[0, 0, 10, 10, 0.9, 0]]])
    assert map50_metric().of(found, true) == pytest.approx(0.5)  # a false alarm comes first
    with pytest.raises(BadUsage, match=r"mAP at IoU 0\.5 of these 1 samples is nan"):
        map50_metric().of(found[1:], true[1:])


def test_wer_is_what_jiwer_finds() -> None:
    """4.0.0 finds 5 / 12."""
    truth = np.array(["the cat sat on the mat", "hello world", "a b c d"])
    heard = np.array(["the cat sit on mat", "hello", "a x b c d e"])
    assert of("wer").of(heard, truth) == pytest.approx(5 / 12)
    tokens = np.array([[1, 2, 3, -1], [4, 5, -1, -1]])
    assert of("wer").of(np.array([[1, 3, -1, -1], [4, 5, 6, -1]]), tokens) == pytest.approx(2 / 5)


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("intention", "execution", 5)],
)
def test_edits(one: str, other: str, distance: int) -> None:
    assert edits(list(one), list(other)) == edits(list(other), list(one)) == distance


@pytest.mark.parametrize("name", list(BUILT_IN))
def test_a_metric_says_in_one_sentence_that_it_does_not_fit(name: str) -> None:
    images, words = np.zeros((4, 3, 2, 2), np.float32), np.array(["a", "b", "c", "d"])
    with pytest.raises(
        BadUsage, match=rf"{name} wants .*; the model gave y float32\[4, 3, 2, 2\] for targets text\[4\]"
    ):
        of(name).of({"y": images}, words)


@pytest.mark.parametrize(("name", "outputs"), [("r2", NEAR), ("spearman", NEAR)])
def test_equal_targets_are_said(name: str, outputs: np.ndarray) -> None:
    with pytest.raises(BadUsage, match="is nan: it is not defined"):
        of(name).of(outputs, np.ones_like(outputs))


def test_labels_out_of_range_are_said() -> None:
    for name in ("top1", "top5", "f1"):
        with pytest.raises(BadUsage, match="The labels go from 0 to 9, the model scores 7 classes"):
            of(name).of(SCORES, np.arange(200) % 10)


def test_nan_is_never_right() -> None:
    scores, labels = np.eye(7)[LABELS], LABELS
    scores[:20, 6] = np.nan
    assert of("top1").of(scores, labels) == of("top5").of(scores, labels) == pytest.approx(0.9)
    assert of("f1").of(scores, labels) == pytest.approx(
        sklearn.f1_score(labels, np.where(np.arange(200) < 20, 99, labels), labels=range(7), average="macro")
    )


def test_parts_come_to_what_the_whole_does() -> None:
    found, true = made()
    cases: list[tuple[str, np.ndarray, np.ndarray]] = [
        ("top1", SCORES, LABELS), ("f1", SCORES, LABELS), ("f1", SCORES, FLAGS), ("r2", NEAR, NUMBERS),
        ("rmse", NEAR, NUMBERS), ("map50", found, true), ("f1", TOKEN_SCORES, TOKENS),
    ]  # fmt: skip
    for name, outputs, targets in cases:
        each = of(name)
        parts = [
            each.rows(outputs[start : start + 7], targets[start : start + 7]) for start in range(0, len(targets), 7)
        ]
        assert each.score(metric_file.joined(parts)) == pytest.approx(each.of(outputs, targets)), name


def test_a_scorer_counts_a_sample_as_often_as_it_is_told() -> None:
    found, true = made()
    cases: list[tuple[str, np.ndarray, np.ndarray]] = [
        ("f1", SCORES, LABELS), ("f1", SCORES, FLAGS), ("r2", NEAR, NUMBERS), ("spearman", NEAR, NUMBERS),
        ("map50", found, true), ("iou", LABELS.reshape(50, 2, 2), LABELS[::-1].reshape(50, 2, 2)),
    ]  # fmt: skip
    for name, outputs, targets in cases:
        each, times = of(name), np.random.default_rng(1).integers(3, size=len(targets))
        drawn = np.repeat(np.arange(len(targets)), times)
        expected = each.of(outputs[drawn], targets[drawn])
        assert each.scorer(each.rows(outputs, targets))(times) == pytest.approx(expected), name


def test_tags_of_sentences_of_unequal_length_are_judged_call_by_call() -> None:
    metric = BUILT_IN["top1"]()
    tags = [np.array([0, 1, 1]), np.array([1, 0])]
    scores = [np.eye(2)[[wanted]].transpose(0, 2, 1).astype(np.float32) for wanted in tags]  # (1, K, T)
    rows = [row for one, wanted in zip(scores, tags, strict=True) for row in metric.rows({"tags": one}, [wanted])]
    assert metric.score(rows) == 1.0
