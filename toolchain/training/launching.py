"""Several processes of this machine that train together, started and watched by torchrun's own launcher."""

import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from toolchain import machine, streams
from toolchain.errors import ExitCode, NotAvailable
from toolchain.training.world import LAUNCHER

_THREADS = "OMP_NUM_THREADS"


def launch(arguments: Sequence[str], *, processes: int, max_restarts: int) -> int:
    """``nnx ARGUMENTS`` in ``processes`` at once, each with its part of the cores; the exit code of the first to fail.

    When one fails, the others are ended and all begin anew, ``max_restarts`` times. Raises NotAvailable for one that
    was killed.
    """
    os.environ[LAUNCHER] = str(os.getpid())
    os.environ.setdefault(_THREADS, str(max(1, machine.usable_cores() // processes)))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=uuid.uuid4().hex, rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0", max_restarts=max_restarts,
        signals_to_handle="SIGQUIT",  # the others end it as they do any command, and its processes too
    )  # fmt: skip
    logging.disable()  # of the launcher's: what a process has to say it says itself
    try:
        with streams.handed_on():
            # -P: a user's toolchain.py in the present folder is not nnx
            elastic_launch(config, sys.executable)("-P", "-m", "toolchain", *arguments)
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        if failure.exitcode == -signal.SIGKILL:
            raise NotAvailable(
                f"Process {rank} of the training was killed, most likely for want of memory.",
                "Use fewer processes or a smaller --batch-size; --resume goes on after the last whole epoch.",
            ) from failed
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    finally:
        logging.disable(logging.NOTSET)
    return ExitCode.DONE
