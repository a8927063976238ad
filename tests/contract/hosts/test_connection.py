"""What agent.py does for whoever asks it, in a real process: files by their digests, programs, and a clean end."""

import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.hosts.far_side import connected
from toolchain.errors import NotAvailable
from toolchain.hosts.connection import Connection
from toolchain.processes.turns import JobFailed

ECHO = """
import json, os, sys, time
for line in sys.stdin:
    request = json.loads(line)
    time.sleep(request.get("sleep", 0))
    if request["op"] == "die":
        sys.exit("out of luck")
    if request["op"] == "outputs":
        open(request["path"], "wb").write(b"o" * 3_000_000)
    if request["op"] == "babble":
        print("hello")
        sys.stdout.flush()
        continue
    told = {"pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"], "cpus": sorted(os.sched_getaffinity(0))}
    print(json.dumps({"result": told}))
    sys.stdout.flush()
"""


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the other side makes its folders."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))


def left(tmp_path: Path) -> object:
    """What the other side left, once it had a moment to tidy up."""
    return eventually(lambda: sorted(path.name for path in (tmp_path / "temporary").iterdir()), [])


def eventually(look: Callable[[], object], wanted: object) -> object:
    for _ in range(100):
        if look() == wanted:
            break
        time.sleep(0.05)
    return look()


def started(connection: Connection, cpus: list[int] | None = None) -> int:
    folder = connection.ask("make", files={}, texts={"deep/echo.py": ECHO})
    number = connection.ask("start", program=f"{folder}/deep/echo.py", threads=3, cpus=cpus or [])
    assert isinstance(number, int)
    return number


def asked(connection: Connection, worker: int, operation: str, **arguments: object) -> dict[str, object]:
    found = connection.ask_worker(worker, operation, limit_s=2.0, told_s=2.0, **arguments)
    assert isinstance(found, dict)
    return found


def is_running(pid: object) -> bool:
    assert isinstance(pid, int)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_a_file_is_kept_by_its_digest_and_not_asked_for_again(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(os.urandom(3_000_001))
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    kept = tmp_path / "kept"
    for missing in ([sha256], []):
        with connected(str(kept)) as connection:
            assert connection.ask("lacks", sha256=[sha256]) == missing
            if missing:
                connection.put(file, sha256)
            folder = Path(connection.ask("make", files={"a/b.bin": sha256}, texts={}))
            assert (folder / "a" / "b.bin").read_bytes() == file.read_bytes()
        assert eventually(lambda: [path.name for path in kept.iterdir()], ["files"]) == ["files"]
    (kept / "files" / sha256).write_bytes(b"worn out")
    with connected(str(kept)) as connection:
        assert connection.ask("lacks", sha256=[sha256]) == [sha256]


def test_what_arrives_otherwise_than_it_was_sent_gets_no_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    with connected() as connection:
        with pytest.raises(JobFailed, match="what arrived is not what was sent"):
            connection.put(tmp_path / "file", "0" * 64)
        assert connection.ask("lacks", sha256=["0" * 64]) == ["0" * 64]
    assert left(tmp_path) == []


def test_a_full_disk_is_said_and_the_next_request_is_heard(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 5_000_000)
    with connected() as connection:
        place = next((tmp_path / "temporary").iterdir()) / "coming"
        place.symlink_to("/dev/full")
        with pytest.raises(JobFailed, match="here says: no space left on device"):
            connection.put(tmp_path / "file", "0" * 64)
        place.unlink()
        assert connection.ask("lacks", sha256=[]) == []


def test_a_program_has_its_threads_and_processors_and_its_outputs_come_back(tmp_path: Path) -> None:
    cpu = max(os.sched_getaffinity(0))
    with connected() as connection:
        worker = started(connection, [cpu])
        told = asked(connection, worker, "anything")
        assert (told["threads"], told["cpus"]) == ("3", [cpu])
        asked(connection, worker, "outputs", path=connection.ask("place_for_outputs"))
        connection.get_outputs(tmp_path / "came")
        assert (tmp_path / "came").read_bytes() == b"o" * 3_000_000
        connection.ask("end", worker=worker)
        assert not is_running(told["pid"])
    assert left(tmp_path) == []


def test_one_that_hangs_crashes_or_babbles_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    with connected() as connection:
        hanging, dying, babbling, good = (started(connection) for _ in range(4))
        pid = asked(connection, hanging, "hello")["pid"]
        with pytest.raises(JobFailed, match="It took longer than 2 s to take its turn") as failure:
            asked(connection, hanging, "turn", sleep=60)
        assert failure.value.kind == "timeout"
        assert not is_running(pid)
        with pytest.raises(JobFailed, match=r"Its process ended with exit code 1\. out of luck"):
            asked(connection, dying, "die")
        with pytest.raises(JobFailed, match="Its process ended with exit code 1"):
            asked(connection, dying, "hello")
        with pytest.raises(JobFailed, match="It said 'hello' where an answer was due"):
            asked(connection, babbling, "babble")
        assert asked(connection, good, "hello")["threads"] == "3"
    assert left(tmp_path) == []


def test_a_program_that_cannot_be_pinned_is_refused() -> None:
    with connected() as connection, pytest.raises(JobFailed, match="the program cannot be started on processor 4000"):
        started(connection, [4000])


@pytest.mark.parametrize("whose", ["agent", "asker"])
def test_killed_in_a_turn_nothing_is_left(whose: str, tmp_path: Path) -> None:
    """Whether the other side's Python is killed, or what connects us to it."""
    with connected() as connection:
        worker = started(connection)
        pid = asked(connection, worker, "hello")["pid"]
        agent = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        if whose == "agent":
            os.kill(agent, signal.SIGKILL)
        else:
            connection._to.close()  # what a killed ssh leaves of the pipe there
        with pytest.raises(JobFailed) as failure:
            asked(connection, worker, "turn", sleep=30)
        assert failure.value.kind == "lost"
        with pytest.raises(JobFailed) as failure:
            connection.ask("lacks", sha256=[])
        assert failure.value.kind == "lost"
        assert eventually(lambda: is_running(pid), False) is False
    assert left(tmp_path) == []


def test_silence_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is gone closes no pipe: the other side ends when it hears nothing, the turn that goes on too."""
    from toolchain.hosts import connection as module

    text = module.text_of("agent.py").replace("PATIENCE_S = 90.0", "PATIENCE_S = 1.0")
    assert "PATIENCE_S = 1.0" in text
    begin = module.text_of("begin.sh")
    monkeypatch.setattr(module, "text_of", lambda name: text if name == "agent.py" else begin)
    with connected() as connection:
        worker = started(connection)
        pid = asked(connection, worker, "hello")["pid"]
        with pytest.raises(JobFailed, match="what runs on here broke off") as failure:
            asked(connection, worker, "turn", sleep=30)
        assert failure.value.kind == "lost"
        assert eventually(lambda: is_running(pid), False) is False
    assert left(tmp_path) == []
    monkeypatch.setattr(module, "_BEAT_S", 0.2)
    with connected() as connection:
        worker = started(connection)
        time.sleep(2.5)
        assert asked(connection, worker, "turn", sleep=1.8)["threads"] == "3"


def test_a_folder_that_cannot_be_written_is_said() -> None:
    with (
        pytest.raises(NotAvailable, match="here says: /proc/nowhere cannot be used: No such file"),
        connected("/proc/nowhere"),
    ):
        pass


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/false"])
def test_a_python_that_is_none_is_said(python: str) -> None:
    with (
        pytest.raises(NotAvailable, match=f"{python} is not there, or has no numpy and onnxruntime"),
        connected(python=python),
    ):
        pass
