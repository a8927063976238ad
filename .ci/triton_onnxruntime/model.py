"""Stands in for Triton's backend `onnxruntime`, which nobody publishes as a package: the same engine, from its wheel.

Triton runs it in the Python backend, on a repository that names the backend `onnxruntime` and is not changed for it.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [os.environ["NNX_TRITON_SITE"]]
import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import triton_python_backend_utils as triton  # noqa: E402


class TritonPythonModel:
    """Triton's name for it."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        return config

    def initialize(self, arguments: dict[str, str]) -> None:
        config = json.loads(arguments["model_config"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(config["parameters"]["intra_op_thread_count"]["string_value"])
        path = Path(arguments["model_repository"], arguments["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.batched = config["max_batch_size"] > 0

    def execute(self, requests: list[Any]) -> list[Any]:
        names = [each.name for each in self.session.get_inputs()]
        calls = [{name: triton.get_input_tensor_by_name(each, name).as_numpy() for name in names} for each in requests]
        with Path(os.environ["NNX_TRITON_LOG"]).open("a") as log:
            log.write(json.dumps([{name: array.tolist() for name, array in call.items()} for call in calls]) + "\n")
        if not self.batched:
            return [self.answer(self.session.run(None, call)) for call in calls]
        ends = np.cumsum([len(call[names[0]]) for call in calls])
        outputs = self.session.run(None, {name: np.concatenate([call[name] for call in calls]) for name in names})
        parts = zip(*(np.split(output, ends[:-1]) for output in outputs), strict=True)
        return [self.answer(part) for part in parts]

    def answer(self, outputs: Any) -> Any:
        names = [each.name for each in self.session.get_outputs()]
        return triton.InferenceResponse(
            [triton.Tensor(name, np.ascontiguousarray(each)) for name, each in zip(names, outputs, strict=True)]
        )
