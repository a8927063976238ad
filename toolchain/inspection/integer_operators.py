"""Operators of integers: which one each stands for, and where it reads scales and zero points."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class IntegerOperator:
    """``plain`` is the operator of floats that it stands for, and ``reads`` its inputs in that one's order.

    The inputs that say how others were rounded, scale before zero point: ``weight`` those of the weight, which is
    ``plain``'s input number ``place``, and has a scale for each of its ``blocks``, or for a whole channel; ``result``
    those of the result; ``others`` of the rest. A ``rounded_bias`` is stored at the product of two other scales.
    """

    plain: str
    reads: tuple[int, ...]
    weight: tuple[int, ...] = ()
    result: tuple[int, ...] = ()
    others: tuple[int, ...] = ()
    place: int = 1
    blocks: bool = False
    rounded_bias: bool = False

    @property
    def scales(self) -> tuple[int, ...]:
        """All of them."""
        return (*self.weight, *self.result, *self.others)

    @property
    def bias(self) -> tuple[int, ...]:
        """The input with a rounded bias, if it has one."""
        return self.reads[2:3] if self.rounded_bias else ()


INTEGER_OPERATORS: Mapping[str, IntegerOperator] = {
    "QLinearConv": IntegerOperator("Conv", (0, 3, 8), (4, 5), (6, 7), (1, 2), rounded_bias=True),
    "QLinearMatMul": IntegerOperator("MatMul", (0, 3), (4, 5), (6, 7), (1, 2)),
    "QGemm": IntegerOperator("Gemm", (0, 3, 6), (4, 5), (7, 8), (1, 2), rounded_bias=True),
    "MatMulInteger": IntegerOperator("MatMul", (0, 1), others=(2, 3)),
    "ConvInteger": IntegerOperator("Conv", (0, 1), others=(2, 3)),
    "MatMulNBits": IntegerOperator("MatMul", (0, 1, 5), (2, 3, 4), blocks=True),
    "DynamicQuantizeMatMul": IntegerOperator("MatMul", (0, 1, 4), (2, 3)),
    "MatMulIntegerToFloat": IntegerOperator("MatMul", (0, 1, 6), (3, 5), others=(2, 4)),
    "DynamicQuantizeLSTM": IntegerOperator("LSTM", tuple(range(8)), others=(8, 9, 10, 11)),
    "GatherBlockQuantized": IntegerOperator("Gather", (0, 1), (2, 3), place=0, blocks=True),
    "QLinearAdd": IntegerOperator("Add", (0, 3), result=(6, 7), others=(1, 2, 4, 5)),
    "QLinearMul": IntegerOperator("Mul", (0, 3), result=(6, 7), others=(1, 2, 4, 5)),
    "QLinearSigmoid": IntegerOperator("Sigmoid", (0,), result=(3, 4), others=(1, 2)),
    "QLinearLeakyRelu": IntegerOperator("LeakyRelu", (0,), result=(3, 4), others=(1, 2)),
    "QLinearAveragePool": IntegerOperator("AveragePool", (0,), result=(3, 4), others=(1, 2)),
    "QLinearGlobalAveragePool": IntegerOperator("GlobalAveragePool", (0,), result=(3, 4), others=(1, 2)),
    "QLinearSoftmax": IntegerOperator("Softmax", (0,), result=(3, 4), others=(1, 2)),
}
