import threading
from typing import Any

import pytest

from toolchain.ablation.together import Together
from toolchain.processes.turns import JobFailed


class Worker:
    """Answers with its rank; the second fails, and the first waits until it is gone."""

    gone = threading.Event()

    def __init__(self, job: str, spec: dict[str, Any]) -> None:
        self.rank = spec["world"]["rank"]

    def open(self) -> None:
        """Nothing is to be done."""

    def ask(self, operation: str, *, extra_s: float = 0.0, **arguments: Any) -> Any:
        if operation == "rank":
            return self.rank
        if self.rank == 1:
            raise JobFailed("crash", "It was killed.", "Try a smaller batch.")
        assert self.gone.wait(20)
        raise JobFailed("crash", "Another is gone.", "Look at it.")

    def close(self) -> None:
        if self.rank == 1:
            self.gone.set()


def test_the_answer_is_the_first_ones_and_a_failure_that_of_whoever_failed_first() -> None:
    together = Together(Worker, "job", {}, processes=2)
    together.open()
    assert together.ask("rank") == 0
    with pytest.raises(JobFailed, match="It was killed"):
        together.ask("part")
    together.close()
