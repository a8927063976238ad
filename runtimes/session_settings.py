"""How an ONNX Runtime session is set up for a model; kept inside the model's file, so that it travels with it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import onnxruntime

from runtimes.errors import NotLoadable
from runtimes.model_metadata import metadata_of

KEY = "nnx.session_settings"
"""The entry of the model's ``metadata_props`` that holds the settings as JSON."""
GraphLevel = Literal["all", "extended", "basic", "disabled"]
LEVELS: dict[GraphLevel, str] = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}
"""The names of onnxruntime's ``GraphOptimizationLevel``."""
_ENTRY_OF_LEVEL: dict[GraphLevel, str] = {
    "all": "enable_all",
    "extended": "enable_extended",
    "basic": "enable_basic",
    "disabled": "disable_all",
}
ExecutionMode = Literal["sequential", "parallel"]
MODES: dict[ExecutionMode, str] = {"sequential": "ORT_SEQUENTIAL", "parallel": "ORT_PARALLEL"}
"""The names of onnxruntime's ``ExecutionMode``."""
SPINNING = ("session.intra_op.allow_spinning", "session.inter_op.allow_spinning")
"""The session's configuration entries for it; the second counts where nodes run side by side."""
OPTIMIZERS = (
    "AttentionFusion", "BiasDropoutFusion", "BiasGeluFusion", "BiasSkipLayerNormFusion", "BiasSoftmaxFusion",
    "ConvActivationFusion", "ConvAddActivationFusion", "DynamicQuantizeMatMulFusion", "EmbedLayerNormFusion",
    "FastGeluFusion", "GatherSliceToSplitFusion", "GatherToSliceFusion", "GeluFusionL1", "GeluFusionL2",
    "GemmActivationFusion", "GroupQueryAttentionFusion", "LayerNormFusionL1", "LayerNormFusionL2",
    "MatMulActivationFusion", "MatMulAddFusion", "MatMulIntegerToFloatFusion", "MatMulNBitsFusion",
    "MatMulScaleFusion", "MatmulTransposeFusion", "QuickGeluFusion", "ReshapeFusion", "SimplifiedLayerNormFusion",
    "SkipLayerNormFusion", "TransposeOptimizer",
)  # fmt: skip
"""What can be disabled, as ONNX Runtime's verbose log names it. It ignores any other name in silence, so that a
setting would say one thing and the session do another: they are refused here."""


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """The defaults are ONNX Runtime's own.

    ``execution_mode`` runs nodes one after the other (sequential) or side by side where the graph branches, in as many
    threads more (parallel). ``spinning`` lets idle threads wait busily. Raises NotLoadable for a level, a mode or an
    optimizer that does not exist.
    """

    graph_level: GraphLevel = "all"
    disabled_optimizers: tuple[str, ...] = ()
    memory_pattern: bool = True
    spinning: bool = True
    execution_mode: ExecutionMode = "sequential"

    def __post_init__(self) -> None:
        if self.graph_level not in LEVELS:
            raise NotLoadable(
                f"There is no graph optimization level '{self.graph_level}'.", f"Choose one of {', '.join(LEVELS)}."
            )
        if self.execution_mode not in MODES:
            raise NotLoadable(
                f"There is no execution mode '{self.execution_mode}'.", f"Choose one of {', '.join(MODES)}."
            )
        unknown = sorted(set(self.disabled_optimizers) - set(OPTIMIZERS))
        if unknown:
            raise NotLoadable(
                f"No optimizer of ONNX Runtime is known as {', '.join(unknown)}.",
                f"Choose from {', '.join(OPTIMIZERS)}.",
            )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def options(self, *, threads: int) -> onnxruntime.SessionOptions:
        """What a session is made with, but for ``disabled_optimizers``, which it takes itself."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = threads if self.execution_mode == "parallel" else 1
        options.execution_mode = getattr(onnxruntime.ExecutionMode, MODES[self.execution_mode])
        options.log_severity_level = 4  # what goes wrong is raised too
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[self.graph_level])
        options.enable_mem_pattern = self.memory_pattern
        for entry in self.entries_against_spinning():
            options.add_session_config_entry(entry, "0")
        return options

    def entries_against_spinning(self) -> tuple[str, ...]:
        """The session's configuration entries that are set to 0; none with ``spinning``."""
        if self.spinning:
            return ()
        return SPINNING if self.execution_mode == "parallel" else SPINNING[:1]

    def config_entries(self) -> dict[str, str]:
        """What differs from the defaults as ONNX Runtime's configuration entries: what a model package holds."""
        found = {}
        if self.graph_level != "all":
            found["session.graph_optimization_level"] = _ENTRY_OF_LEVEL[self.graph_level]
        if self.disabled_optimizers:
            found["optimization.disable_specified_optimizers"] = ";".join(self.disabled_optimizers)
        if not self.memory_pattern:
            found["session.enable_mem_pattern"] = "0"
        if self.execution_mode != "sequential":
            found["session.execution_mode"] = self.execution_mode
        return found | dict.fromkeys(self.entries_against_spinning(), "0")

    @classmethod
    def from_json(cls, text: str) -> "SessionSettings":
        """What :meth:`to_json` gave, fields that are missing at their defaults; raise NotLoadable for anything else."""
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict) or not _fits(content):
            raise NotLoadable(
                f"These are not session settings that this nnx knows: {text[:200]}.",
                f"Update nnx, or remove the entry '{KEY}' from the model's metadata.",
            )
        return cls(**{**content, "disabled_optimizers": tuple(content.get("disabled_optimizers", ()))})


def _fits(content: dict[str, object]) -> bool:
    disabled = content.get("disabled_optimizers", [])
    return (
        set(content) <= set(SessionSettings.__dataclass_fields__)
        and all(isinstance(content.get(name, ""), str) for name in ("graph_level", "execution_mode"))
        and isinstance(disabled, list)
        and all(isinstance(name, str) for name in disabled)
        and all(isinstance(content.get(name, True), bool) for name in ("memory_pattern", "spinning"))
    )


def stored_in(path: Path) -> SessionSettings | None:
    """Those kept in the model's file, None where there are none; raise NotLoadable for ones that cannot be read.

    A file that is not there has none: the backend says so better.
    """
    try:
        text = metadata_of(path).get(KEY)
    except OSError:
        return None
    if text is None:
        return None
    try:
        return SessionSettings.from_json(text)
    except NotLoadable as error:
        raise NotLoadable(f"{path} cannot be run as it asks to. {error.what}", error.do) from error


def code(settings: SessionSettings, path: Path, threads: int) -> str:
    """The lines of Python that open the model at ``path`` on the CPU with these settings, without nnx."""
    lines = [
        "import onnxruntime",
        "",
        "options = onnxruntime.SessionOptions()",
        f"options.intra_op_num_threads = {threads}",
    ]
    if settings.graph_level != "all":
        level = LEVELS[settings.graph_level]
        lines.append(f"options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.{level}")
    if settings.execution_mode != "sequential":
        lines.append(f"options.execution_mode = onnxruntime.ExecutionMode.{MODES[settings.execution_mode]}")
        lines.append(f"options.inter_op_num_threads = {threads}")
    if not settings.memory_pattern:
        lines.append("options.enable_mem_pattern = False")
    for entry in settings.entries_against_spinning():
        lines.append(f'options.add_session_config_entry("{entry}", "0")')
    arguments = [repr(str(path)), "options", 'providers=["CPUExecutionProvider"]']
    if settings.disabled_optimizers:
        arguments.append(f"disabled_optimizers={list(settings.disabled_optimizers)}")
    lines.append(f"session = onnxruntime.InferenceSession({', '.join(arguments)})")
    return "\n".join(lines) + "\n"
