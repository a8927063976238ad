"""Keeping what libraries print and log away from the user."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

_WARNING, _FATAL = 2, 4  # of ONNX Runtime's logger; it starts with the former


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence ONNX Runtime's quantizer: it logs tracebacks through the root logger, prints on stdout, and opens
    sessions that write coloured warnings to stderr.
    """
    import onnxruntime  # here: this module is light for those who only name it

    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    onnxruntime.set_default_logger_severity(_FATAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
        onnxruntime.set_default_logger_severity(_WARNING)
