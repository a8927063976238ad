"""Requests and answers of the Open Inference Protocol, version 2, over HTTP, with its extension for binary data.

https://github.com/kserve/open-inference-protocol, and binary_tensor_data of the same repository. Pure functions: bytes
of a body to values, and values to the bytes of a body.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolchain import strict_json
from toolchain.serving import tensors
from toolchain.serving.refusal import Refusal
from toolchain.serving.tensors import DATATYPES, Array
from toolchain.shipping.package import Tensor

HEADER_LENGTH = "inference-header-content-length"
"""The header of HTTP that says how much of a body is JSON, before the bytes of tensors."""


@dataclass(frozen=True, kw_only=True)
class Interface:
    """What a model is called and takes; its dtypes are keys of :data:`DATATYPES`."""

    name: str
    version: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Request:
    """``feeds`` for the model; ``outputs`` that are wanted, each with whether as bytes; ``id`` to be given back."""

    feeds: Mapping[str, Array]
    outputs: Mapping[str, bool]
    id: str | None = None


@dataclass(frozen=True)
class Body:
    """The bytes of an answer; ``header_length`` of them are JSON, None where all are."""

    content: bytes
    header_length: int | None = None


def read(body: bytes, header_length: int | None, interface: Interface) -> Request:
    """What ``body`` asks of the model; raise Refusal for what is no such request."""
    if header_length is not None and not 0 <= header_length <= len(body):
        raise Refusal(400, f"{HEADER_LENGTH} says {header_length}, and the body has {len(body)} bytes.")
    document = _parsed(body if header_length is None else body[:header_length])
    binary = memoryview(body)[len(body) if header_length is None else header_length :]
    identity = document.get("id")
    if identity is not None and type(identity) is not str:
        raise Refusal(400, "The id is no text.")
    parameters = _parameters(document, "the request", {"binary_data_output"})
    return Request(
        feeds=_feeds(_objects(document, "inputs"), binary, interface),
        outputs=_outputs(document, interface, parameters.get("binary_data_output", False)),
        id=identity,
    )


def written(request: Request, outputs: Mapping[str, Array], interface: Interface) -> Body:
    """The answer to ``request``: of all ``outputs`` those that it wants, in its order.

    Raises Refusal for numbers that JSON cannot hold.
    """
    told, appended = [], []
    for name, as_bytes in request.outputs.items():
        array = outputs[name]
        entry: dict[str, Any] = {"name": name, "datatype": DATATYPES[array.dtype.name], "shape": list(array.shape)}
        if as_bytes:
            appended.append(tensors.to_bytes(array))
            entry["parameters"] = {"binary_data_size": len(appended[-1])}
        else:
            entry["data"] = tensors.to_list(name, array)
        told.append(entry)
    document = {"model_name": interface.name, "model_version": interface.version, "outputs": told}
    if request.id is not None:
        document["id"] = request.id
    header = as_json(document)
    return Body(b"".join([header, *appended]), len(header)) if appended else Body(header)


def metadata(interface: Interface) -> dict[str, Any]:
    """What the protocol tells of a model; -1 is an axis of any length."""
    return {
        "name": interface.name,
        "versions": [interface.version],
        "platform": "onnxruntime_onnx",
        "inputs": [_described(tensor) for tensor in interface.inputs.values()],
        "outputs": [_described(tensor) for tensor in interface.outputs.values()],
    }


def as_json(document: Any) -> bytes:
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()


def _described(tensor: Tensor) -> dict[str, Any]:
    shape = [axis if isinstance(axis, int) else -1 for axis in tensor.shape]
    return {"name": tensor.name, "datatype": DATATYPES[tensor.dtype], "shape": shape}


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        document = strict_json.parsed(content.decode())
    except UnicodeDecodeError as error:
        raise Refusal(400, "The request is not UTF-8.") from error
    except json.JSONDecodeError as error:
        raise Refusal(400, f"The request is no JSON (line {error.lineno}, column {error.colno}).") from error
    except ValueError as error:
        why = str(error) if str(error).startswith("it ") else "it holds a number of too many digits"
        raise Refusal(400, f"The request is no JSON: {why}.") from error
    if type(document) is not dict:
        raise Refusal(400, "The request is no JSON object.")
    return document


def _objects(holder: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    found = holder.get(key)
    if type(found) is not list or not found or any(type(each) is not dict for each in found):
        raise Refusal(400, f"The request has no list '{key}' of objects.")
    for each in found:
        if type(each.get("name")) is not str:
            raise Refusal(400, f"One of the '{key}' has no name.")
    return found


def _parameters(holder: Mapping[str, Any], whose: str, known: set[str]) -> dict[str, Any]:
    """The parameters there; raise Refusal for one that is not ``known``: it would do nothing, in silence."""
    found = holder.get("parameters", {})
    if type(found) is not dict:
        raise Refusal(400, f"The parameters of {whose} are no object.")
    for name, value in found.items():
        if name not in known:
            raise Refusal(400, f"The parameter '{name[:80]}' of {whose} is not known here.")
        if type(value) is not (int if name == "binary_data_size" else bool):
            raise Refusal(400, f"The parameter '{name}' of {whose} is not of its type.")
    return found


def _feeds(given: Sequence[Mapping[str, Any]], binary: memoryview, interface: Interface) -> dict[str, Array]:
    feeds: dict[str, Array] = {}
    taken = 0
    for each in given:
        name = each["name"]
        if name not in interface.inputs or name in feeds:
            why = "is there twice" if name in feeds else f"is none of the model's: {', '.join(interface.inputs)}"
            raise Refusal(400, f"Input '{name[:80]}' {why}.")
        tensor = interface.inputs[name]
        if each.get("datatype") != DATATYPES[tensor.dtype]:
            raise Refusal(400, f"Input '{name}' is {DATATYPES[tensor.dtype]}, not {str(each.get('datatype'))[:40]}.")
        shape = tensors.require_shape(name, each.get("shape"), tensor.shape)
        size = _parameters(each, f"input '{name}'", {"binary_data_size"}).get("binary_data_size")
        if (size is None) == ("data" not in each):
            raise Refusal(400, f"Input '{name}' has neither data nor a binary_data_size, or both.")
        if size is None:
            feeds[name] = tensors.from_list(name, each["data"], tensor.dtype, shape)
        else:
            if not 0 <= size <= len(binary) - taken:
                raise Refusal(400, f"The body holds {len(binary) - taken} bytes for input '{name}', not {size}.")
            feeds[name] = tensors.from_bytes(name, binary[taken : taken + size], tensor.dtype, shape)
            taken += size
    if missing := [name for name in interface.inputs if name not in feeds]:
        raise Refusal(400, f"The request lacks the input '{missing[0]}'.")
    if taken != len(binary):
        raise Refusal(400, f"The body holds {len(binary) - taken} bytes that belong to no input.")
    return {name: feeds[name] for name in interface.inputs}


def _outputs(document: Mapping[str, Any], interface: Interface, as_bytes: bool) -> dict[str, bool]:
    if "outputs" not in document:
        return dict.fromkeys(interface.outputs, as_bytes)
    wanted: dict[str, bool] = {}
    for each in _objects(document, "outputs"):
        name = each["name"]
        if name not in interface.outputs or name in wanted:
            why = "is asked for twice" if name in wanted else f"is none of the model's: {', '.join(interface.outputs)}"
            raise Refusal(400, f"Output '{name[:80]}' {why}.")
        wanted[name] = _parameters(each, f"output '{name}'", {"binary_data"}).get("binary_data", as_bytes)
    return wanted
