"""The pages as a site: built without a warning, and needing nothing but themselves."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_site_is_built_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    pages = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")]
    assert len(pages) > 20
    loaded = {
        found for page in pages for found in re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"(\w+:)?//", page)
    }
    assert not loaded
    assert not re.search(r"url\(['\"]?(https?:)?//", "".join(path.read_text() for path in tmp_path.rglob("*.css")))
