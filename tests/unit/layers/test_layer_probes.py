"""The graphs that layers are looked at with."""

import onnx
import onnxruntime

from toolchain.layers.graph import Wiring, layers_of
from toolchain.layers.probes import cut_apart


def test_several_nodes_of_a_layer_may_have_no_name() -> None:
    """A prefix alone would be the same name twice, which onnxruntime refuses."""
    model = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["": 18]>
        g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1.0, 2.0, 3.0, 4.0}> { a = MatMul(x, w) y = Relu(a) }
    """)
    wiring = Wiring(model)
    layers = layers_of(wiring, anchors=["y"], types={"y": "float32"})
    assert [len(layer.nodes) for layer in layers] == [2]
    apart = cut_apart(wiring, layers, types={"x": "float32"}, ranks={"x": 2})
    assert [node.name for node in apart.graph.node] == ["", ""]
    onnxruntime.InferenceSession(apart.SerializeToString(), providers=["CPUExecutionProvider"])
