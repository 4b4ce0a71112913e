"""Whatever is wrong with the words of a command is said in one form: fact, numbers, fix."""

from __future__ import annotations

from typing import Any

import pytest
import typer.main

from segedge.cli.main import VERBS, build_app
from tests.small_model import run_verb


def options(verb: str) -> list[tuple[str, bool]]:
    """An option's longest name, and whether it takes no value."""
    app: Any = typer.main.get_command(build_app([verb]))
    found = app.commands[verb].params
    return [(p.opts[-1], bool(p.is_flag)) for p in found if p.param_type_name == "option"]


def arguments(verb: str) -> list[str]:
    app: Any = typer.main.get_command(build_app([verb]))
    found = [p for p in app.commands[verb].params if p.param_type_name == "argument"]
    return ["nowhere.onnx", *["x"] * (len(found) - 1)] if found else []


def refused(*words: str) -> str:
    """What is said on exit code 2, its spaces alike."""
    done = run_verb(*words, code=2)
    assert done.stderr.startswith("error: "), (words, done.stderr)
    for foreign in ("Usage:", "╭", "Value error", "Input should", "Invalid value"):
        assert foreign not in done.stdout + done.stderr, (words, done.stderr)
    said = " ".join(done.stderr.split())
    # A name that is not known has the known ones; a file that is not there is what it is.
    is_told = (
        " fix " in said or " known " in said or "nowhere.onnx" in said or "x not found" in said
    )
    assert is_told, (words, said)
    return said


@pytest.mark.parametrize("verb", VERBS)
def test_a_bad_value_of_any_option(verb: str) -> None:
    """Most words and numbers are wrong for most options; no model is there to begin with."""
    for name, is_flag in options(verb):
        if verb in ("cache", "doctor", "warm") and not is_flag:
            continue  # they take no model, and would do their work
        for value in ("foo",) if is_flag else ("foo", "-7", "nan"):
            said = refused(verb, *arguments(verb), f"{name}={value}")
            if is_flag:
                assert f"option '{name}' does not take a value" in said
                assert f"fix segedge {verb} --help" in said


@pytest.mark.parametrize("verb", VERBS)
def test_an_option_that_is_not_there(verb: str) -> None:
    said = refused(verb, *arguments(verb), "--hlep")
    assert said == (
        f"error: no option '--hlep'; did you mean '--help'? fix segedge {verb} --help lists them"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "m.onnx", "x", "--every", "2", "--motion", "foo"],
         "no motion 'foo' known auto, flow, codec fix --motion auto"),
        (["rnu"], "no verb 'rnu'; did you mean 'run'? known export, run,"),
        (["run"], "missing argument 'model' fix segedge run --help"),
        (["run", "m", "x", "--fps"], "option '--fps' requires an argument fix segedge run --help"),
        (["--hlep"], "no option '--hlep'; did you mean '--help'? fix segedge --help lists them"),
    ],
)  # fmt: skip
def test_in_these_words(words: list[str], said: str) -> None:
    assert (
        refused(*words).lower().startswith(f"error: {said}".lower())
    )  # Typer writes MODEL, or model


def test_no_words_are_a_wish_for_the_help() -> None:
    assert run_verb().stdout == run_verb("--help").stdout
