"""Runs the package that it lies in. Needs numpy and onnxruntime; Pillow for pictures.

    python run.py photo.jpg | "a sentence" | input.npy    the answer, a line of JSON
    python run.py --self-test [--variant V]               files, version, golden outputs: a receipt in JSON
    python run.py --self-test --trust KEY.pub             the signature too
    python run.py                                         requests on stdin, a line each, as nnx's benchmark sends them

Exit codes: 0 done, 1 a check failed, 2 wrong input, 3 not available here.
"""

import getopt
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

NUMBERS = {"threads": int, "max-slowdown": float}
VALUES = {"variant": str, "trust": str, **NUMBERS}
USAGE = (
    "Usage: python run.py [--variant V] [--threads N] PICTURE|SENTENCE|FILE.npy"
    " | --self-test [--max-slowdown X] [--trust KEY.pub]"
)


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


def asked(words):
    """(what to answer for, the options by name). Refused."""
    try:
        # argparse takes 5 ms longer, of 150 to the first answer
        options, given = getopt.gnu_getopt(words, "h", ["help", "self-test", *(f"{name}=" for name in VALUES)])
    except getopt.GetoptError as error:
        raise Refused(f"{error}.", USAGE) from error
    found = {}
    for option, text in options:
        name = option.lstrip("-")
        try:
            found[name] = VALUES.get(name, bool)(text)
            if name in NUMBERS and not found[name] > 0:
                raise ValueError(text)
        except ValueError as error:
            raise Refused(f"{option} is no number above 0.", USAGE) from error
    if len(given) > (0 if "self-test" in found else 1):
        raise Refused("Name one thing to answer for, or --self-test.", USAGE)
    return given[0] if given else None, found


def main():
    try:
        given, options = asked(sys.argv[1:])
        variants, threads = chosen(options.get("variant")), options.get("threads")
        if "help" in options or "h" in options:
            sys.stdout.write(__doc__ + "\n" + USAGE + "\n")
            return 0
        if "self-test" in options:
            from self_test import self_test

            told = self_test(variants, threads, options.get("max-slowdown"), options.get("trust"))
        elif given is not None:
            told = answer(given, variants[0], threads)
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
