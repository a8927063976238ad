"""An exception that nobody expected, on a model that ONNX Runtime does not take either: the model is to blame."""

from collections.abc import Iterable
from pathlib import Path

from toolchain.errors import ExitCode


def refused(words: Iterable[str]) -> tuple[str, str, ExitCode] | None:
    """What ONNX Runtime says of the first model file among a command's ``words`` that it refuses; None without one."""
    from exporters.errors import BadModelFile
    from runtimes.errors import NotLoadable
    from runtimes.ort import OrtRuntime

    for path in (Path(word) for word in words if word.endswith(".onnx")):
        try:
            if path.is_file():
                OrtRuntime(path).open()
        except (NotLoadable, BadModelFile) as broken:
            return broken.what, broken.do, ExitCode.BAD_USAGE
        except Exception:  # noqa: BLE001 - not what is looked for
            continue
    return None
