"""The model card: for people, with the YAML that Hugging Face reads at its head."""

import json
from collections.abc import Iterator, Mapping

from toolchain.shipping.package import GOLDEN, Package, Variant
from toolchain.shipping.tolerance import Tolerance


def text(package: Package, tolerances: Mapping[str, Mapping[str, Tolerance]], source: str) -> str:
    """README.md; ``source`` is what the golden inputs are, ``tolerances`` by variant and output."""
    return "\n".join([*_front_matter(package, source), *_body(package, tolerances, source), ""])


def _front_matter(package: Package, source: str) -> Iterator[str]:
    """https://huggingface.co/docs/hub/model-cards; strings are quoted as JSON does, which YAML reads."""
    yield "---"
    if package.licence is not None:
        yield f"license: {json.dumps(package.licence.lower())}"
    yield "library_name: onnxruntime"
    if package.task is not None:
        yield f"pipeline_tag: {package.task}"
    yield "tags:"
    yield from (f"- {tag}" for tag in ("onnx", *sorted({variant.precision for variant in package.variants})))
    first = package.variants[0]
    if first.accuracy is not None and package.task is not None:
        yield "model-index:"
        yield f"- name: {json.dumps(package.name)}"
        yield "  results:"
        yield f"  - task: {{type: {package.task}}}"
        data = package.provenance.get("recipe", "own")
        yield f"    dataset: {{name: {json.dumps(source)}, type: {json.dumps(data)}}}"
        yield f"    metrics: [{{type: accuracy, value: {first.accuracy:.4f}}}]"
    yield "---"


def _body(package: Package, tolerances: Mapping[str, Mapping[str, Tolerance]], source: str) -> Iterator[str]:
    yield f"# {package.name} {package.version}"
    yield ""
    yield (
        f"An ONNX Runtime model package. ONNX Runtime {package.onnxruntime} and later run every variant; "
        "the first is the recommended one."
    )
    yield ""
    yield "| variant | precision | MB | p50 ms | p99 ms | accuracy | memory MB | opset | ONNX Runtime from |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    yield from (_row(variant) for variant in package.variants)
    rows = [variant.row for variant in package.variants if variant.row]
    if rows:
        yield ""
        yield f"Latencies at batch {rows[0].batch} with {rows[0].threads} threads on {rows[0].machine}."
    yield ""
    yield "## Interface"
    yield ""
    for kind, tensors in (("in", package.inputs), ("out", package.outputs)):
        yield from (f"- {kind} `{each.name}`: {each.dtype}[{', '.join(map(str, each.shape))}]" for each in tensors)
    yield ""
    yield "## Run it"
    yield ""
    yield "```text"
    yield "sha256sum -c SHA256SUMS"
    yield "python runners/python/run.py --self-test"
    yield f"python runners/python/run.py {_example(package)}"
    yield "```"
    yield ""
    yield f"The self-test runs `{GOLDEN}`, inputs from {source}, and wants these answers:"
    yield ""
    for variant, each in tolerances.items():
        for output, tolerance in each.items():
            yield f"- {variant}, `{output}` within {tolerance.absolute:g}: {tolerance.why}."
    yield ""
    yield "## Where it comes from"
    yield ""
    known = {**package.provenance, "licence": package.licence or "not said"}
    yield from (f"- {name.replace('_', ' ')}: {value}" for name, value in known.items())


def _row(variant: Variant) -> str:
    latency = variant.row.latency_ms if variant.row else {}
    cells = (
        variant.name,
        variant.precision,
        f"{variant.size_bytes / 1e6:.3f}",
        *(f"{latency[each]:.3g}" if latency else "–" for each in ("p50", "p99")),
        "–" if variant.accuracy is None else f"{variant.accuracy:.1%}",
        "–" if variant.peak_memory_bytes is None else f"{variant.peak_memory_bytes / 1e6:.0f}",
        str(variant.opset),
        variant.onnxruntime,
    )
    return f"| {' | '.join(cells)} |"


def _example(package: Package) -> str:
    return {"image-classification": "photo.jpg", "text-classification": '"a sentence"'}.get(
        package.task or "", "input.npy"
    )
