"""How many multiply-accumulates one node takes, from the shapes of what it reads and makes.

A rule raises :class:`Unknown` where a length that it needs is not known. Biases, and everything elementwise, count
nothing, as is usual (fvcore, torch.utils.flop_counter counts two operations for each).
"""

import math
import re
from collections.abc import Callable, Mapping

import onnx

from exporters.operators import attribute
from toolchain.inspection.nodes import ONNX_DOMAINS, number
from toolchain.inspection.shapes import Shape, Shapes


class Unknown(Exception):
    """A length that a rule needs is not known."""


class Facts:
    """A node and the shapes around it."""

    def __init__(self, node: onnx.NodeProto, shapes: Shapes) -> None:
        self.node, self._shapes = node, shapes

    def read(self, index: int) -> tuple[int, ...]:
        """The shape of an input; Unknown without one."""
        return self._whole(self.node.input, index)

    def made(self, index: int = 0) -> tuple[int, ...]:
        """The shape of an output."""
        return self._whole(self.node.output, index)

    def has(self, index: int) -> bool:
        return len(self.node.input) > index and bool(self.node.input[index])

    def _whole(self, names: "list[str]", index: int) -> tuple[int, ...]:
        shape: Shape | None = self._shapes.of(names[index]) if len(names) > index else None
        if shape is None or any(axis is None for axis in shape):
            raise Unknown
        return tuple(axis for axis in shape if axis is not None)


Rule = Callable[[Facts], int]


def _conv(weight: int) -> Rule:
    """Each output value takes a kernel of the input channels in its group; ``weight`` is where that stands."""
    return lambda facts: math.prod(facts.made()) * math.prod(facts.read(weight)[1:])


def _conv_transpose(facts: Facts) -> int:
    return math.prod(facts.read(0)) * math.prod(facts.read(1)[1:])


def _causal_conv(facts: Facts) -> int:
    """Each channel on its own, and as many values come out as go in."""
    return math.prod(facts.read(0)) * math.prod(facts.read(1)[1:])


def _matmul(left: int, right: int) -> Rule:
    def rule(facts: Facts) -> int:
        a, b = facts.read(left), facts.read(right)
        if not a or not b:
            raise Unknown
        try:
            return math.prod(facts.made()) * a[-1]
        except Unknown:
            if facts.node.op_type == "MatMul" and len(b) == 2:
                return math.prod(a) * b[-1]
            raise

    return rule


def _fused_matmul(facts: Facts) -> int:
    a = facts.read(0)
    if number(facts.node, "transBatchA", 0) or number(facts.node, "transBatchB", 0) or len(a) < 2:
        raise Unknown
    return math.prod(facts.made()) * (a[-2] if number(facts.node, "transA", 0) else a[-1])


def _gemm(left: int, right: int) -> Rule:
    def rule(facts: Facts) -> int:
        a, b = facts.read(left), facts.read(right)
        rows, depth = (a[1], a[0]) if number(facts.node, "transA", 0) else a
        return rows * depth * (b[0] if number(facts.node, "transB", 0) else b[1])

    return rule


def _n_bits(facts: Facts) -> int:
    return math.prod(facts.read(0)) * number(facts.node, "N", 0)


def _einsum(facts: Facts) -> int:
    """The product of all its lengths: that of one loop nest, which for two inputs is what it takes."""
    equation = attribute(facts.node, "equation", b"")
    text = equation.decode() if isinstance(equation, bytes) else ""
    terms = text.replace(" ", "").partition("->")[0].split(",")
    lengths: dict[str, int] = {}
    if len(terms) < 2:
        return 0
    for index, term in enumerate(terms):
        shape = facts.read(index)
        named = re.sub(r"\.\.\.", "", term)
        dots = len(shape) - len(named)
        place = term.find("...")
        labels = list(named)
        if place >= 0:
            labels[place:place] = [f".{dots - each}" for each in range(dots)]
        if len(labels) != len(shape):
            raise Unknown
        for label, length in zip(labels, shape, strict=True):
            lengths[label] = max(lengths.get(label, 1), length)
    return math.prod(lengths.values())


def _recurrent(gates: int) -> Rule:
    def rule(facts: Facts) -> int:
        steps, batch, width = facts.read(0)
        directions = facts.read(1)[0]
        hidden = number(facts.node, "hidden_size", 0) or facts.read(2)[-1]
        return steps * batch * directions * gates * hidden * (width + hidden)

    return rule


def _attention(facts: Facts) -> int:
    """ONNX's own since opset 23: query by key, weights by value; a mask saves nothing."""
    query, key, value = facts.read(0), facts.read(1), facts.read(2)
    if len(query) == 3:
        heads, kv_heads = number(facts.node, "q_num_heads", 0), number(facts.node, "kv_num_heads", 0)
        if not heads or not kv_heads:
            raise Unknown
        batch, rows, width = query
        keys, depth, out = key[1], width // heads, value[2] // kv_heads
    else:
        batch, heads, rows, depth = query
        keys, out = key[2], value[3]
    past = facts.read(4)[2] if facts.has(4) else 0
    return batch * heads * rows * (keys + past) * (depth + out)


def _contrib_attention(facts: Facts) -> int:
    """com.microsoft.Attention and QAttention: the three projections too; the past is (2, batch, heads, past, depth)."""
    batch, rows, width = facts.read(0)
    past = 8 if facts.node.op_type == "QAttention" else 4
    keys = rows + (facts.read(past)[3] if facts.has(past) else 0)
    if number(facts.node, "past_present_share_buffer", 0):
        raise Unknown  # then it is as long as what it may hold
    outs = attribute(facts.node, "qkv_hidden_sizes")
    total = facts.read(1)[1]
    each = total // 3
    deep, out = (outs[0], outs[2]) if isinstance(outs, list) and len(outs) == 3 else (each, each)
    return batch * rows * width * total + batch * rows * keys * (deep + out)


def _multi_head(facts: Facts) -> int:
    """Query by key, weights by value, of what is projected already; what is packed is not looked into."""
    query = facts.read(0)
    if not facts.has(1) or not facts.has(2) or len(query) != 3:
        raise Unknown
    key, value = facts.read(1), facts.read(2)
    batch, rows, width = query
    if facts.has(8):
        raise Unknown  # the length of the past is a value, and its tensor as long as what it may hold
    if len(key) == 3:
        past = facts.read(6)[2] if facts.has(6) else 0
        return batch * rows * (key[1] + past) * (width + value[2])
    return batch * rows * key[2] * (width + value[1] * value[3])


def _grouped(facts: Facts) -> int:
    query, key = facts.read(0), facts.read(1)
    heads, groups = number(facts.node, "num_heads", 0), number(facts.node, "kv_num_heads", 0)
    if not heads or not groups or not facts.has(1):
        raise Unknown
    batch, rows, width = query
    past = facts.read(3)[2] if facts.has(3) else 0
    return batch * rows * (key[1] + past) * 2 * width


_ONNX: Mapping[str, Rule] = {
    "Conv": _conv(1),
    "ConvTranspose": _conv_transpose,
    "DeformConv": _conv(1),
    "ConvInteger": _conv(1),
    "QLinearConv": _conv(3),
    "MatMul": _matmul(0, 1),
    "MatMulInteger": _matmul(0, 1),
    "QLinearMatMul": _matmul(0, 3),
    "Gemm": _gemm(0, 1),
    "Einsum": _einsum,
    "LSTM": _recurrent(4),
    "GRU": _recurrent(3),
    "RNN": _recurrent(1),
    "Attention": _attention,
    "CausalConvWithState": _causal_conv,
}
_CONTRIB: Mapping[str, Rule] = {
    "FusedConv": _conv(1),
    "CausalConvWithState": _causal_conv,
    "NhwcFusedConv": _conv(1),
    "NhwcConv": _conv(1),
    "QLinearConv": _conv(3),
    "FusedMatMul": _fused_matmul,
    "TransposeMatMul": _fused_matmul,
    "FusedGemm": _gemm(0, 1),
    "QGemm": _gemm(0, 3),
    "DynamicQuantizeMatMul": _matmul(0, 1),
    "MatMulIntegerToFloat": _matmul(0, 1),
    "MatMulNBits": _n_bits,
    "DynamicQuantizeLSTM": _recurrent(4),
    "Attention": _contrib_attention,
    "QAttention": _contrib_attention,
    "MultiHeadAttention": _multi_head,
    "GroupQueryAttention": _grouped,
}
_WITHOUT = frozenset({
    "Gelu", "FastGelu", "BiasGelu", "QuickGelu", "BiasAdd", "BiasSoftmax", "BiasDropout", "BiasSplitGelu",
    "LayerNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization", "GroupNorm", "SkipGroupNorm",
    "SkipSimplifiedLayerNormalization", "EmbedLayerNormalization", "RotaryEmbedding", "QuantizeLinear",
    "DequantizeLinear", "QLinearAdd", "QLinearMul", "QLinearConcat", "QLinearSigmoid", "QLinearLeakyRelu",
    "QLinearSoftmax", "QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearWhere", "QLinearReduceMean",
    "NhwcMaxPool", "GatherBlockQuantized", "GatherND", "Trilu", "Unique", "ExpandDims", "Pad", "Range",
    "CropAndResize", "Inverse", "NGramRepeatBlock", "Tokenizer", "ZipMap", "Scaler", "LabelEncoder", "Normalizer",
    "ArrayFeatureExtractor", "Binarizer", "CastMap", "CategoryMapper", "DictVectorizer", "FeatureVectorizer",
    "Imputer", "OneHotEncoder",
})  # fmt: skip
"""Operators of ONNX Runtime and of ONNX's second domain that multiply element by element at most."""
_OTHERS = {"DFT", "STFT", "LinearAttention"}
"""ONNX's operators that multiply and that no rule counts."""
COUNTED = tuple(_ONNX)


def rule_of(node: onnx.NodeProto) -> Rule | None:
    """The rule for ``node``; None for what counts nothing and for what nobody has a rule for."""
    if node.domain in ONNX_DOMAINS:
        return _ONNX.get(node.op_type)
    return _CONTRIB.get(node.op_type) if node.domain == "com.microsoft" else None


def may_multiply(node: onnx.NodeProto) -> bool:
    """Whether ``node``, which has no rule, may do work that would count."""
    if node.domain in ONNX_DOMAINS:
        return node.op_type in _OTHERS
    return node.op_type not in _WITHOUT or node.domain not in ("com.microsoft", "ai.onnx.ml")
