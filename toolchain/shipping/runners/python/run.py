"""Runs the package that it lies in. Needs numpy and onnxruntime; Pillow for pictures.

    python run.py photo.jpg | "a sentence" | input.npy    the answer, a line of JSON
    python run.py --self-test [--variant V]               files, version, golden outputs: a receipt in JSON
    python run.py --self-test --trust KEY.pub             the signature too
    python run.py                                         requests on stdin, a line each, as nnx's benchmark sends them

Exit codes: 0 done, 1 a check failed, 2 wrong input, 3 not available here.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
try:
    import numpy as np
    import onnxruntime  # noqa: F401
except ImportError as error:
    missing = {"kind": "ProviderUnavailable", "what": f"{error}.", "do": "pip install onnxruntime numpy."}
    sys.stdout.write(json.dumps({"ok": False, "error": missing}) + "\n")
    sys.exit(3)
sys.dont_write_bytecode = True  # every file in a package is listed
sys.path.insert(0, str(Path(__file__).resolve().parent))
from inputs import prepared
from package import PACKAGE, Refused, chosen, read
from session import Session


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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("given", nargs="?", metavar="FILE_OR_TEXT")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--variant", help="the recommended one without; all of them in a self-test")
    parser.add_argument("--threads", type=int, help="those of the package's own measurement without")
    parser.add_argument("--max-slowdown", type=float, help="fail beyond this many times the package's own latency")
    parser.add_argument("--trust", metavar="KEY.pub", help="the key that must have signed every file")
    asked = parser.parse_args()
    try:
        variants = chosen(asked.variant)
        if asked.self_test:
            from self_test import self_test

            told = self_test(variants, asked.threads, asked.max_slowdown, asked.trust)
        elif asked.given is not None:
            told = answer(asked.given, variants[0], asked.threads)
        else:
            from serve import serve

            return serve()
    except Refused as refused:
        sys.stderr.write(f"{refused.what} {refused.do}\n")
        return refused.code
    sys.stdout.write(json.dumps(told) + "\n")
    return 0 if told.get("ok", True) else 1


if __name__ == "__main__":
    sys.exit(main())
