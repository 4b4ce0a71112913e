"""The `segedge` command: verbs, errors and exit codes."""

from __future__ import annotations

import importlib
import logging
import re
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from segedge.cli import standard
from segedge.cli.console import print_error, say
from segedge.cli.leave import leave
from segedge.errors import SegedgeError, UsageError, unknown_name_error
from segedge.machine.interrupt import BY_SIGNAL, noted_interrupts
from segedge.version import __version__

VERBS = {
    "export": "A trained PyTorch network to one ONNX file that describes itself.",
    "run": "Segment images, videos, cameras and streams.",
    "batch": "Many files to masks, overlays and one table, on one machine or a cluster.",
    "eval": "How accurate a model is on a labelled data set.",
    "quantize": "An ONNX model to int8, within a bound on the accuracy lost.",
    "adapt": "A model fitted to a camera by its unlabelled images.",
    "build": "An ONNX model to a TensorRT engine.",
    "triton": "A model to a repository of the Triton Inference Server.",
    "warm": "Compile all that a run needs into the cache: for images and first starts.",
    "bench": "How fast a model is here, backend by backend; or compare two measurements.",
    "optimize": "Which precision on which backend is best here.",
    "compare": "Where two models or backends differ, on the same images.",
    "cache": "List or delete the engines that were built.",
    "prove": "A proof for a file: what it computes, to be checked wherever it is opened.",
    "inspect": "What a model file holds: card, inputs, outputs, parity, size.",
    "doctor": "What is installed, which backends work (a model, too), and what mends the rest.",
}
"""Verb to its line in the help; ``VERB_command`` stands in ``segedge/cli/verbs/VERB.py``."""

MAY_STAND_ALONE = {
    "--live": r"(\[[0-9a-fA-F:]+\]|[\w.-]*):\d+|\d{3,5}",
    "--smooth": r"-?\d*\.\d+",
    "--sequence": r".+\.(txt|lst|list|csv)",
    "--ray": r"(ray://)?(\[[0-9a-fA-F:]+\]|[\w.-]+):\d+|auto",
}
"""Options that may stand alone, and the pattern of a word that follows and is theirs.

Others would be taken for a source: a host without a port, a number without a point (a camera).
``--live=HOST`` and ``--smooth=0`` are clear.
"""

_LONG_NAME = 100
_CTRL_C = BY_SIGNAL + signal.SIGINT


def main() -> None:
    """Entry point of the console script: `run`, and a quick end of the process."""
    standard.make_ready()
    try:
        run()
    except SystemExit as left:
        if isinstance(left.code, int):
            leave(left.code)
        raise
    leave(0)


def run(arguments: list[str] | None = None) -> None:
    """One call of the command line, within a process that goes on.

    Exit codes: 0 done; 1 done, but some inputs failed; 2 the user must mend something;
    3 `bench --compare` found a regression; 130 Ctrl-C, 143 SIGTERM, 129 a closed terminal.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    _show_log()
    words = with_values([word for word in words if word != "--debug"])
    try:
        with noted_interrupts() as code_by_signal:
            code = called(words)
            if code == _CTRL_C:  # so Typer ends what any of the signals interrupted
                code = code_by_signal() or code
        sys.exit(code)
    except SegedgeError as error:
        if debug:
            raise
        print_error(error)
        sys.exit(2)
    except OSError as error:
        if debug or error.filename is None:
            raise
        # Of a name that was given: too long, in a folder that may not be searched ...
        name = str(error.filename)
        print_error(
            UsageError(
                f"{name if len(name) <= _LONG_NAME else name[:_LONG_NAME] + '...'} cannot be used",
                facts={"found": error.strerror or type(error).__name__},
                fix="check the name and its folder's rights; --debug shows where it was met",
            )
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(_CTRL_C)


def called(words: list[str]) -> int:
    """Call the verb; its exit code.

    Raises:
        UsageError: Typer cannot read the words; what it says in a form of its own, in ours.
    """
    try:
        return build_app(words)(words or ["--help"], standalone_mode=False) or 0
    except KeyboardInterrupt:
        return _CTRL_C
    except typer.Abort as end:
        if isinstance(end.__cause__, EOFError):  # nobody is asked anything here: a fault of ours
            raise end.__cause__ from None
        return _CTRL_C
    except _Misread as error:
        raise _in_our_words(error, words) from error


_Misread: Any = typer.BadParameter.__mro__[1]
"""Typer's, which is Click's in earlier releases: what all that it says of options are."""


def _in_our_words(error: Any, words: list[str]) -> UsageError:
    verb = _verb(words)
    if verb and verb not in VERBS:
        return unknown_name_error("verb", verb, tuple(VERBS))
    fix = " ".join(["segedge", *verb.split(), "--help"])
    option, ctx = getattr(error, "option_name", ""), error.ctx
    known = [name for each in ctx.command.get_params(ctx) for name in each.opts] if ctx else []
    if option and known and option not in known:
        found = unknown_name_error("option", option, known)
        return UsageError(found.headline, fix=f"{fix} lists them")
    said = error.format_message().strip().rstrip(".")
    return UsageError(said[:1].lower() + said[1:], fix=f"{fix} says how it is used")


class _Lines(logging.Handler):
    """What the library says while it works (why an engine is built), a line each on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def _show_log() -> None:
    log = logging.getLogger("segedge")
    log.setLevel(logging.INFO)
    if not any(isinstance(handler, _Lines) for handler in log.handlers):
        log.addHandler(_Lines())


def with_values(words: list[str]) -> list[str]:
    """An option that may stand alone gets an empty value where none follows that it can mean."""
    given = list(words)
    for number, (word, following) in enumerate(zip(words, [*words, ""][1:], strict=True)):
        if word in MAY_STAND_ALONE and not re.fullmatch(MAY_STAND_ALONE[word], following):
            given[number] = f"{word}="
    return given


def build_app(words: list[str]) -> typer.Typer:
    """The Typer app; only the verb that is called has its module imported."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_global_options)
    verb = _verb(words)
    for name, line in VERBS.items():
        app.command(name=name, short_help=line)(_command(name) if name == verb else _placeholder)
    return app


def _verb(words: list[str]) -> str:
    return next((word for word in words if not word.startswith("-")), "")


def _command(verb: str) -> Callable[..., None]:
    from segedge.cli.groups import expanded

    module = "segedge.cli.run.command" if verb == "run" else f"segedge.cli.verbs.{verb}"
    function: Callable[..., None] = getattr(importlib.import_module(module), f"{verb}_command")
    return expanded(function)


def _placeholder() -> None:
    """Stand in for a verb that is not called: the help lists its name only."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"segedge {__version__}")
        raise typer.Exit


def _global_options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; goes anywhere.")
    ] = False,
) -> None:
    """Trained PyTorch segmentation networks to real-time video on the edge."""


if __name__ == "__main__":
    main()
