"""Run by a Python that has tritonclient, which is not that of the tests: NVIDIA's client asks, and checks what it gets.

Whoever speaks the protocol may answer: `nnx serve`, or Triton itself (`make triton`).

python by_tritonclient.py infer HOST:PORT PACKAGE     every golden call, in JSON and bytes, packed and not, and at once
python by_tritonclient.py config CONFIG.PBTXT         the file by Triton's own protobuf definition, as JSON
"""

import itertools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_MOST_S = 100.0


def golden_calls(package: Path, variant: str) -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
    described = json.loads((package / "nnx" / "golden.json").read_text())
    content = (package / "nnx" / "golden.bin").read_bytes()

    def arrays(entries: list[dict[str, Any]]) -> dict[str, Array]:
        return {
            each["name"]: np.frombuffer(
                content, each["dtype"], int(np.prod(each["shape"], dtype=np.int64)), each["offset"]
            ).reshape(each["shape"])
            for each in entries
        }

    for case in described["cases"]:
        yield arrays(case["inputs"]), arrays(case["outputs"][variant])


def say_where_it_waits() -> None:
    """Where it hangs, end and say at what: it waits in greenlets, which no debugger shows."""
    import gevent
    from gevent.util import print_run_info

    def end() -> None:
        print_run_info(file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)

    gevent.spawn_later(_MOST_S, end)


def infer(address: str, package: Path, exact: bool) -> dict[str, Any]:
    """How many answers there were, and the largest difference from the golden ones."""
    say_where_it_waits()
    import tritonclient.http as http
    from tritonclient.utils import InferenceServerException, np_to_triton_dtype

    told = json.loads((package / "nnx" / "package.json").read_text())
    name = told["name"]
    calls = list(golden_calls(package, told["variants"][0]["name"]))
    client = http.InferenceServerClient(address, concurrency=8)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(name)
    metadata = client.get_model_metadata(name)
    version = metadata["versions"][0]
    assert client.is_model_ready(name, version)
    told_of_inputs = {each["name"]: each for each in metadata["inputs"]}

    def is_half(array: Array) -> bool:
        """Triton and its client have these as bytes alone."""
        return bool(array.dtype == np.float16)

    def inputs(feeds: dict[str, Array], binary: bool) -> list[Any]:
        made = []
        for each, array in feeds.items():
            assert told_of_inputs[each]["datatype"] == np_to_triton_dtype(array.dtype)
            made.append(http.InferInput(each, list(array.shape), np_to_triton_dtype(array.dtype)))
            made[-1].set_data_from_numpy(array, binary_data=binary or is_half(array))
        return made

    answers, largest = 0, 0.0

    def judge(result: Any, want: dict[str, Array], names: list[str]) -> None:
        nonlocal answers, largest
        for each in names:
            got = result.as_numpy(each)
            assert got.dtype == want[each].dtype, (each, got.dtype)
            assert got.shape == want[each].shape, (each, got.shape)
            if exact:
                assert got.tobytes() == want[each].tobytes(), each
            off = np.abs(got.astype(np.float64) - want[each].astype(np.float64))
            largest = max(largest, float(off.max(initial=0)))
        answers += 1

    packings = (None, "gzip", "deflate")
    for (feeds, want), binary, packing in itertools.product(calls, (True, False), packings):
        names = list(want)
        wanted = [http.InferRequestedOutput(each, binary_data=binary or is_half(want[each])) for each in names]
        for outputs, asked in ((None, names), (wanted, names), (wanted[-1:], names[-1:])):
            result = client.infer(
                name, inputs(feeds, binary), outputs=outputs, request_id="a", model_version=version,
                request_compression_algorithm=packing, response_compression_algorithm=packing,
            )  # fmt: skip
            assert result.get_response()["id"] == "a"
            judge(result, want, asked)
    for _ in range(10):
        pending = [(client.async_infer(name, inputs(feeds, True)), want) for feeds, want in calls for _ in range(4)]
        for asked_for, want in pending:
            judge(asked_for.get_result(), want, list(want))
    refused = []
    feeds = calls[0][0]
    wrong: list[dict[str, Any]] = [
        {"model_name": "other"},
        {"model_version": "7"},
        {"inputs": inputs(feeds, True)[:-1]},
        {"outputs": [http.InferRequestedOutput("other")]},
        {"priority": 1},
    ]
    for changed in wrong:
        try:
            client.infer(**({"model_name": name, "inputs": inputs(feeds, True)} | changed))
        except InferenceServerException as error:
            refused.append(error.message())
    extensions = client.get_server_metadata()["extensions"]
    return {"answers": answers, "largest": largest, "refused": refused, "extensions": extensions}


def config(path: Path) -> Any:
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2

    return json_format.MessageToDict(
        text_format.Parse(path.read_text(), model_config_pb2.ModelConfig()), preserving_proto_field_name=True
    )


if __name__ == "__main__":
    if sys.argv[1] == "config":
        said = config(Path(sys.argv[2]))
    else:
        said = infer(sys.argv[2], Path(sys.argv[3]), exact="--exact" in sys.argv)
    sys.stdout.write(json.dumps(said) + "\n")
