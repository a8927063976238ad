"""The receipt: files, signature, version, sentences, golden outputs, placement, latency."""

import os
import platform
import re
from pathlib import Path

import numpy as np
import onnxruntime
import signature
from inputs import prepared
from package import PACKAGE, ROOT, Refused, arrays, golden, read, told_by
from session import CPU, Session


def compared(got, want, tolerance, classes):
    """(largest difference of finite values, what is wrong or "")."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return 0.0, f"is {got.dtype}{list(got.shape)}, not {want.dtype}{list(want.shape)}"
    if want.dtype.kind != "f":
        wrong = int((got != want).sum())
        return 0.0, f"differs in {wrong} of {want.size} values" if wrong else ""
    got, want = got.astype(np.float64), want.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinite values less infinite ones
        limit = tolerance["absolute"] + tolerance["relative"] * np.abs(want)
        off = np.abs(got - want)
        near = (got == want) | (np.isnan(got) & np.isnan(want)) | (np.isfinite(off) & (off <= limit))
        largest = float(off[np.isfinite(off)].max(initial=0))
        if not near.all():
            many = int((~near).sum())
            return largest, f"is off by {largest:.3g} in {many} values, {tolerance['absolute']:.3g} is allowed"
        if want.ndim and want.shape[-1] == classes > 1:
            best = np.sort(want, axis=-1)
            clear = best[..., -1] - best[..., -2] > 2 * limit.max(axis=-1)
            if ((got.argmax(-1) != want.argmax(-1)) & clear).any():
                return largest, "has another answer"
    return largest, ""


def trusted(path):
    """The key in a .pub file."""
    try:
        return signature.public_key(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise Refused(f"{path} cannot be trusted: {error}.", "Give the public key that nnx keys new made.") from error


def machine():
    names = re.findall(r"^(?:model name|Model)\s*: (.*)$", told_by("/proc/cpuinfo"), re.M) or [platform.processor()]
    facts = {"system": platform.system(), "architecture": platform.machine(), "processor": names[0]}
    return {**facts, "cores": os.cpu_count()}


def tested(variant, threads, expected, content, classes):
    """(what is wrong with its answers, what is told of it)."""
    session, name, row = Session(variant, threads), variant["name"], variant["row"]
    wrong, largest = [], {}
    for number, case in enumerate(expected["cases"]):
        got = session.run(arrays(case["inputs"], content))
        for output, want in arrays(case["outputs"][name], content).items():
            off, why = compared(np.asarray(got[output]), want, expected["tolerances"][name][output], classes)
            largest[output] = max(off, largest.get(output, 0.0))
            wrong += [f"'{output}' of case {number} {why}"] if why else []
    first = arrays(expected["cases"][0]["inputs"], content)
    session.timed(first, 3, 0.05)
    runs = sorted(session.timed(first, 10, 0.3)[0])
    latency = {"p50": runs[len(runs) // 2], "p99": runs[len(runs) * 99 // 100]}
    slower = latency["p50"] / row["latency_ms"]["p50"] if row else None
    facts = {"latency_ms": latency, "load_ms": session.load_ms, "slower": slower, "nodes": session.nodes()}
    return wrong, {**facts, "largest_difference": largest}


def self_test(variants, threads, max_slowdown, trust=None):
    """The receipt; ``trust`` is the file of the public key that must have signed all files."""
    checks, told = [], {}

    def check(name, wrong, right):
        checks.append({"name": name, "ok": not wrong, "detail": wrong or right})

    sums = (ROOT / signature.SUMS).read_text(encoding="utf-8").splitlines()
    listed = {line[66:]: line[:64] for line in sums}
    wrong = signature.differing(ROOT, listed, {signature.SUMS, signature.SIGNATURE})
    check("files", "; ".join(wrong), "as in SHA256SUMS")
    if trust is not None:
        key = trusted(trust)
        check("signature", "; ".join(signature.faults(ROOT, key)), f"by {key[1]}")
    expected, content = golden()
    classes = len(read(PACKAGE["labels"])) if PACKAGE["labels"] else 0
    for number, case in enumerate(expected["cases"]):
        if case["text"] is not None:
            made, wants = prepared(case["text"]), arrays(case["inputs"], content)
            off = max(float(np.abs(made[name] - want).max()) for name, want in wants.items())
            said = f"the input is off by {off:.3g}"
            check(f"preprocessing {number}", said if off > 1e-6 else "", said)
    for variant in variants:
        name, version, least = variant["name"], onnxruntime.__version__, variant["onnxruntime"]
        older = [int(part) for part in version.split(".")[:2]] < [int(part) for part in least.split(".")[:2]]
        said = f"{version}, at least {least} is wanted"
        check(f"onnxruntime {name}", said if older else "", said)
        try:
            wrong, facts = tested(variant, threads, expected, content, classes)
        except Exception as error:  # whatever onnxruntime raises is the result of the test
            check(f"golden {name}", getattr(error, "what", f"{type(error).__name__}: {error}"), "")
            continue
        check(f"golden {name}", "; ".join(wrong), f"{len(expected['cases'])} cases")
        said = ", ".join(f"{count} nodes on {provider}" for provider, count in facts["nodes"].items()) or "not told"
        check(f"placement {name}", said if {*facts["nodes"]} - {CPU} else "", said)
        p50, slower = facts["latency_ms"]["p50"], facts["slower"]
        said = f"{p50:.3g} ms" + (f", {slower:.2g} times that of {variant['row']['machine']}" if slower else "")
        check(f"latency {name}", said if max_slowdown and slower and slower > max_slowdown else "", said)
        told[name] = facts
    return {
        "ok": all(each["ok"] for each in checks),
        "package": PACKAGE["name"],
        "version": PACKAGE["version"],
        "digest": signature.sha256_of(ROOT / "SHA256SUMS"),
        "checks": checks,
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
        "machine": machine(),
        "latency_ms": next((each["latency_ms"] for each in told.values()), None),
        "variants": told,
    }
