"""Do a model and its data fit each other? Seen before the first step, from two samples and all labels."""

import torch

from exporters.errors import in_words
from exporters.torch_module import isolated
from toolchain.datasets.dataset import Dataset
from toolchain.errors import BadUsage

_ONE_LABEL = "Training here is for one class of several a sample: return scores (N, K), label with 0 to K-1."


def require_fit(model: torch.nn.Module, data: Dataset, device: str) -> None:
    """Raise BadUsage unless ``model`` gives a score for each class that the labels name; ``model`` is left as it is."""
    rows = min(2, len(data.validation))
    inputs = data.scale(torch.from_numpy(data.validation.inputs[:rows]).to(device))
    try:
        with torch.random.fork_rng(), torch.inference_mode():
            scores = isolated(model)(inputs)
    except Exception as error:
        kind = str(inputs.dtype).removeprefix("torch.")
        raise BadUsage(
            f"The recipe's model does not run on its data, {kind}{list(inputs.shape)}: {in_words(error)}.",
            "Store what forward() takes: whole numbers stay whole, unless the Dataset has a scale.",
        ) from error
    if not isinstance(scores, torch.Tensor):
        raise BadUsage(f"The recipe's model returns a {type(scores).__name__}.", _ONE_LABEL)
    if scores.ndim != 2 or len(scores) != rows or scores.shape[1] < 2:
        raise BadUsage(f"The recipe's model returns {list(scores.shape)} for {rows} samples.", _ONE_LABEL)
    for name in ("train", "validation", "test"):
        largest = int(getattr(data, name).labels.max())
        if largest >= scores.shape[1]:
            raise BadUsage(
                f"The {name} split has the label {largest}, and the model scores {scores.shape[1]} classes.",
                f"Number the classes from 0 to {scores.shape[1] - 1}, or let the model score more.",
            )
