import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from exporters import file_lock
from exporters.atomic_file import remove_leftovers, sha256_of, staged, with_final_names, write_text


def test_a_file_appears_whole(tmp_path: Path) -> None:
    with staged(tmp_path / "new" / "a.txt") as temporary:
        temporary.write_text("x")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "x"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    final = tmp_path / "a.txt"
    write_text(final, "old")
    with pytest.raises(RuntimeError), staged(final) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert final.read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


def test_a_kill_leaves_the_old_file_and_a_leftover_that_is_removed(tmp_path: Path) -> None:
    final = tmp_path / "a.txt"
    write_text(final, "old")
    script = (
        "import os, signal, sys, pathlib\n"
        "from exporters.atomic_file import staged\n"
        "with staged(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(final)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert final.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [final]


def gone() -> int:
    """The number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_leftovers_of_others_and_of_the_living_stay(tmp_path: Path) -> None:
    """A process number tells nothing: it may be another's by now, and in a container it is another one."""
    random = "0123456789abcdef"
    living = f".a.onnx.nnx-{gone()}-fedcba9876543210.partial"
    stays = {
        ".thesis.pdf.partial", ".x.123.partial", f".x.{gone()}.partial", f".nnx-{gone()}-{random}.partial",
        f".a.onnx.nnx-{gone()}-short.partial", living,
        f"a.onnx.nnx-{gone()}-{random}.partial", f".a.onnx.nnx-{gone()}-{random}.partial.bak",
    }  # fmt: skip
    goes = {
        f".a.onnx.nnx-{gone()}-{random}.partial", f".a\nb.nnx-{gone()}-{random}.partial",
        f".a.onnx.nnx-{os.getpid()}-{random}.partial",
    }  # fmt: skip
    for name in stays | goes:
        (tmp_path / name).write_text("half")
    os.mkfifo(tmp_path / f".pipe.nnx-{gone()}-{random}.partial")
    (tmp_path / f".link.nnx-{gone()}-{random}.partial").symlink_to("elsewhere")
    others = {path.name for path in tmp_path.iterdir()} - stays - goes
    with (tmp_path / living).open("rb") as held:
        assert file_lock.take(held.fileno()) is file_lock.TAKEN
        remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == stays | others


def test_a_process_that_writes_keeps_its_file_while_another_removes_leftovers(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from exporters.atomic_file import staged\n"
        "with staged(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('whole')\n"
        "    print(temporary.name, flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a.txt")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        name = writer.stdout.readline().strip()
        remove_leftovers(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        writer.communicate("\n")
    assert writer.returncode == 0
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_a_file_that_is_replaced_keeps_its_mode(mode: int, tmp_path: Path) -> None:
    final = tmp_path / "a.txt"
    final.write_text("old")
    final.chmod(mode)
    with staged(final) as temporary:
        readers = mode | 0o200
        assert temporary.stat().st_mode & 0o777 & ~readers == 0
        temporary.write_text("new")
    assert final.read_text() == "new"
    assert final.stat().st_mode & 0o777 == mode


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    final = tmp_path / "a.txt"
    with staged(final) as one, staged(final) as other:
        one.write_text("one")
        other.write_text("other")
    assert final.read_text() == "one"
    assert list(tmp_path.iterdir()) == [final]


def test_a_name_as_long_as_names_may_be_can_be_staged_in_itself(tmp_path: Path) -> None:
    final = tmp_path / ("ш" * 127)
    with staged(final) as candidate:
        write_text(candidate, "x")
    assert final.read_text() == "x"


def test_the_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert sha256_of(tmp_path / "empty").startswith("e3b0c44298fc1c149afbf4c8996fb924")


def test_a_failure_leaves_no_folder_that_was_made_for_the_file(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for final in (tmp_path / "old" / "a.txt", tmp_path / "new" / "place" / "a.txt"):
        with pytest.raises(RuntimeError), staged(final):
            raise RuntimeError
    assert list(tmp_path.iterdir()) == [tmp_path / "old"]


def test_a_file_staged_in_a_staged_one_is_no_leftover_to_others(tmp_path: Path) -> None:
    with staged(tmp_path / "a.onnx") as outer:
        write_text(outer, "inner")
        remove_leftovers(tmp_path)
        assert outer.read_text() == "inner"
    assert (tmp_path / "a.onnx").read_text() == "inner"


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "model.onnx").write_text("old")
    (tmp_path / "link.onnx").symlink_to("place/model.onnx")
    write_text(tmp_path / "link.onnx", "new")
    assert (tmp_path / "link.onnx").readlink() == Path("place/model.onnx")
    assert (tmp_path / "place" / "model.onnx").read_text() == "new"
    (tmp_path / "dangling").symlink_to("place/made")
    write_text(tmp_path / "dangling", "made")
    assert (tmp_path / "place" / "made").read_text() == "made"
    assert [path.name for path in (tmp_path / "place").iterdir() if path.name.startswith(".")] == []


def test_nothing_but_a_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("folder", "pipe", "link", "loop", "/dev/null"):
        with pytest.raises(OSError):
            write_text(tmp_path / name, "x")
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "pipe", "link", "loop"}


def test_a_text_names_the_file_that_was_to_be(tmp_path: Path) -> None:
    with staged(tmp_path / "my.model.onnx") as temporary:
        assert with_final_names(f"It refuses {temporary}: no.") == f"It refuses {tmp_path}/my.model.onnx: no."
