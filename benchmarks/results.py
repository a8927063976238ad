"""What the int8 benchmarks share: the option that names the data, and the files they leave."""

import argparse
import datetime
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from exporters.atomic_file import write_text
from toolchain import machine

OUT = Path("artifacts") / "benchmarks"


def data_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--data``, which falls back on the environment's NNX_TEST_DATA."""
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("NNX_TEST_DATA") or None,
        help="unpacked CIFAR-10, train/<class>/* and test/<class>/* (or NNX_TEST_DATA); without it smooth noise",
    )


def keep(path: Path, found: dict[str, Any], table: str) -> None:
    """Write ``path``, with the machine's facts, and the table beside it as ``.md``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    whole = {"created": created, "machine": asdict(machine.describe()), **found}
    write_text(path, json.dumps(whole, indent=1) + "\n")
    write_text(path.with_suffix(".md"), table.rstrip("\n") + "\n")
