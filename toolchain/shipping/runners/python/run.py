"""Runs the package that it lies in. Needs numpy and onnxruntime; Pillow for pictures.

    python run.py photo.jpg | "a sentence" | input.npy    the answer, a line of JSON
    python run.py --self-test [--variant V]               files, version, golden outputs: a receipt in JSON
    python run.py                                         requests on stdin, a line each, as nnx's benchmark sends them

Exit codes: 0 done, 1 a check failed, 2 wrong input, 3 not available here.
"""

import argparse
import gc
import hashlib
import json
import math
import os
import platform
import re
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
try:
    import numpy as np
    import onnxruntime
except ImportError as error:
    missing = {"kind": "ProviderUnavailable", "what": f"{error}.", "do": "pip install onnxruntime numpy."}
    sys.stdout.write(json.dumps({"ok": False, "error": missing}) + "\n")
    sys.exit(3)
ROOT = Path(__file__).resolve().parents[2]
CPU = "CPUExecutionProvider"


class Refused(Exception):
    """What happened, what to do, the exit code."""

    def __init__(self, what, do, code=2):
        super().__init__(what)
        self.what, self.do, self.code = what, do, code


def read(name):
    return json.loads((ROOT / name).read_text(encoding="utf-8"))


PACKAGE = read("nnx/package.json")


def chosen(name):
    """The variants called so; all without a name, the recommended one first."""
    found = [each for each in PACKAGE["variants"] if name in (None, each["name"])]
    if not found:
        names = ", ".join(each["name"] for each in PACKAGE["variants"])
        raise Refused(f"There is no variant '{name}'.", f"Choose from {names}.")
    return found


class Session:
    """A variant, opened as the package asks; ``row`` tells the threads where nobody else does."""

    def __init__(self, variant, threads=None, provider=CPU, provider_options=None):
        if provider not in onnxruntime.get_available_providers():
            had = ", ".join(onnxruntime.get_available_providers())
            raise Refused(f"The onnxruntime there has no {provider}, only {had}.", "Install the build that has it.", 3)
        options, started = onnxruntime.SessionOptions(), time.perf_counter()
        self.threads = threads or (variant["row"] or {"threads": 1})["threads"]
        options.intra_op_num_threads, options.log_severity_level = self.threads, 4
        for key, value in variant["session_options"].items():
            if key == "session.graph_optimization_level":
                options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, "ORT_" + value.upper())
            elif key == "session.execution_mode":
                options.execution_mode = getattr(onnxruntime.ExecutionMode, "ORT_" + value.upper())
                options.inter_op_num_threads = self.threads
            elif key == "session.enable_mem_pattern":
                options.enable_mem_pattern = value == "1"
            else:
                options.add_session_config_entry(key, value)
        if variant["shared_weights"]:
            key = "session.model_external_initializers_file_folder_path"
            options.add_session_config_entry(key, str(ROOT / variant["shared_weights"]))
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        try:
            providers = [(provider, provider_options or {}), *([CPU] if provider != CPU else [])]
            self.session = onnxruntime.InferenceSession(str(ROOT / variant["model"]), options, providers=providers)
        except Exception as error:
            why = (str(error).splitlines() or [type(error).__name__])[0][-200:]  # places in its source stand before
            what = f"onnxruntime {onnxruntime.__version__} refuses {variant['model']}: {why}"
            raise Refused(what, f"It wants onnxruntime {variant['onnxruntime']} or later.", 1) from error
        self.load_ms = (time.perf_counter() - started) * 1e3

    def run(self, feeds):
        return dict(zip([each.name for each in self.session.get_outputs()], self.session.run(None, feeds)))

    def nodes(self):
        """Nodes by provider; none where onnxruntime does not tell (before 1.24)."""
        ask = getattr(self.session, "get_provider_graph_assignment_info", list)
        return dict(sum((Counter({part.ep_name: len(part.get_nodes())}) for part in ask()), Counter()))

    def timed(self, feeds, min_runs, seconds):
        """Each run's milliseconds, and the seconds of all."""
        run, clock, runs, start = self.session.run, time.perf_counter, [], time.perf_counter()
        while len(runs) < min_runs or clock() < start + seconds:
            before = clock()
            run(None, feeds)
            runs.append((clock() - before) * 1e3)
        return runs, clock() - start


def arrays(described, content):
    """Golden arrays by name."""
    found = {}
    for each in described:
        kind = np.dtype(each["dtype"]).newbyteorder("<")
        flat = np.frombuffer(content, kind, math.prod(each["shape"]), each["offset"])
        found[each["name"]] = flat.reshape(each["shape"]).astype(each["dtype"], copy=False)
    return found


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


def sha256_of(path):
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def files_wrong():
    """Each file that is not as SHA256SUMS says."""
    listed = {line[66:]: line[:64] for line in (ROOT / "SHA256SUMS").read_text(encoding="utf-8").splitlines()}
    paths = [path for path in ROOT.rglob("*") if path.is_symlink() or not path.is_dir()]
    there = {path.relative_to(ROOT).as_posix(): path for path in paths}
    for name in sorted({*listed, *there} - {"SHA256SUMS", "model.sig"}):
        if name not in there:
            yield f"{name} is missing"
        elif name not in listed:
            yield f"{name} is not listed"
        elif there[name].is_symlink() or not there[name].is_file() or sha256_of(there[name]) != listed[name]:
            yield f"{name} is changed"


def told_by(path):
    """What Linux says in one of its own files; nothing elsewhere."""
    return Path(path).read_text(encoding="utf-8", errors="replace") if Path(path).exists() else ""


def machine():
    names = re.findall(r"^(?:model name|Model)\s*: (.*)$", told_by("/proc/cpuinfo"), re.M) or [platform.processor()]
    facts = {"system": platform.system(), "architecture": platform.machine(), "processor": names[0]}
    return {**facts, "cores": os.cpu_count()}


def self_test(variants, threads, max_slowdown):
    """The receipt."""
    checks, told = [], {}

    def check(name, wrong, right):
        checks.append({"name": name, "ok": not wrong, "detail": wrong or right})

    check("files", "; ".join(files_wrong()), "as in SHA256SUMS")
    golden, content = read("nnx/golden.json"), (ROOT / "nnx/golden.bin").read_bytes()
    classes = len(read(PACKAGE["labels"])) if PACKAGE["labels"] else 0
    for number, case in enumerate(golden["cases"]):
        if case["text"] is not None:
            made, wants = prepared(case["text"]), arrays(case["inputs"], content)
            off = max(float(np.abs(made[name] - want).max()) for name, want in wants.items())
            said = f"the input is off by {off:.3g}"
            check(f"preprocessing {number}", said if off > 1e-6 else "", said)
    for variant in variants:
        name, row, version, least = variant["name"], variant["row"], onnxruntime.__version__, variant["onnxruntime"]
        older = [int(part) for part in version.split(".")[:2]] < [int(part) for part in least.split(".")[:2]]
        said = f"{version}, at least {least} is wanted"
        check(f"onnxruntime {name}", said if older else "", said)
        try:
            session = Session(variant, threads)
            wrong, largest = [], {}
            for number, case in enumerate(golden["cases"]):
                got, tolerances = session.run(arrays(case["inputs"], content)), golden["tolerances"][name]
                for output, want in arrays(case["outputs"][name], content).items():
                    off, why = compared(np.asarray(got[output]), want, tolerances[output], classes)
                    largest[output] = max(off, largest.get(output, 0.0))
                    wrong += [f"'{output}' of case {number} {why}"] if why else []
            first = arrays(golden["cases"][0]["inputs"], content)
            session.timed(first, 3, 0.05)
            runs = sorted(session.timed(first, 10, 0.3)[0])
        except Exception as error:  # whatever onnxruntime raises is the result of the test
            check(f"golden {name}", getattr(error, "what", f"{type(error).__name__}: {error}"), "")
            continue
        check(f"golden {name}", "; ".join(wrong), f"{len(golden['cases'])} cases")
        nodes = session.nodes()
        said = ", ".join(f"{count} nodes on {provider}" for provider, count in nodes.items()) or "not told"
        check(f"placement {name}", said if {*nodes} - {CPU} else "", said)
        latency = {"p50": runs[len(runs) // 2], "p99": runs[len(runs) * 99 // 100]}
        slower = latency["p50"] / row["latency_ms"]["p50"] if row else None
        said = f"{latency['p50']:.3g} ms" + (f", {slower:.2g} times that of {row['machine']}" if row else "")
        check(f"latency {name}", said if max_slowdown and slower and slower > max_slowdown else "", said)
        told[name] = {"latency_ms": latency, "load_ms": session.load_ms, "slower": slower, "nodes": nodes}
        told[name]["largest_difference"] = largest
    return {
        "ok": all(each["ok"] for each in checks),
        "package": PACKAGE["name"],
        "version": PACKAGE["version"],
        "digest": sha256_of(ROOT / "SHA256SUMS"),
        "checks": checks,
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
        "machine": machine(),
        "latency_ms": next((each["latency_ms"] for each in told.values()), None),
        "variants": told,
    }


def prepared(given):
    """The model's inputs, of a sentence, a picture, or an array as the model takes it."""
    how = {"kind": "array", "input": PACKAGE["inputs"][0]["name"]}
    if PACKAGE["preprocessing"]:
        how = read(PACKAGE["preprocessing"])
    if how["kind"] == "tfidf":
        row, idf = np.zeros(len(how["idf"]), np.float32), np.asarray(how["idf"], np.float32)
        for token, count in Counter(re.findall(how["tokenizer"]["pattern"], given.lower())).items():
            if token in how["vocabulary"]:
                row[how["vocabulary"][token]] = count * idf[how["vocabulary"][token]]
        return {how["input"]: (row / max(float(np.linalg.norm(row)), 1e-30)).astype(np.float32)[None]}
    try:
        if given.endswith(".npy"):
            return {how["input"]: np.load(given, allow_pickle=False)}
        if how["kind"] == "image":
            return {how["input"]: picture(given, how)}
    except ImportError as error:
        raise Refused("Pictures are read by Pillow, which is not here.", "pip install pillow.", 3) from error
    except (OSError, ValueError) as error:
        raise Refused(f"{given} cannot be read: {error}.", "Give a picture, or what numpy.save wrote.") from error
    raise Refused("How to make an input of that is not in the package.", "Give a .npy of what the model takes.")


def picture(given, how):
    from PIL import Image

    width, height = size = how["width"], how["height"]
    with Image.open(given) as image:
        image = image.convert("L" if how["channels"] == 1 else "RGB")
        if how["crop"]:
            scale = max(width / image.width, height / image.height) / how["crop"]
            size = max(width, round(image.width * scale)), max(height, round(image.height * scale))
        pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32).reshape(size[1], size[0], -1)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    scaled = pixels[top : top + height, left : left + width] * np.float32(how["scale"])
    scaled = (scaled - np.float32(how["mean"])) / np.float32(how["std"])
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def answer(given, variant, threads):
    session, feeds = Session(variant, threads), prepared(given)
    started = time.perf_counter()
    try:
        outputs = session.run(feeds)
    except Exception as error:
        why = str(error).splitlines()[0][-200:]
        raise Refused(f"onnxruntime refuses that input: {why}", "Give what nnx/package.json says of it.") from error
    told = {"variant": variant["name"], "latency_ms": (time.perf_counter() - started) * 1e3}
    labels, scores = read(PACKAGE["labels"]) if PACKAGE["labels"] else [], next(iter(outputs.values()))
    if labels and scores.shape[-1] == len(labels) and scores.size == len(labels):
        order = np.argsort(-scores.ravel())[:5]
        best = {labels[place]: float(scores.ravel()[place]) for place in order}
        return {"answer": labels[order[0]], "scores": best, **told}
    return {"outputs": {name: value.tolist() for name, value in outputs.items()}, **told}


class Row:
    """What nnx's benchmark asks of a row; without ``inputs`` of its own it runs on the golden ones.

    ``axes`` are those along which samples are stacked, of "inputs" and "outputs", null for none; inputs that are
    "shared" are the same for all samples.
    """

    def __init__(
        self, variant=None, threads=1, batch=1, inputs=None, axes=None, execution_provider=CPU, options=None, **_
    ):
        self.session, self.batch = Session(chosen(variant)[0], threads, execution_provider, options), batch
        axes = axes or {}
        self.axes, self.output_axes = axes.get("inputs", {}), axes.get("outputs", {})
        self.shared = axes.get("shared", [])
        self.types = {each.name: each.type for each in self.session.session.get_inputs()}
        if inputs is None:
            golden, content = read("nnx/golden.json"), (ROOT / "nnx/golden.bin").read_bytes()
            cases = [arrays(case["inputs"], content) for case in golden["cases"][: golden["singles"]]]
            self.samples = {name: np.concatenate([case[name] for case in cases]) for name in cases[0]}
        else:
            self.samples = {name: np.load(path, mmap_mode="r", allow_pickle=False) for name, path in inputs.items()}
        self.count = max([1, *(len(each) for name, each in self.samples.items() if name not in self.shared)])

    def feeds(self, start):
        """A whole batch from there on, going round."""
        rows, made = [(start + step) % self.count for step in range(self.batch)], {}
        for name, samples in self.samples.items():
            axis = None if name in self.shared else self.axes.get(name, 0)
            taken = samples if name in self.shared else samples[start]
            half = np.float16 if self.types.get(name) == "tensor(float16)" else None
            made[name] = np.array(taken if axis is None else np.moveaxis(samples[rows], 0, axis), half, order="C")
        return made

    def start(self):
        self.first, before = self.feeds(0), time.perf_counter()
        self.session.run(self.first)
        first_run_ms = (time.perf_counter() - before) * 1e3
        return {
            "load_ms": self.session.load_ms,
            "first_run_ms": first_run_ms,
            "nodes": self.session.nodes(),
            "facts": {"onnxruntime": onnxruntime.__version__, "runner": "python"},
            "shapes": {name: list(each.shape) for name, each in self.first.items()},
        }

    def turn(self, min_runs, most_kept, seconds, warm_up_s):
        gc.disable()  # a collection inside the clock would be Python's, not the model's
        self.session.timed(self.first, 0, warm_up_s)
        runs, spent = self.session.timed(self.first, min_runs, seconds)
        gc.enable()
        return {"runs_ms": runs[:: max(1, -(-len(runs) // most_kept))], "runs": len(runs), "seconds": spent}

    def memory(self):
        peak = re.search(r"VmHWM:\s*(\d+)", told_by("/proc/self/status"))
        return {"peak_memory_bytes": int(peak[1]) * 1024 if peak else None, "device_memory_bytes": None}

    def outputs(self, path):
        """Each call's outputs, in an .npz that says in "built" which array is which."""
        built = []
        with zipfile.ZipFile(path, "w") as archive:
            for start in range(0, self.count, self.batch):
                kept = min(self.batch, self.count - start)
                built.append({})
                for name, value in self.session.run(self.feeds(start)).items():
                    number = str(sum(map(len, built)))
                    built[-1][name] = ["array", number]
                    if not isinstance(value, np.ndarray):
                        raise Refused(f"'{name}' is no array.", "Measure it where nnx is.")
                    axis = self.output_axes.get(name, 0)
                    if axis is not None and value.ndim > axis and value.shape[axis] == self.batch:
                        value = value.take(range(kept), axis)
                    self.write(archive, number, value)
            self.write(archive, "built", np.array(json.dumps(built)))

    @staticmethod
    def write(archive, name, value):
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, value, allow_pickle=False)


def serve():
    """A line of JSON for each one on stdin, until it ends."""
    row = None
    for line in sys.stdin:
        try:
            request = json.loads(line)
            operation = request.pop("op")
            if operation == "open":
                row, said = Row(**request), {"result": None}
            elif operation in ("start", "turn", "memory", "outputs") and row:
                said = {"result": getattr(row, operation)(**request)}
            else:
                raise Refused(f"There is no operation '{operation}' now.", "Send open, start, turn, memory, outputs.")
        except Refused as refused:
            kind = "ProviderUnavailable" if refused.code == 3 else "BadUsage"
            said = {"error": {"kind": kind, "what": refused.what, "do": refused.do}}
        except Exception as error:
            said = {"error": {"kind": "bug", "what": f"{type(error).__name__}: {error}", "do": "Look at the request."}}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("given", nargs="?", metavar="FILE_OR_TEXT")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--variant", help="the recommended one without; all of them in a self-test")
    parser.add_argument("--threads", type=int, help="those of the package's own measurement without")
    parser.add_argument("--max-slowdown", type=float, help="fail beyond this many times the package's own latency")
    asked = parser.parse_args()
    try:
        variants = chosen(asked.variant)
        if not asked.self_test and asked.given is None:
            return serve()
        if asked.self_test:
            told = self_test(variants, asked.threads, asked.max_slowdown)
        else:
            told = answer(asked.given, variants[0], asked.threads)
    except Refused as refused:
        sys.stderr.write(f"{refused.what} {refused.do}\n")
        return refused.code
    sys.stdout.write(json.dumps(told) + "\n")
    return 0 if told.get("ok", True) else 1


if __name__ == "__main__":
    sys.exit(main())
