"""A group of options: one declaration, spelled out in every verb that has it by one parameter."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
import typer
from typer.testing import CliRunner

from segedge.cli.groups import Option, expanded
from segedge.cli.main import MAY_STAND_ALONE, with_values
from segedge.errors import UsageError

Flow = Literal["dis", "codec"]


@dataclass(frozen=True)
class MotionGroup:
    panel: ClassVar[str] = "Motion"
    every: Annotated[str, Option("From key to key.", "-e --every", metavar="N")] = "1"
    flow: Annotated[Flow, "Where it comes from."] = "dis"
    least: Annotated[int, Option("Pixels.", min=2, panel="Elsewhere")] = 2
    is_drawn: Annotated[bool, "Show it."] = False
    on_gpu: Annotated[bool, "Compute it there."] = True

    @cached_property
    def step(self) -> int:
        try:
            return int(self.every)
        except ValueError:
            raise UsageError(f"no step {self.every!r}") from None


@dataclass(frozen=True, kw_only=True)
class Everything:
    path: Annotated[Path, typer.Argument(help="A file.")]
    motion: MotionGroup
    limit: Annotated[int | None, "At most."] = None
    share: Annotated[float | None, Option("Of all.", min=0.5, max=1)] = None


def call(command: object, *words: str) -> tuple[int, str, BaseException | None]:
    app = typer.Typer()
    app.command()(expanded(command))  # type: ignore[arg-type]
    done = CliRunner().invoke(app, list(words), env={"NO_COLOR": "1", "COLUMNS": "100"})
    return done.exit_code, done.output, done.exception


def in_one_parameter(
    path: Annotated[Path, typer.Argument()],
    motion: MotionGroup,
    limit: Annotated[int | None, "At most."] = None,
    share: Annotated[float | None, Option("Of all.", min=0.5, max=1)] = None,
) -> None:
    """Look."""
    print(path, motion.step, motion, limit, *filter(None, [share]))


def nested(wanted: Everything) -> None:
    """Look."""
    in_one_parameter(wanted.path, wanted.motion, wanted.limit, wanted.share)


@pytest.mark.parametrize("command", [in_one_parameter, nested])
def test_a_verb_is_handed_the_filled_group(command: object) -> None:
    assert call(command, "x")[1] == f"x 1 {MotionGroup()} None\n"
    words = ("-e", "4", "--flow", "codec", "--least", "3", "--is-drawn", "--no-on-gpu")
    assert (
        call(command, "x", *words, "--limit", "2")[1]
        == f"x 4 {MotionGroup('4', 'codec', 3, True, False)} 2\n"
    )


def test_help_says_what_the_fields_say() -> None:
    code, text, _ = call(nested, "--help")
    assert code == 0
    own, elsewhere = text.index("─ Motion ─"), text.index("─ Elsewhere ─")
    assert own < text.index("From key to key.") < elsewhere < text.index("Pixels.")
    for word in ("--every", "-e", " N ", "dis|codec", "x>=2", "--on-gpu", "--no-on-gpu", "Look."):
        assert word in text, word
    assert "--no-is-drawn" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--flow", "coedc"),
            "no flow 'coedc'; did you mean 'codec'?|known dis, codec|fix --flow codec",
        ),
        (("--flow=",), "no flow ''|known dis, codec|fix --flow dis"),
        (("--least", "1"), "--least takes a whole number of 2 or more|found 1|fix --least 2"),
        (("--least", "2.5"), "--least takes a whole number of 2 or more|found 2.5|fix --least 2"),
        (("--limit", "all"), "--limit takes a whole number|found all|fix --limit NUMBER"),
        (("--share", "2"), "--share takes a number of 0.5 to 1|found 2|fix --share 1"),
        (("--share", "nan"), "--share takes a number of 0.5 to 1|found nan|fix --share 0.5"),
    ],
    ids=" ".join,
)
def test_what_the_types_refuse_is_refused_in_our_words(words: tuple[str, ...], said: str) -> None:
    _, _, error = call(nested, "x", *words)
    assert isinstance(error, UsageError)
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    assert "|".join(lines) == said


def test_values_are_of_their_types() -> None:
    words = ("--least", "007", "--flow", "codec", "--share", "1e0", "--limit", "-3")
    assert call(nested, "x", *words)[1] == f"x 1 {MotionGroup('1', 'codec', 7)} -3 1.0\n"


def test_a_flag_that_is_off_anyhow_has_no_no() -> None:
    assert call(nested, "x", "--no-is-drawn")[0] == 2


def test_a_wrong_option_is_found_before_the_command_runs() -> None:
    started = []

    def command(motion: Annotated[str, "x"] = "", *, group: MotionGroup) -> None:
        started.append(group)

    _, _, error = call(command, "--every", "often")
    assert isinstance(error, UsageError)
    assert not started


def test_two_options_of_one_name_are_a_mistake() -> None:
    def command(motion: MotionGroup, flow: Annotated[str, "The same name."] = "") -> None: ...

    with pytest.raises(ValueError, match="flow"):
        expanded(command)


def test_options_that_may_stand_alone() -> None:
    for option in MAY_STAND_ALONE:
        assert with_values(["m", option]) == ["m", f"{option}="]
        assert with_values([option, "clip.mp4"]) == [f"{option}=", "clip.mp4"]
        assert with_values([option, "-o"]) == [f"{option}=", "-o"]
    assert with_values(["--smooth", "0.5", "--live", "--ray", "h:1"]) == [
        "--smooth", "0.5", "--live=", "--ray", "h:1",
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Outer:
    panel: ClassVar[str] = "Outer"
    inner: Inner


@dataclass(frozen=True)
class Inner:
    size: Annotated[int, "Pixels within."] = 1


def headed(wanted: Outer, last: Annotated[bool, "After all."] = False) -> None:
    """Look."""


def test_a_group_without_a_heading_stands_under_that_of_the_outer_one() -> None:
    _, text, _ = call(headed, "--help")
    assert text.index("After all.") < text.index("─ Outer ─") < text.index("Pixels within.")


@pytest.mark.parametrize("verb", ["eval", "compare", "adapt", "quantize", "optimize"])
def test_labelled_images_are_read_by_the_same_options(verb: str) -> None:
    command = getattr(importlib.import_module(f"segedge.cli.verbs.{verb}"), f"{verb}_command")
    declared = inspect.signature(expanded(command)).parameters
    assert {"layout", "split", "mapping", "ignore"} <= set(declared)
