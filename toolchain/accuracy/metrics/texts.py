"""The metric of a transcription: word error rate."""

from collections.abc import Sequence

import numpy as np

from toolchain.accuracy.metrics.metric import Array, Metric, Outputs, Rows, Targets, arrays, misfit, ratios


def wer_metric() -> Metric:
    """Words substituted, deleted and inserted (Levenshtein 1966) over the words of the targets, of all samples.

    Words of texts ``(N,)`` are what white space parts; of whole numbers ``(N, T)``, tokens, each is a word, and
    negative ones are padding. It may exceed 1.
    """
    return Metric(name="wer", title="word error rate", higher_is_better=False, share=True, rows=_rows, scorer=ratios)


def _rows(outputs: Outputs, targets: Targets) -> Rows:
    """(Edits, words) of each sample."""
    wanted = _words(targets)
    for _, array in arrays(outputs):
        given = _words(array)
        if wanted is not None and given is not None and len(given) == len(wanted):
            return np.array(
                [[edits(one, other), len(one)] for one, other in zip(wanted, given, strict=True)], np.float64
            )
    raise misfit("wer", "texts (N,) or token numbers (N, T)", outputs, targets)


def edits(wanted: Sequence[object], given: Sequence[object]) -> int:
    """The fewest substitutions, deletions and insertions from ``wanted`` to ``given`` (Wagner and Fischer 1974)."""
    numbers = {word: number for number, word in enumerate(dict.fromkeys([*wanted, *given]))}
    one, other = (np.array([numbers[word] for word in side], np.int64) for side in (wanted, given))
    steps = np.arange(len(other) + 1)
    row = steps.copy()
    for word in one:
        best = np.minimum(row[1:] + 1, row[:-1] + (other != word))
        # what comes from the left costs one for each step: a running minimum once the steps are taken off
        row = np.minimum.accumulate(np.concatenate([[row[0] + 1], best]) - steps) + steps
    return int(row[-1])


def _words(given: Targets) -> list[list[object]] | None:
    if isinstance(given, dict):
        return None
    found: list[list[object]] = []
    for each in given:
        array: Array = np.asarray(each)
        if array.dtype.kind in "US" or isinstance(each, (str, bytes)):
            found.append([word for text in array.reshape(-1).tolist() for word in _decoded(text).split()])
        elif array.dtype.kind in "iu" and array.ndim == 1:
            found.append([token for token in array.tolist() if token >= 0])
        else:
            return None
    return found


def _decoded(text: str | bytes) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text
