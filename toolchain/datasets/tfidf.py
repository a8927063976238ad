"""Sentences -> TF-IDF vectors, fitted by scikit-learn, applied and stored without it."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_TOKEN = r"\S+"  # the sentences come tokenized, and "!" or "n't" say much about a sentiment


@dataclass(frozen=True)
class Tfidf:
    """``vocabulary`` maps a token to its column, ``idf`` holds the column's inverse document frequency ``(F,)``."""

    vocabulary: dict[str, int]
    idf: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, sentences: Sequence[str], *, features: int) -> "Tfidf":
        """Keep the ``features`` most frequent tokens; idf = ln((1 + n) / (1 + df)) + 1, as scikit-learn has it."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        fitted = TfidfVectorizer(max_features=features, token_pattern=_TOKEN).fit(sentences)
        vocabulary = {str(token): int(column) for token, column in fitted.vocabulary_.items()}
        # fewer tokens than columns: the rest are never set
        idf = np.ones(features, np.float32)
        idf[: len(fitted.idf_)] = fitted.idf_
        return cls(dict(sorted(vocabulary.items())), idf)

    def transform(self, sentences: Sequence[str]) -> npt.NDArray[np.float32]:
        """Count, weigh by idf, and scale each row to length 1: ``(len(sentences), F)`` float32."""
        rows = np.zeros((len(sentences), len(self.idf)), np.float32)
        for row, sentence in zip(rows, sentences, strict=True):
            for token, count in Counter(re.findall(_TOKEN, sentence.lower())).items():
                column = self.vocabulary.get(token)
                if column is not None:
                    row[column] = count * self.idf[column]
            length = float(np.linalg.norm(row))
            if length:
                row /= length
        return rows

    def as_data(self) -> dict[str, Any]:
        """All that it takes to do the same elsewhere, as JSON holds it."""
        return {
            "kind": "tfidf",
            "tokenizer": {"pattern": _TOKEN, "lowercase": True, "ngrams": [1, 1]},
            "vocabulary": self.vocabulary,
            "idf": [float(value) for value in self.idf],
            "sublinear": False,
            "norm": "l2",
        }

    @classmethod
    def of_data(cls, content: Mapping[str, Any]) -> "Tfidf":
        """What :meth:`as_data` gave."""
        return cls(dict(content["vocabulary"]), np.array(content["idf"], np.float32))
