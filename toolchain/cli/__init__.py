"""The command ``nnx``: its commands load when they are called; errors become exit codes here."""

import copy
import importlib
import io
import signal
import sys

import click

from toolchain import __version__, streams

# name -> (module, one line of help), so that `nnx --help` imports neither torch nor onnxruntime
COMMANDS = {
    "run": ("toolchain.cli.run", "Train, export, convert, quantize, bench and report a recipe."),
    "train": ("toolchain.cli.train", "Train a recipe with AMP and torch.compile."),
    "export": ("toolchain.cli.export", "Export a PyTorch model to ONNX and prove it."),
    "convert": ("toolchain.cli.convert", "Convert an ONNX model to fp16 or bf16."),
    "quantize": ("toolchain.cli.quantize", "Quantize an ONNX model to int8 or int4."),
    "inspect": ("toolchain.cli.inspect", "Say what a model file holds, what it costs and who runs it."),
    "check": ("toolchain.cli.check", "List every fault of a model file at once."),
    "diff": ("toolchain.cli.diff", "Compare two model files: interface, operators, weights, values."),
    "lighten": ("toolchain.cli.lighten", "Take a model's weights out, or put seeded ones in."),
    "explain": ("toolchain.cli.explain", "Show each layer's precision, error, size and time."),
    "bench": ("toolchain.cli.bench", "Measure models side by side."),
    "tune": ("toolchain.cli.tune", "Find the session settings that run a model fastest."),
    "compare": ("toolchain.cli.compare", "Compare two benchmarks, row by row."),
    "pack": ("toolchain.cli.pack", "Make a package of models that tests itself on a device."),
    "report": ("toolchain.cli.report", "Write a page of HTML about what was made and measured."),
    "keys": ("toolchain.cli.keys", "Make the keys that packages are signed with."),
    "verify": ("toolchain.cli.verify", "Say whether a package is whole, and signed by whom you trust."),
    "push": (
        "toolchain.cli.push",
        "Bring a package to devices, where it is tested before it is live, or to a registry.",
    ),
    "pull": ("toolchain.cli.pull", "Fetch a package from a registry, and look at all of it."),
    "serve": ("toolchain.cli.serve", "Let a package answer over HTTP, for tests and small sites."),
    "doctor": ("toolchain.cli.doctor", "Look at this machine and say what is missing."),
}


class LazyGroup(click.Group):
    """Knows its commands by name; imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        from toolchain.cli import surroundings

        return surroundings.add_to(copy.copy(importlib.import_module(COMMANDS[cmd_name][0]).command))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="nnx")
@click.option("--traceback", is_flag=True, help="Show the traceback of every error.")
def nnx(traceback: bool) -> None:
    """From a PyTorch model to the fastest, smallest, proven ONNX file.

    Results go to stdout, progress and warnings to stderr.

    \b
    Exit codes: 0 done; 1 a check failed (parity, accuracy, speed); 2 wrong usage or input;
    3 not available on this machine; 4 undecided, for want of samples; 70 a fault of nnx; 130 interrupted.

    \b
    Example:
      nnx run digits
    """


def main(arguments: list[str] | None = None) -> None:
    """The console script: run a command, explain its error, exit with the code that tells the truth."""
    given = sys.stdout, sys.stderr
    streams.ready()
    if arguments is None:
        from toolchain.cli import crash_watch

        crash_watch.in_a_process_of_ours = True
        _end_tidily()
    try:
        sys.exit(_run(arguments))
    finally:
        if arguments is None:
            streams.end_results()
        else:
            sys.stdout, sys.stderr = given


def _run(arguments: list[str] | None) -> int:
    typed = ("nnx", *(sys.argv[1:] if arguments is None else arguments))  # results say by what they were made
    try:
        ended = nnx.main(arguments, prog_name="nnx", standalone_mode=False, obj=typed)
        sys.stdout.flush()
    except click.ClickException as error:
        from toolchain.errors import ExitCode
        from toolchain.legible import sentence

        shown = io.StringIO()
        error.show(shown)
        click.echo(sentence(shown.getvalue()), err=True, nl=False)
        return ExitCode.BAD_USAGE
    except (KeyboardInterrupt, click.Abort):
        if _ended_by:
            return 128 + _ended_by[0]
        from toolchain.errors import ExitCode

        click.echo("\nnnx: interrupted; what was written is kept.", err=True)
        return ExitCode.INTERRUPTED
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - the edge, and a panic in a library written in Rust is no Exception
        return _report(error, typed, show_traceback="--traceback" in typed)
    return int(ended or 0)  # click returns the code of its Exit, and our commands nothing


class _Ended(KeyboardInterrupt):
    """A signal that ends us; a user's code whose errors we take raises no KeyboardInterrupt, so nobody swallows it."""


_ended_by: list[int] = []
"""The signals that came: libraries make a plain KeyboardInterrupt of ours."""


def _end_tidily() -> None:
    """Let what ends a process from outside, such as a CI that gives up, take its temporary files with it."""

    def end(number: int, frame: object) -> None:
        _ended_by.append(number)
        raise _Ended

    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_DFL:
            signal.signal(getattr(signal, name), end)


def _report(error: BaseException, typed: tuple[str, ...], *, show_traceback: bool) -> int:
    import traceback

    from toolchain.cli import broken_models
    from toolchain.console import print_error
    from toolchain.errors import ExitCode, explain
    from toolchain.legible import legible

    known = explain(error) or broken_models.refused(typed)
    if known is None or show_traceback:
        click.echo(legible("".join(traceback.format_exception(error)), lines=True), err=True, nl=False)
    if known is None:
        print_error("This is a fault of nnx, not of your input.", "Report it with the lines above.")
        return ExitCode.BUG
    what, do, code = known
    print_error(what, do)
    return code
