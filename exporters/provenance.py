"""Where a model file comes from, kept inside the file: ``metadata_props`` under the prefix ``nnx.``."""

import functools
import importlib.metadata

import onnx

_PREFIX = "nnx."
_TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu")


@functools.cache
def tool_versions(names: tuple[str, ...] = _TOOLS) -> str:
    """The installed versions of libraries, by default of all that shape a model file, as ``name version, ...``."""
    found = []
    for name in names:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def write(model: onnx.ModelProto, facts: dict[str, str]) -> None:
    """Set ``facts`` in ``model``, over what it held under the same names; other entries stay.

    Not so the session settings: they were measured on the file that they are in.
    """
    kept = {prop.key: prop.value for prop in model.metadata_props if prop.key != _PREFIX + "session_settings"}
    kept.update({_PREFIX + name: value for name, value in facts.items()})
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(sorted(kept.items())))


def read(model: onnx.ModelProto) -> dict[str, str]:
    """The facts that :func:`write` put into the file, without their prefix."""
    return {prop.key.removeprefix(_PREFIX): prop.value for prop in model.metadata_props if prop.key.startswith(_PREFIX)}
