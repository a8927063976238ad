import json
from pathlib import Path

import pytest

from toolchain.accuracy.gate import Requirement
from toolchain.bench import target_rows
from toolchain.bench.benchmark import Extras
from toolchain.bench.effort import Effort
from toolchain.errors import BadUsage
from toolchain.progress import SILENT


@pytest.mark.parametrize("name", ["{folder}/evil.py:recipe", "evil.py:recipe", "os:system", "", None])
def test_a_folder_that_somebody_sent_runs_no_code(name: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "sent"
    folder.mkdir()
    (folder / "evil.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    recipe = None if name is None else name.format(folder=folder)
    (folder / "manifest.json").write_text(json.dumps({"schema_version": 1, "steps": {}, "recipe": recipe}))
    with pytest.raises(BadUsage, match="a folder is not obeyed in that") as refused:
        target_rows.bench(
            [folder], [], samples_source=None, data_folder=None, effort=Effort(), extras=Extras(),
            requirement=Requirement(max_drop=0.02), output=None, progress=SILENT,
        )  # fmt: skip
    assert "--recipe" in refused.value.do
    assert not (tmp_path / "ran").exists()


def test_the_code_that_the_user_names_runs(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("recipe = 3\n")
    recipe = f"{tmp_path / 'own.py'}:recipe"
    (tmp_path / "manifest.json").write_text(json.dumps({"schema_version": 1, "steps": {}, "recipe": recipe}))
    with pytest.raises(BadUsage, match="is a int, not a Recipe"):
        target_rows.bench(
            [tmp_path], [], samples_source=None, data_folder=None, effort=Effort(), extras=Extras(),
            requirement=Requirement(max_drop=0.02), output=None, progress=SILENT, recipes=[recipe],
        )  # fmt: skip
