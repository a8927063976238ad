"""The bill of materials: CycloneDX 1.6, the models as machine-learning components with their model card.

https://cyclonedx.org/docs/1.6/json. Nothing in it tells the time, and its serial number follows from what it lists.
"""

import json
import uuid
from collections.abc import Mapping
from typing import Any

from toolchain.shipping.package import Package, Variant

_SPECIFICATION = "1.6"
_NAMESPACE = uuid.UUID("6f1d3c5e-9a47-5b0f-8f52-2f6f3a0c7d11")


def text(package: Package, tools: Mapping[str, str], source: str) -> str:
    """sbom.cdx.json; ``tools`` are the libraries that made the package, by version."""
    whole = {
        "type": "machine-learning-model",
        "bom-ref": package.name,
        "name": package.name,
        "version": package.version,
        **({"licenses": [_licence(package.licence)]} if package.licence else {}),
    }
    data = {"type": "data", "bom-ref": "data", "name": package.provenance.get("data", source)}
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": _SPECIFICATION,
        "version": 1,
        "metadata": {
            "tools": {
                "components": [
                    {"type": "application", "name": name, "version": version} for name, version in sorted(tools.items())
                ]
            },
            "component": whole,
        },
        "components": [*(_component(package, variant) for variant in package.variants), data],
        "dependencies": [
            {"ref": package.name, "dependsOn": [variant.name for variant in package.variants]},
            *({"ref": variant.name, "dependsOn": ["data"]} for variant in package.variants),
        ],
    }
    serial = uuid.uuid5(_NAMESPACE, json.dumps(content, sort_keys=True))
    return json.dumps({**content, "serialNumber": f"urn:uuid:{serial}"}, ensure_ascii=False, indent=1) + "\n"


def _component(package: Package, variant: Variant) -> dict[str, Any]:
    """A model file; with weights beside it the hash is that of all its files, as nnx takes it."""
    found: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": variant.name,
        "name": f"{package.name}/{variant.name}",
        "version": package.version,
        "hashes": [{"alg": "SHA-256", "content": variant.sha256}],
        "modelCard": {
            "modelParameters": {
                **({"task": package.task} if package.task else {}),
                "datasets": [{"ref": "data"}],
                "inputs": [{"format": f"{each.dtype}{list(each.shape)}"} for each in package.inputs],
                "outputs": [{"format": f"{each.dtype}{list(each.shape)}"} for each in package.outputs],
            }
        },
        "properties": [
            {"name": "nnx:precision", "value": variant.precision},
            {"name": "nnx:path", "value": variant.model},
            *({"name": f"nnx:{name}", "value": value} for name, value in variant.provenance.items()),
        ],
    }
    if variant.accuracy is not None:
        metric = {"type": "accuracy", "value": f"{variant.accuracy:.6f}"}
        found["modelCard"]["quantitativeAnalysis"] = {"performanceMetrics": [metric]}
    return found


def _licence(expression: str) -> dict[str, Any]:
    return {"expression": expression}
