"""Several labels for each sample, or none: the topics of texts by the words in them.

nnx run examples/multilabel_recipe.py:recipe
"""

import numpy as np
import torch.nn.functional as F
from torch import nn

from toolchain.recipe import Dataset, Made, Recipe, adam

TOPICS = ("politics", "science", "sport", "music", "travel")


def texts() -> Dataset:
    """1,500 made-up texts: inputs ``(N, 60)`` counts of words, targets ``(N, 5)`` of 0 and 1."""
    from sklearn.datasets import make_multilabel_classification

    words, topics = make_multilabel_classification(
        1500, n_features=60, n_classes=len(TOPICS), n_labels=2, length=80, random_state=0
    )
    return Dataset.shuffled(words.astype(np.float32), topics.astype(np.float32), classes=TOPICS, standardize=True)


recipe = Recipe(
    name="topics",
    model=lambda: nn.Sequential(nn.Linear(60, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, len(TOPICS))),
    data=lambda folder: Made("make_multilabel_classification, seed 0", texts),
    epochs=20,
    batch_size=64,
    lr=3e-3,
    optimizer=adam,
    loss=F.binary_cross_entropy_with_logits,
    metric="f1",
    input_name="words",
    output_name="topics",
)
