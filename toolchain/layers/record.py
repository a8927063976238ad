"""What ``nnx explain`` says of a model and its layers, and its JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from runtimes.node_time import Unfused
from toolchain import strict_json
from toolchain.records import Form

SCHEMA_VERSION = 1
LIMIT_DB = 200.0
"""An SQNR of this much is an exact layer (fp32 rounding lies near 140); minus this is NaN, infinity or no signal."""
FORM = Form(
    name="what `nnx explain --json` writes",
    again="Explain the model again, or remove it.",
    room="toolchain.layers",
    schema="explain.schema.json",
)


@dataclass(frozen=True, kw_only=True)
class LayerError:
    """What one layer does to the result. ``name`` is the node's, ``output`` the tensor that is compared.

    The SQNRs are in dB within +-LIMIT_DB, None where nothing could be compared. ``noise_share``, 0 to 1, is the layer's
    own noise relative to its signal, over the sum of that of all layers. ``precision`` is what ONNX Runtime computes it
    in on this CPU, after its fusions; empty where that is not known.
    """

    name: str
    op_type: str
    output: str
    precision: str
    weight_bytes: int
    own_sqnr_db: float | None = None
    accumulated_sqnr_db: float | None = None
    noise_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class ExplainedLayer(LayerError):
    """A layer's error and its cost at one call. ``runs_as`` is the operator executed after fusion, empty if none was.

    A layer merged into another has that one's name in ``fused_into`` and no time of its own. ``time_share``, 0 to 1, is
    of the time of all nodes.
    """

    runs_as: str = ""
    mean_us: float = 0.0
    time_share: float = 0.0
    fused_into: str | None = None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A whole model, its layers sorted by damage, or by time where there is no reference.

    ``batch`` is that of the times, ``shapes`` what a run is fed with; ``run_us`` is all nodes' time in one run,
    ``conversion_share`` the share of it that no layer takes: Q, DQ, casts, and changes of layout and shape.
    """

    model: str
    precision: str
    reference: str | None
    samples: str
    batch: int
    threads: int
    machine: Mapping[str, Any]
    layers: tuple[ExplainedLayer, ...]
    run_us: float
    conversion_share: float
    unfused: tuple[Unfused, ...]
    advice: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def to_json(self) -> str:
        """What the schema describes."""
        content = {"schema_version": SCHEMA_VERSION, **asdict(self)}
        return json.dumps(strict_json.finite(content), indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Explanation":
        """Read what :meth:`to_json` wrote; raise BadUsage for another version, and for what is not as described."""
        return FORM.read(cls, text)
