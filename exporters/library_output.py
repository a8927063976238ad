"""Keeping what libraries print and log away from the user."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

_FATAL = 4  # of ONNX Runtime's logger, which starts with warnings


def silence_onnxruntime() -> None:
    """Keep ONNX Runtime's coloured lines off stderr, for good: what is amiss is raised too, and told in a sentence."""
    import onnxruntime  # here: this module is light for those who only name it

    onnxruntime.set_default_logger_severity(_FATAL)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence ONNX Runtime's quantizer: it logs tracebacks through the root logger, prints on stdout, and opens
    sessions that write coloured warnings to stderr.
    """
    silence_onnxruntime()
    with silent():
        yield


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keep what Python code below us prints on stdout, logs and warns of: what fails is raised."""
    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
