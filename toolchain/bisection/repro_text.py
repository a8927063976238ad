"""The fixed parts of a file that shows a fault: they need torch, onnxruntime and nothing else."""

BUILD = '''
def build(kind, values, parameters={}, buffers={}, modules={}):
    """A module like the model's own, without its constructor."""
    made = kind.__new__(kind)
    torch.nn.Module.__init__(made)
    for name, value in parameters.items():
        made.register_parameter(name, None if value is None else torch.nn.Parameter(value, requires_grad=False))
    for name, value in buffers.items():
        made.register_buffer(name, value)
    for name, module in modules.items():
        made.add_module(name, module)
    for name, value in values.items():
        setattr(made, name, value)
    return made

'''

HOLDING = '''
def holding(kind, values):
    """An object with these attributes."""
    made = kind.__new__(kind)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made

'''

FILLED = '''
def filled(layer, values):
    """A layer of torch's with these of its weights."""
    layer.load_state_dict(values, strict=False)
    return layer

'''

TENSOR = '''
def tensor(shape, dtype, low, high):
    """Seeded values in the range that the model's own have."""
    if dtype == torch.bool:
        return torch.rand(shape) < 0.5
    if not dtype.is_floating_point:
        return torch.randint(int(low), int(high) + 1, shape).to(dtype)
    return (torch.rand(shape) * (high - low) + low).to(dtype)

'''

LEAVES = '''
def leaves(value):
    """The tensors in what forward() returned."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (bool, int, float, torch.SymInt)):
        return [torch.scalar_tensor(value, dtype=torch.float32 if isinstance(value, float) else torch.int64)]
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, dict):
        value = [getattr(value, name) for name in value.__dataclass_fields__]
    inner = value.values() if isinstance(value, dict) else value or ()
    return [leaf for each in inner for leaf in leaves(each)]


def run(model, call, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        return [value.clone() for value in model(*[each.clone() for each in call])]


def apart(one, other):
    """How far two results are apart, in words; nothing where they agree."""
    if len(one) != len(other):
        return f"{len(one)} tensors against {len(other)}"
    for place, (left, right) in enumerate(zip(one, other)):
        if left.shape != right.shape:
            return f"output {place} is {list(left.shape)} against {list(right.shape)}"
        left, right = left.double(), right.double()
        if not torch.equal(left.isfinite(), right.isfinite()):
            return f"output {place} has NaN or infinity in other places"
        error, largest = (left - right).nan_to_num().abs(), left.nan_to_num(0, 0, 0).abs()
        if error.numel() and error.max() > TOLERANCE * max(largest.max(), 1e-30):
            return f"output {place} differs by {error.max():.3g}, its largest value is {largest.max():.3g}"
    return ""

'''

EXPORT = """
def fault(model, calls):
    names = list(AXES)
    try:
        made = torch.onnx.export(
            model, tuple(calls[0]), dynamo=True, verbose=False, opset_version=OPSET, input_names=names,
            dynamic_shapes=tuple(dict.fromkeys(axes, torch.export.Dim.AUTO) for axes in AXES.values()),
        )
    except Exception as error:
        while error.__cause__ is not None:
            error = error.__cause__
        return f"torch.onnx.export raises {type(error).__name__}: {str(error)[:600]}"
    file = made.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    given = {value.name: value for value in session.get_inputs()}
    for name, axes in AXES.items():
        if name not in given:
            return f"the file has no input '{name}'"
        for axis in axes:
            if not isinstance(given[name].shape[axis], str):
                return f"axis {axis} of '{name}' became fixed at {given[name].shape[axis]}"
    for call in calls:
        sizes = {name: list(value.shape) for name, value in zip(names, call)}
        try:
            got = session.run(None, {name: value.numpy() for name, value in zip(names, call)})
        except Exception as error:
            return f"onnxruntime fails at {sizes}: {str(error)[:600]}"
        if difference := apart(run(model, call), [torch.as_tensor(value) for value in got]):
            return f"the file does not agree with PyTorch at {sizes}: {difference}"
    return ""

"""

TWICE = """
def fault(model, calls):
    if difference := apart(run(model, calls[0], seed=0), run(model, calls[0], seed=1)):
        return f"forward() gives another answer when it is called again on the same inputs: {difference}"
    return ""

"""

COUPLED = """
def fault(model, calls):
    alike = [value if axis is None else value.index_select(axis, torch.zeros(value.shape[axis], dtype=torch.long))
             for value, axis in zip(calls[0], BATCHES)]
    for place, (one, other) in enumerate(zip(run(model, calls[0]), run(model, alike))):
        if difference := apart([one[:1]], [other[:1]]):
            return f"the first sample's result depends on the others of its batch: {difference}"
    return ""

"""

MAIN = """
if __name__ == "__main__":
    torch.manual_seed(0)
    model = Called(make()).eval()
    found = fault(model, calls())
    print(f"FAULT: {found}" if found else "No fault: it is mended, or needs other values.")
    sys.exit(1 if found else 0)
"""
