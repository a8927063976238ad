"""What transformers' own exporter changes while a model of its is captured: patches, repaired nodes, translations.

They make models capturable that are not as they stand: experts chosen by values, masks made in loops, operators without
a translation. Some only come near to what they replace, so what comes of them is proven like any other file. The
interface is private to transformers: it is asked for by name, and left out where it is not.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import torch

from exporters import transformers_recurrences


def concerns(module: torch.nn.Module) -> bool:
    """Whether a layer of ``module`` comes from a transformers that has exporters."""
    names = {type(layer).__module__.partition(".")[0] for layer in module.modules()}
    return "transformers" in names and importlib.util.find_spec("transformers.exporters") is not None


def translated(
    module: torch.nn.Module,
    export: Callable[[], torch.export.ExportedProgram],
    to_onnx: Callable[..., Any],
) -> Any:
    """The ONNX program of ``module`` that ``export`` captures and ``to_onnx`` translates, both under the patches."""
    from transformers.exporters import exporter_dynamo, exporter_onnx, utils

    with utils.apply_patches("onnx"):
        with (
            torch.no_grad(), utils.apply_patches("dynamo"), exporter_dynamo.reset_model_state(module),
            transformers_recurrences.as_scans(module),
        ):  # fmt: skip
            program = export()
        utils.apply_fx_node_fixes("onnx", program.graph_module)
        made = to_onnx(program, custom_translation_table=exporter_onnx._ONNX_TRANSLATION_TABLE)
    if made is not None:
        exporter_onnx.apply_onnx_ir_fixes(made)
    return made
