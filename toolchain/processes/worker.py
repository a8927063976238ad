"""The child side of a process of its own: one job, served line by line over stdin and stdout.

The parent (:mod:`toolchain.processes.turns`) sends JSON lines ``{"op": name, ...arguments}``; each is answered by one
JSON line, ``{"result": ...}`` or ``{"error": {...}}``. The first names the job, a module with ``open_job(**spec)``
whose result has a method per operation. When the parent is gone its pipe ends, and so does this process.
"""

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
from typing import Any

from toolchain import streams

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until the pipe ends."""
    die_with_parent()
    if cpus := [int(number) for number in sys.argv[1:]]:
        os.sched_setaffinity(0, cpus)  # before libraries start threads, which inherit it
    answers = streams.answers_alone()  # libraries print
    job: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        operation = request.pop("op")
        try:
            if operation == "open":
                job = importlib.import_module(request.pop("job")).open_job(**request)
                result: Any = None
            else:
                result = getattr(job, operation)(**request)
            answer = {"result": result}
        except Exception as error:  # noqa: BLE001 - the edge of the process: the parent decides what it means
            answer = {"error": _describe(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def die_with_parent(parent: int | None = None) -> None:
    """On Linux, be killed with the parent even in the middle of a long turn; elsewhere the turn ends first.

    So it is where the process ``parent``, which should be it, has ended already.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _describe(error: Exception) -> dict[str, str]:
    from toolchain.errors import explain

    known = explain(error)
    if isinstance(error, ModuleNotFoundError) and known is None:
        return {
            "kind": "ProviderUnavailable",
            "what": f"{sys.executable} has no {error.name}.",
            "do": "Install numpy and an onnxruntime there.",
        }
    if isinstance(error, MemoryError):
        return {"kind": "memory", "what": "It does not fit into memory.", "do": "Try a smaller batch."}
    if known is None:
        traceback.print_exc()
        text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        return {"kind": "bug", "what": text, "do": "Report it with the command that was run."}
    return {"kind": type(error).__name__, "what": known[0], "do": known[1]}


if __name__ == "__main__":
    main()
