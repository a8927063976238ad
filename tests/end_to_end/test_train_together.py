"""`nnx train` in several processes: by itself, by torchrun, killed, wrong."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.end_to_end.command import run_nnx, start_nnx

PLAIN = ("--amp", "off", "--no-compile", "--epochs", 3)
ALONE_AGAIN = 20.0
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "toolchain")


def curve(folder: Path) -> list[float]:
    """Loss and scores of each epoch."""
    told = json.loads((folder / "training.json").read_text())
    return [value for each in told["epochs"] for value in (each["loss"], each["train_score"], each["validation_score"])]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    folder = tmp_path_factory.mktemp("alone")
    ended = run_nnx("train", "digits", *PLAIN, "--out", "one", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    return curve(folder / "one")


def test_two_processes_follow_the_curve_of_one(alone: list[float], tmp_path: Path) -> None:
    ended = run_nnx("train", "digits", *PLAIN, "--nproc", 2, "--sync-batchnorm", "--out", "two", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("checkpoint.pt") == 1
    assert "2 processes train together, 64 samples a step in all." in ended.stderr
    assert curve(tmp_path / "two") == pytest.approx(alone, rel=0.01)
    assert json.loads((tmp_path / "two" / "training.json").read_text())["processes"] == 2


def test_torchrun_starts_one_training_and_no_other_command(alone: list[float], tmp_path: Path) -> None:
    command = [*TORCHRUN, "train", "digits", *map(str, PLAIN), "--sync-batchnorm", "--out", "two", "--json"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert len(json.loads(ended.stdout)["epochs"]) == 3
    assert curve(tmp_path / "two") == pytest.approx(alone, rel=0.01)
    ended = subprocess.run([*TORCHRUN, "run", "digits"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "torchrun starts it several times over, in the same folder: run it alone." in ended.stderr
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.slow
def test_what_is_wrong_is_said_once(tmp_path: Path) -> None:
    for arguments, what in (
        (("--nproc", 2, "--batch-size", 1), "A step has 1 samples, and 2 processes do it in 1 parts each."),
        (("--nproc", 2, "--lr", "1e30"), "The loss became NaN in epoch 1"),
        (("--max-restarts", 2), "--max-restarts would do nothing without --nproc."),
        (("--ablate", "--accumulate", 2), "--accumulate would do nothing with --ablate."),
    ):
        ended = run_nnx("train", "digits", *PLAIN, *arguments, "--out", "x", cwd=tmp_path)
        assert ended.returncode == 2, ended.stderr
        assert ended.stderr.count(what) == 1, ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_told_once(tmp_path: Path) -> None:
    ended = run_nnx("train", "digits", "--nproc", 2, "--device", "cuda", cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("PyTorch sees no CUDA device.")) == (3, 1), ended.stderr


def processes_of(folder: Path) -> list[int]:
    """Those that train in ``folder``, the launcher not among them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"TORCHELASTIC_RUN_ID=" in environment and str(folder).encode() in line:
                found.append(int(entry.name))
    return found


def killed_once(
    folder: Path, after_s: float, draw: random.Random, *, trained: bool
) -> subprocess.CompletedProcess[str]:
    """A training of which one process is killed so long after its first epoch, or after it began."""
    running = start_nnx(
        "train", "digits", *PLAIN, "--nproc", 2, "--sync-batchnorm", "--max-restarts", 2, "--out", folder, cwd=folder
    )
    while len(there := processes_of(folder)) < 2 and running.poll() is None:
        time.sleep(0.02)
    while trained and not (folder / "resume.pt").exists() and running.poll() is None:
        time.sleep(0.01)
    time.sleep(after_s)
    there = processes_of(folder)
    assert there or not trained
    for process in there[:1] if trained else there and [draw.choice(there)]:
        os.kill(process, signal.SIGKILL)
    out, err = running.communicate(timeout=300)
    return subprocess.CompletedProcess([], running.returncode, out, err)


def test_a_killed_process_costs_an_epoch_at_most(alone: list[float], tmp_path: Path) -> None:
    ended = killed_once(tmp_path, 0.0, random.Random(0), trained=True)
    assert ended.returncode == 0, ended.stderr
    assert curve(tmp_path) == pytest.approx(alone, rel=0.01)
    assert not list(tmp_path.glob(".*partial*"))


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(20))
def test_a_process_killed_at_any_moment_costs_an_epoch_at_most(seed: int, alone: list[float], tmp_path: Path) -> None:
    draw = random.Random(seed)
    ended = killed_once(tmp_path, draw.uniform(0, 6), draw, trained=False)
    assert ended.returncode == 0, ended.stderr
    assert curve(tmp_path) == pytest.approx(alone, rel=0.01)
    assert not list(tmp_path.glob(".*partial*"))


@pytest.mark.slow
def test_a_process_of_another_machine_is_killed_and_all_begin_after_the_last_epoch(
    alone: list[float], tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ("--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "1")
    where = ("--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr", "127.0.0.1", "--max-restarts", "2")
    command = [*TORCHRUN[:3], *launcher, *where, *TORCHRUN[-2:], "train", "digits", *map(str, PLAIN)]
    machines = [
        subprocess.Popen(
            [*command, "--sync-batchnorm", "--out", tmp_path], cwd=tmp_path, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    while not (tmp_path / "resume.pt").exists() and machines[0].poll() is None:
        time.sleep(0.01)
    (other,) = (each for each in processes_of(tmp_path) if b"\0RANK=1\0" in Path(f"/proc/{each}/environ").read_bytes())
    os.kill(other, signal.SIGKILL)
    told = "".join(each.communicate(timeout=200)[1] for each in machines)
    assert [each.returncode for each in machines] == [0, 0], told
    assert "Resuming after epoch" in told
    assert curve(tmp_path) == pytest.approx(alone, rel=0.01)


@pytest.mark.slow
def test_a_killed_process_is_told_and_training_goes_on_with_another_number(alone: list[float], tmp_path: Path) -> None:
    arguments = ("train", "digits", *PLAIN, "--sync-batchnorm", "--out", tmp_path)
    running = start_nnx(*arguments, "--nproc", 2, cwd=tmp_path)
    while not (tmp_path / "resume.pt").exists() and running.poll() is None:
        time.sleep(0.02)
    os.kill(processes_of(tmp_path)[0], signal.SIGKILL)
    _, err = running.communicate(timeout=100)
    assert running.returncode == 3, err
    assert "of the training was killed, most likely for want of memory." in err
    assert not processes_of(tmp_path)
    ended = run_nnx(*arguments, "--resume", "--nproc", 4, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "Resuming after epoch" in ended.stderr
    assert curve(tmp_path) == pytest.approx(alone, rel=0.01)


@pytest.mark.slow
def test_more_epochs_go_on_with_another_number(tmp_path: Path) -> None:
    arguments = ("train", "digits", *PLAIN[:3], "--out", tmp_path)
    assert run_nnx(*arguments, "--epochs", 1, "--nproc", 2, cwd=tmp_path).returncode == 0
    ended = run_nnx(*arguments, "--epochs", 2, "--nproc", 3, "--resume", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "The learning rate's schedule was over 1 epochs: a new one began after them." in ended.stderr
    assert len(curve(tmp_path)) == 6


def test_processes_end_with_their_launcher(tmp_path: Path) -> None:
    running = start_nnx("train", "digits", "--epochs", 50, *PLAIN[:3], "--nproc", 2, "--out", tmp_path, cwd=tmp_path)
    while len(processes_of(tmp_path)) < 2 and running.poll() is None:
        time.sleep(0.02)
    time.sleep(3)
    running.kill()
    running.communicate()
    end = time.monotonic() + ALONE_AGAIN
    while processes_of(tmp_path) and time.monotonic() < end:
        time.sleep(0.1)
    assert not processes_of(tmp_path)


@pytest.mark.parametrize(("number", "code", "said"), [(signal.SIGINT, 130, 1), (signal.SIGTERM, 143, 0)])
def test_who_ends_the_launcher_ends_all_and_is_told_once(number: int, code: int, said: int, tmp_path: Path) -> None:
    arguments = ("train", "digits", "--epochs", 500, *PLAIN[:3], "--nproc", 2, "--out", tmp_path)
    running = start_nnx(*arguments, cwd=tmp_path)
    while not (tmp_path / "resume.pt").exists() and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(number)
    _, err = running.communicate(timeout=100)
    assert running.returncode == code, err
    assert err.count("nnx: ") == err.count("interrupted; what was written is kept.") == said, err
    assert not processes_of(tmp_path)


def test_a_restart_takes_up_no_other_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("train", "digits", *PLAIN[:3], "--out", "x")
    assert run_nnx(*arguments, "--epochs", 2, cwd=tmp_path).returncode == 0
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    ended = run_nnx(*arguments, "--epochs", 1, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "Resuming" not in ended.stderr


@pytest.mark.slow
def test_the_others_wait_for_nothing_after_the_training(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import os, time\nfrom dataclasses import replace\nfrom toolchain.recipes.digits import recipe as given\n"
        "made = []\n\n\ndef model():\n    made.append(1)\n"
        "    if os.environ['RANK'] == '0' and len(made) == 3:  # the one that the test split is judged with\n"
        "        time.sleep(12)\n    return given.model()\n\n\nrecipe = replace(given, model=model)\n"
    )
    arguments = ("train", "slow.py:recipe", *PLAIN[:3], "--epochs", 1, "--nproc", 2, "--hang-timeout", "6s")
    ended = run_nnx(*arguments, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_a_process_that_hangs_is_told(tmp_path: Path) -> None:
    arguments = ("train", "digits", "--epochs", 500, *PLAIN[:3], "--nproc", 2, "--hang-timeout", "4s")
    running = start_nnx(*arguments, "--out", tmp_path, cwd=tmp_path)
    while not (tmp_path / "resume.pt").exists() and running.poll() is None:
        time.sleep(0.02)
    os.kill(processes_of(tmp_path)[0], signal.SIGSTOP)
    _, err = running.communicate(timeout=100)
    assert running.returncode == 3, err
    assert "Another process of the training hangs" in err
    assert err.count("nnx: ") == 1, err
