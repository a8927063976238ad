"""Whose a file of Python code is."""

import json
from pathlib import Path

import click
import numpy as np
import pytest

from exporters.whose_file import is_installed, is_pythons

STDLIB = Path(json.__file__).parents[1]


@pytest.mark.parametrize(
    ("file", "pythons", "installed"),
    [
        (json.__file__, True, True),
        ("<string>", True, True),
        ("<frozen importlib._bootstrap>", True, True),
        (click.__file__, False, True),
        (np.__file__, False, True),
        (str(STDLIB / "site-packages" / "timm" / "vit.py"), False, True),
        ("/usr/lib/python3/dist-packages/numpy/core.py", False, True),
        (f"{STDLIB}-mine/net.py", False, False),
        ("/home/me/my-site-packages-notes/net.py", False, False),
        (__file__, False, False),
        ("net.py", False, False),
    ],
)
def test_whose_it_is(file: str, pythons: bool, installed: bool) -> None:
    assert (is_pythons(file), is_installed(file)) == (pythons, installed)
