"""Models broken at the level of protobuf fields, with fixed seeds, through four commands each."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import EncodeError
from onnx import TensorProto

from benchmarks.hard import verdicts
from benchmarks.hard.base_models import BASES
from benchmarks.hard.runs import Place, watched
from benchmarks.hard.verdicts import Verdict

PART = "mutated models"
COUNT = 500
COMMANDS = {
    "static": ("quantize", "model.onnx", "--int8", "--calibration", "calib.npz", "--no-time"),
    "dynamic": ("quantize", "model.onnx", "--int8", "--mode", "dynamic", "--no-time"),
    "fp16": ("convert", "model.onnx", "--fp16"),
    "explain": ("explain", "model.onnx", "--threads", "1"),
}
_ODD_SIZES = (0, -1, 1, 2, 7, 1 << 20, 1 << 31, 1 << 40, 1 << 62, -(1 << 63), (1 << 63) - 1)
_ODD_NAMES = ("", "x", "y", "\x1b[31mred", "a/b", "../up", "n" * 100_000, "näme", "x_scale", "é\n|")
_MESSAGE, _REPEATED_LIMIT = 11, 64

Mutation = Callable[[onnx.ModelProto, random.Random], None]


def _some(items: Sequence[object], draw: random.Random) -> int | None:
    return draw.randrange(len(items)) if items else None


def drop_node(model: onnx.ModelProto, draw: random.Random) -> None:
    del model.graph.node[draw.randrange(len(model.graph.node))]


def repeat_node(model: onnx.ModelProto, draw: random.Random) -> None:
    model.graph.node.add().CopyFrom(draw.choice(model.graph.node))


def shuffle_nodes(model: onnx.ModelProto, draw: random.Random) -> None:
    nodes = draw.sample(list(model.graph.node), len(model.graph.node))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def rename_operator(model: onnx.ModelProto, draw: random.Random) -> None:
    node = draw.choice(model.graph.node)
    node.op_type = draw.choice(
        ["Relu", "MatMul", "Conv", "Loop", "If", "NoSuchThing", "QLinearConv", "Identity", *_ODD_NAMES]
    )


def change_domain(model: onnx.ModelProto, draw: random.Random) -> None:
    draw.choice(model.graph.node).domain = draw.choice(["com.microsoft", "ai.onnx.ml", "mine", "ai.onnx", "\x00"])


def rewire(model: onnx.ModelProto, draw: random.Random) -> None:
    """One input or output of a node becomes another name, or one fewer, or one more."""
    node = draw.choice(model.graph.node)
    names = draw.choice([node.input, node.output])
    known = [name for each in model.graph.node for name in (*each.input, *each.output)]
    where = _some(names, draw)
    if where is None or draw.random() < 0.2:
        names.append(draw.choice(known))
    elif draw.random() < 0.25:
        del names[where]
    else:
        names[where] = draw.choice([*known, *_ODD_NAMES])


def drop_initializer(model: onnx.ModelProto, draw: random.Random) -> None:
    if (where := _some(model.graph.initializer, draw)) is not None:
        del model.graph.initializer[where]


def repeat_initializer(model: onnx.ModelProto, draw: random.Random) -> None:
    if model.graph.initializer:
        model.graph.initializer.add().CopyFrom(draw.choice(model.graph.initializer))


def odd_dims(model: onnx.ModelProto, draw: random.Random) -> None:
    tensor = draw.choice(model.graph.initializer)
    if tensor.dims and draw.random() < 0.7:
        tensor.dims[draw.randrange(len(tensor.dims))] = draw.choice(_ODD_SIZES)
    else:
        tensor.dims.append(draw.choice(_ODD_SIZES))


def odd_dtype(model: onnx.ModelProto, draw: random.Random) -> None:
    draw.choice(model.graph.initializer).data_type = draw.choice([*range(26), 99, -1])


def cut_data(model: onnx.ModelProto, draw: random.Random) -> None:
    tensor = draw.choice(model.graph.initializer)
    tensor.raw_data = tensor.raw_data[: draw.randrange(len(tensor.raw_data) + 1)] + draw.randbytes(
        draw.choice([0, 0, 3])
    )


def odd_values(model: onnx.ModelProto, draw: random.Random) -> None:
    """NaN, infinities, huge and tiny weights."""
    tensor = draw.choice(model.graph.initializer)
    if tensor.data_type == TensorProto.FLOAT and tensor.raw_data:
        values = np.frombuffer(tensor.raw_data, np.float32).copy()
        values[draw.randrange(values.size) :: draw.choice([1, 3, 10**6])] = draw.choice(
            [np.nan, np.inf, -np.inf, 3e38, 1e-42, 0]
        )
        tensor.raw_data = values.tobytes()
    elif tensor.raw_data:
        tensor.raw_data = draw.randbytes(len(tensor.raw_data))


def odd_input(model: onnx.ModelProto, draw: random.Random) -> None:
    value = draw.choice([*model.graph.input, *model.graph.output])
    what = draw.randrange(5)
    dims = value.type.tensor_type.shape.dim
    if what == 0:
        value.type.tensor_type.elem_type = draw.choice([*range(26), 99])
    elif what == 1 and dims:
        dims[draw.randrange(len(dims))].dim_value = draw.choice(_ODD_SIZES)
    elif what == 2:
        dims.add().dim_param = draw.choice(_ODD_NAMES)
    elif what == 3:
        value.type.Clear()
    else:
        value.name = draw.choice(_ODD_NAMES)


def change_interface(model: onnx.ModelProto, draw: random.Random) -> None:
    values = draw.choice([model.graph.input, model.graph.output])
    if draw.random() < 0.5 and len(values):
        del values[draw.randrange(len(values))]
    else:
        values.add().CopyFrom(draw.choice([*model.graph.input, *model.graph.output] or [onnx.ValueInfoProto(name="z")]))


def odd_attribute(model: onnx.ModelProto, draw: random.Random) -> None:
    node = draw.choice([node for node in model.graph.node if node.attribute] or model.graph.node)
    if not node.attribute:
        node.attribute.add(name="axis", type=onnx.AttributeProto.INT, i=draw.choice(_ODD_SIZES))
        return
    attribute = draw.choice(node.attribute)
    what = draw.randrange(5)
    if what == 0:
        attribute.type = draw.randrange(15)
    elif what == 1:
        attribute.i = draw.choice(_ODD_SIZES)
        attribute.ints[:] = [draw.choice(_ODD_SIZES) for _ in attribute.ints]
    elif what == 2:
        attribute.ints.extend(draw.choice(_ODD_SIZES) for _ in range(draw.choice([1, 4, 1000])))
    elif what == 3:
        attribute.name = draw.choice(["axis", "pads", "to", *_ODD_NAMES])
    else:
        attribute.Clear()


def cut_subgraph(model: onnx.ModelProto, draw: random.Random) -> None:
    graphs = [a.g for node in model.graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    graph = draw.choice(graphs or [model.graph])
    del draw.choice([graph.node, graph.output, graph.initializer, graph.input])[:]


def odd_versions(model: onnx.ModelProto, draw: random.Random) -> None:
    what = draw.randrange(4)
    if what == 0:
        model.ir_version = draw.choice([0, 1, 3, 4, 13, 14, 99, 1 << 40])
    elif what == 1:
        model.opset_import[0].version = draw.choice([0, 1, 6, 7, 9, 12, 13, 18, 26, 27, 28, 99, 1 << 40, -5])
    elif what == 2:
        model.opset_import.add(domain=draw.choice(["", "com.microsoft", "mine"]), version=draw.choice([1, 9, 99]))
    else:
        del model.opset_import[:]


def external_data(model: onnx.ModelProto, draw: random.Random) -> None:
    """A tensor's data in a file beside the model that is not there, too short, outside, or at an odd place."""
    tensor = draw.choice(model.graph.initializer)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    places = [
        "weights.bin",
        "missing.bin",
        "../outside.bin",
        "/etc/hostname",
        "",
        ".",
        "model.onnx",
        "a\x00b",
        "n" * 5000,
    ]
    entries = {
        "location": draw.choice(places),
        "offset": draw.choice(["0", "-1", "4096", str(1 << 62), "x", "", "1e3"]),
        "length": draw.choice(["16", "-1", "0", str(1 << 62), "x", ""]),
    }
    for key in draw.sample(list(entries), draw.choice([1, 2, 3])):
        tensor.external_data.add(key=key, value=entries[key])


def odd_metadata(model: onnx.ModelProto, draw: random.Random) -> None:
    key = draw.choice(["nnx.provenance", "nnx.precision", "nnx.session", "a", *_ODD_NAMES])
    known = [entry.key for entry in model.metadata_props]
    value = draw.choice(["{", "null", "[" * 100_000, "\x1b]0;title\x07", "{}", '{"precision": 3}'])
    model.metadata_props.add(key=draw.choice([key, *known]), value=value)
    model.metadata_props.add(key=key, value=value)


def add_function(model: onnx.ModelProto, draw: random.Random) -> None:
    """A function in the model that calls itself, or an operator of the graph by its name."""
    name = draw.choice(["Again", draw.choice(model.graph.node).op_type])
    body = [onnx.helper.make_node(name, ["a"], ["b"], domain="mine")]
    domains = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("mine", 1)]
    model.functions.append(onnx.helper.make_function("mine", name, ["a"], ["b"], body, domains))
    model.opset_import.add(domain="mine", version=1)
    node = draw.choice(model.graph.node)
    node.domain, node.op_type = "mine", name


def endless_loop(model: onnx.ModelProto, draw: random.Random) -> None:
    """A Loop of 2**62 turns, or one that counts in memory, in front of the output."""
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["go"], ["go_on"]), onnx.helper.make_node("Identity", ["was"], ["is"])],
        "body",
        [onnx.helper.make_tensor_value_info(n, t, s) for n, t, s in (("turn", 7, []), ("go", 9, []), ("was", 1, None))],
        [onnx.helper.make_tensor_value_info(n, t, s) for n, t, s in (("go_on", 9, []), ("is", 1, None))],
    )  # fmt: skip
    if draw.random() < 0.5:
        body.output.add().CopyFrom(onnx.helper.make_tensor_value_info("is", 1, None))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1 << 62), "turns"))
    last = model.graph.output[0].name
    results = ["looped", "all_of_them"][: len(body.output) - 1]
    model.graph.node.append(onnx.helper.make_node("Loop", ["turns", "", last], results, "endless", body=body))
    model.graph.output.append(onnx.helper.make_tensor_value_info(results[-1], TensorProto.FLOAT, None))


FIELDS: tuple[Mutation, ...] = (
    drop_node, repeat_node, shuffle_nodes, rename_operator, change_domain, rewire, rewire, drop_initializer,
    repeat_initializer, odd_dims, odd_dims, odd_dtype, odd_dtype, cut_data, odd_values, odd_input, odd_input,
    change_interface, odd_attribute, odd_attribute, cut_subgraph, odd_versions, external_data, external_data,
    odd_metadata, add_function, endless_loop,
)  # fmt: skip


def flip_bytes(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice([1, 3, 30])):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def cut_bytes(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))] + draw.randbytes(draw.choice([0, 0, 100]))


def of_seed(seed: int) -> list[Verdict]:
    """One broken model, through each of the commands."""
    draw = random.Random(seed)
    name = draw.choice(list(BASES))
    with Place.new() as place:
        done = watched(lambda: _write(place.here, seed), place)
        assert done[0] == 0, (place.folder / "err").read_text(encoding="utf-8")
        label = f"{seed} {name} {(place.folder / 'out').read_text(encoding='utf-8').strip()}"
        return [_verdict(place, label, mode) for mode in COMMANDS]


def _verdict(place: Place, label: str, mode: str) -> Verdict:
    made = "" if mode == "explain" else f"{mode}.onnx"
    run = place.nnx(*COMMANDS[mode], *(("-o", made) if made else ()), makes=(made,) if made else ())
    return verdicts.of(run, part=PART, name=f"{label} {mode}", made=bool(made) and (place.here / made).exists())


def _write(folder: Path, seed: int) -> int:
    """model.onnx, calib.npz and weights.bin; prints which mutations they went through."""
    draw = random.Random(seed)
    base = BASES[draw.choice(list(BASES))]()
    np.savez(folder / "calib.npz", allow_pickle=False, **base.samples)
    (folder / "weights.bin").write_bytes(bytes(64))
    done = []
    if draw.random() < 0.85:
        for mutation in draw.sample(FIELDS, draw.choice([1, 1, 2])):
            before = base.model.SerializeToString()
            try:
                mutation(base.model, draw)
                base.model.SerializeToString()
                done.append(mutation.__name__)
            except (EncodeError, IndexError, ValueError):  # nothing left to break, or what no file can hold
                base.model.ParseFromString(before)
        content = base.model.SerializeToString()
    else:
        change = draw.choice([flip_bytes, cut_bytes])
        content = change(base.model.SerializeToString(), draw)
        done.append(change.__name__)
    (folder / "model.onnx").write_bytes(content)
    print("+".join(done) or "none")
    return 0
