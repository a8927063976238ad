"""The command ``nnx``: its commands load when they are called; errors become exit codes here."""

import importlib
import io
import os
import signal
import sys
from pathlib import Path

import click

from toolchain import __version__

# name -> (module, one line of help), so that `nnx --help` imports neither torch nor onnxruntime
COMMANDS = {
    "run": ("toolchain.cli.run", "Train, export, convert, quantize, bench and report a recipe."),
    "train": ("toolchain.cli.train", "Train a recipe with AMP and torch.compile."),
    "export": ("toolchain.cli.export", "Export a PyTorch model to ONNX and prove it."),
    "convert": ("toolchain.cli.convert", "Convert an ONNX model to fp16 or bf16."),
    "quantize": ("toolchain.cli.quantize", "Quantize an ONNX model to int8 or int4."),
    "explain": ("toolchain.cli.explain", "Show each layer's precision, error, size and time."),
    "bench": ("toolchain.cli.bench", "Measure models side by side."),
    "tune": ("toolchain.cli.tune", "Find the session settings that run a model fastest."),
    "compare": ("toolchain.cli.compare", "Compare two benchmarks, row by row."),
    "report": ("toolchain.cli.report", "Write a page of HTML about what was made and measured."),
    "doctor": ("toolchain.cli.doctor", "Look at this machine and say what is missing."),
}


class LazyGroup(click.Group):
    """Knows its commands by name; imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

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
    from toolchain.errors import ExitCode

    _prepare_streams()
    if arguments is None:
        _end_tidily()
    try:
        typed = ("nnx", *(sys.argv[1:] if arguments is None else arguments))  # results say by what they were made
        nnx.main(arguments, prog_name="nnx", standalone_mode=False, obj=typed)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(ExitCode.BAD_USAGE)
    except (KeyboardInterrupt, click.Abort):
        click.echo(
            "\nnnx: interrupted; what was written is kept.",
            err=True,
        )
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # whoever read our output has left: end quietly, without Python's complaint at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.DONE)
    except Exception as error:  # noqa: BLE001 - the edge: a known error is explained, a bug keeps its traceback
        sys.exit(_report(error, show_traceback="--traceback" in (sys.argv if arguments is None else arguments)))


def _end_tidily() -> None:
    """Let what ends a process from outside, such as a CI that gives up, take its temporary files with it."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_DFL:
            signal.signal(getattr(signal, name), end)


def _prepare_streams() -> None:
    """See to it that no print fails after the work is done.

    A character that the stream's encoding lacks becomes "?". A stream that is closed, which Python has as None, goes
    nowhere, under a number that no file can take by then.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
        setattr(sys, name, stream)


def _report(error: Exception, *, show_traceback: bool) -> int:
    from toolchain.console import print_error
    from toolchain.errors import ExitCode, explain

    known = explain(error)
    if known is None or show_traceback:
        sys.excepthook(type(error), error, error.__traceback__)
    if known is None:
        print_error("This is a fault of nnx, not of your input.", "Report it with the lines above.")
        return ExitCode.BUG
    what, do, code = known
    print_error(what, do)
    return code
