"""What nnx's benchmark asks of a row, a line of JSON each: open, start, turn, memory, outputs."""

import gc
import json
import math
import re
import sys
import time
import zipfile

import numpy as np
import onnxruntime
from package import Refused, arrays, chosen, golden, told_by
from session import CPU, Session


def samples_in(entry):
    """A file of them; of unequal shapes one after the other, whose shapes are told beside."""
    if isinstance(entry, str):
        return np.load(entry, mmap_mode="r", allow_pickle=False)
    flat, found, start = np.load(entry["file"], mmap_mode="r", allow_pickle=False), [], 0
    for shape in entry["shapes"]:
        found.append(flat[start : start + math.prod(shape)].reshape(shape))
        start += math.prod(shape)
    return found


class Row:
    """What nnx's benchmark asks of a row; without ``inputs`` of its own it runs on the golden ones.

    ``axes`` are those along which samples are stacked, of "inputs" and "outputs", null for none; inputs that are
    "shared" are the same for all samples. ``calls`` are [samples, how many of them count] of each call, one after the
    other without; the ``first`` is timed.
    """

    def __init__(self, variant=None, threads=1, batch=1, inputs=None, axes=None, calls=None, first=None, **how):
        provider = how.get("execution_provider", CPU)
        self.session, self.batch = Session(chosen(variant)[0], threads, provider, how.get("options")), batch
        axes = axes or {}
        self.axes, self.output_axes = axes.get("inputs", {}), axes.get("outputs", {})
        self.shared = axes.get("shared", [])
        self.types = {each.name: each.type for each in self.session.session.get_inputs()}
        if inputs is None:
            told, content = golden()
            cases = [arrays(case["inputs"], content) for case in told["cases"][: told["singles"]]]
            self.samples = {name: np.concatenate([case[name] for case in cases]) for name in cases[0]}
        else:
            self.samples = {name: samples_in(entry) for name, entry in inputs.items()}
        count = max([1, *(len(each) for name, each in self.samples.items() if name not in self.shared)])
        around = [
            [[(start + step) % count for step in range(batch)], count - start] for start in range(0, count, batch)
        ]
        self.calls = calls or around
        self.timed = first or self.calls[0][0]

    def feeds(self, rows):
        """These samples as one call."""
        made = {}
        for name, samples in self.samples.items():
            axis = None if name in self.shared else self.axes.get(name, 0)
            taken = samples if name in self.shared else samples[rows[0]]
            if axis is not None:
                taken = np.stack([samples[row] for row in rows], axis)
            half = np.float16 if self.types.get(name) == "tensor(float16)" else None
            made[name] = np.array(taken, half, order="C")
        return made

    def start(self):
        self.first, before = self.feeds(self.timed), time.perf_counter()
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
            for rows, kept in self.calls:
                built.append({})
                for name, value in self.session.run(self.feeds(rows)).items():
                    number = str(sum(map(len, built)))
                    built[-1][name] = ["array", number]
                    if not isinstance(value, np.ndarray):
                        raise Refused(f"'{name}' is no array.", "Measure it where nnx is.")
                    axis = self.output_axes.get(name, 0)
                    if axis is not None and value.ndim > axis and value.shape[axis] == self.batch > kept:
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
