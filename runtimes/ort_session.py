"""Starts an ``InferenceSession`` on the provider that was asked for, and on no other."""

import contextlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as pybind

from runtimes import plugin_providers
from runtimes.errors import BadProviderOption, NotLoadable, ProviderUnavailable, RunFailed, shortened
from runtimes.registry import Options, available, provider_of
from runtimes.session_settings import SessionSettings, stored_in

onnxruntime.set_default_logger_severity(4)  # what is amiss is raised too; its coloured lines are no messages of ours

CPU = "CPUExecutionProvider"
_LOAD_ERRORS = (
    pybind.Fail,
    pybind.InvalidArgument,
    pybind.InvalidProtobuf,
    pybind.InvalidGraph,
    pybind.NotImplemented,
    pybind.NoSuchFile,
    pybind.RuntimeException,
)
_START_ERRORS = (RuntimeError, ValueError, pybind.EPFail, pybind.EngineError)
RUN_ERRORS = (
    pybind.Fail,
    pybind.InvalidArgument,
    pybind.RuntimeException,
    pybind.NotImplemented,
    pybind.EPFail,
    pybind.EngineError,
)
"""What a run of a session raises."""
_PLACE = re.compile(r"\S+\.(?:cc|h|cu|cuh|cpp|hpp):\d+ [^()]*\(.*?\)(?: const)?(?:::<lambda.*?>)?(?: \[with .*?\])? ")
"""File, line and function of onnxruntime's source, which stand before what it throws, itself or inside a message."""
_MOST_READ = 4_000
_NO_MEMORY = ("bad_alloc", "Failed to allocate memory", "bad allocation")
_THREADS = {"OpenVINOExecutionProvider": "num_of_threads", "XnnpackExecutionProvider": "intra_op_num_threads"}
"""Providers with threads of their own, which they count by themselves unless this option tells them."""


def start(
    path: Path,
    session_options: onnxruntime.SessionOptions,
    *,
    provider: str = CPU,
    options: Options = (),
    settings: SessionSettings,
    threads: int = 1,
) -> onnxruntime.InferenceSession:
    """A session on ``provider``, named as onnxruntime names it, with the provider's own ``options``.

    ``session_options`` are changed; of ``settings`` only the disabled optimizers are taken. Raises
    ProviderUnavailable, BadProviderOption, NotLoadable.
    """
    _refuse_other_threads(provider, options, threads)
    if not (there := available("ort", provider_of(provider))):
        raise ProviderUnavailable(str(there.why), str(there.do))
    if provider == CPU and options:
        raise BadProviderOption(  # onnxruntime 1.31 ignores them
            f"The CPU provider takes no options, given were {_listed(options)}.", "Leave them out."
        )
    providers = _prepare(provider, _with_threads(provider, options, threads), session_options)
    try:
        session = onnxruntime.InferenceSession(
            str(path),
            session_options,
            providers=providers,
            disabled_optimizers=list(settings.disabled_optimizers),
            # without it a provider or an option that fails is told on stdout, and the CPU runs the model
            enable_fallback=0,
        )
    except _LOAD_ERRORS as error:
        raise NotLoadable(
            f"ONNX Runtime refuses {path}: {reason_of(error)}.",
            "Check it with onnx.checker.check_model, or export it again.",
        ) from error
    except _START_ERRORS as error:
        raise _not_started(provider, options, reason_of(error)) from error
    if provider not in session.get_providers():  # a library that is missing gives a CPU session and a log line
        reason = f"ONNX Runtime fell back to {', '.join(session.get_providers())}"
        raise _not_started(provider, options, reason)
    session.disable_fallback()  # onnxruntime 1.22 does not heed the argument
    return session


def _prepare(
    provider: str, options: dict[str, str], session_options: onnxruntime.SessionOptions
) -> list[tuple[str, dict[str, str]]] | None:
    """The session's ``providers``; None for one of a package of its own, which ``session_options`` take."""
    plugin = provider_of(provider).plugin
    if plugin and provider not in plugin_providers.built_in():
        device, rest = plugin_providers.choose(plugin_providers.devices(provider, plugin), options)
        session_options.add_provider_for_devices([device], rest)
        return None
    if provider.startswith("CUDA") and hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it misses
            onnxruntime.preload_dlls()
    return [(provider, options)] if provider == CPU else [(provider, options), (CPU, {})]


def chosen_settings(path: Path, provider: str, settings: SessionSettings | None) -> SessionSettings:
    """``settings``, else those stored in the file, which are for the CPU, on which they were measured.

    Raises NotLoadable for stored ones that cannot be read.
    """
    return settings or (stored_in(path) if provider == CPU else None) or SessionSettings()


def own_threads(provider: str, options: Options) -> str | None:
    """Who else says how many threads the provider has, in words; None where the caller alone does."""
    # OpenVINO's load_config may hold a number of threads, in a form that only OpenVINO reads
    return "as load_config says" if provider in _THREADS and "load_config" in dict(options) else None


def run_failed(error: Exception) -> RunFailed | MemoryError:
    """What a run of a session raised, as ours; as MemoryError where there was none left."""
    if any(said in str(error)[:_MOST_READ] for said in _NO_MEMORY):
        return MemoryError(reason_of(error))
    return RunFailed(f"ONNX Runtime failed: {reason_of(error)}.", "Try a smaller batch, or another provider.")


def reason_of(error: Exception) -> str:
    """The sentence in what onnxruntime says, without the places in its source, its error code and the full stop."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    # a name in it may have a million characters, and the expression takes the square of their number
    return shortened(_PLACE.sub("", line[:_MOST_READ]).rpartition(" : ")[2])


def _refuse_other_threads(provider: str, options: Options, threads: int) -> None:
    """A row that is labelled with one number of threads and runs on another would be compared wrongly."""
    name = _THREADS.get(provider, "")
    own = dict(options).get(name, str(threads))
    if own != str(threads):
        raise BadProviderOption(
            f"{provider}: {name}={own} contradicts the number of threads asked for, {threads}.",
            "Leave the option out: it gets that number.",
        )


def _with_threads(provider: str, options: Options, threads: int) -> dict[str, str]:
    if provider not in _THREADS or own_threads(provider, options):
        return dict(options)
    return {_THREADS[provider]: str(threads), **dict(options)}


def _not_started(provider: str, options: Sequence[tuple[str, str]], reason: str) -> Exception:
    if any(name in reason for name, _ in options):
        return BadProviderOption(f"{provider} refuses {_listed(options)}: {reason}.", "See onnxruntime's page on it.")
    given = f" with {_listed(options)}" if options else ""
    libraries = "the CUDA and cuDNN libraries that this onnxruntime wants" if provider.startswith("CUDA") else ""
    mend = " and ".join(filter(None, ["the options" if options else "", "the driver", libraries]))
    return ProviderUnavailable(f"{provider} did not start{given}: {reason}.", f"Check {mend}; `nnx doctor` helps.")


def _listed(options: Sequence[tuple[str, str]]) -> str:
    return ",".join(f"{name}={value}" for name, value in options)
