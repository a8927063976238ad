"""Where PyTorch is not installed, as on a Python that it has no small wheel for, what needs it skips and says so."""

import importlib.util
from collections.abc import Generator, Iterable
from pathlib import Path

import pytest

NO_TORCH = "needs PyTorch, which is not installed"
_HAS_TORCH = importlib.util.find_spec("torch") is not None


def _lacks_torch(error: BaseException | None) -> bool:
    """Whether that is what an error comes from: a user's file that imports torch is refused in words of ours."""
    while error is not None and not isinstance(error, ModuleNotFoundError):
        error = error.__cause__
    return not _HAS_TORCH and error is not None and error.name == "torch"


class _TorchlessModule(pytest.Module):
    """A file of tests that skips as a whole when it, or what it imports, imports torch."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            return super().collect()
        except self.CollectError as error:
            if _lacks_torch(error.__cause__):
                pytest.skip(NO_TORCH, allow_module_level=True)
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return None if _HAS_TORCH else _TorchlessModule.from_parent(parent, path=module_path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    try:
        return (yield)
    except Exception as error:
        if _lacks_torch(error):
            pytest.skip(NO_TORCH)
        raise
