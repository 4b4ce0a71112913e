"""Groups of options: declared once, and a verb has all of one by one parameter.

A group is a frozen dataclass. Its fields are the options as they are typed; a string in
`Annotated` is an option's help, `Option` says more. Its cached properties are what they amount to:

    @dataclass(frozen=True)
    class MotionGroup:
        panel: ClassVar[str] = "Motion"
        every: Annotated[str, Option("Frames from one key frame to the next.", metavar="N")] = "1"
        motion: Annotated[Flow, "Where the motion comes from."] = "dis"

        @cached_property
        def value(self) -> Motion:
            from segedge.options.motion import Motion, parse_every

            return Motion(parse_every(self.every), self.motion)

A verb that shall have ``--every`` and ``--motion`` takes one parameter more, ``segedge.cli.main``
spells it out for Typer, and the command is handed the group, filled:

    def eval_command(model: Model, *, motion: MotionGroup, backend: Backend = "auto") -> None:
        segmenter = load(model, backend=backend, motion=motion.value)

A field whose type is a group is spelled out as well, under the heading of the outer one if it has
none: `segedge.cli.run.options.RunOptions` is made of groups. Types of fields are needed to read
the command line, so they come from modules that are quick to import; what the properties need is
imported inside them. Typer splits the command line into words; what a number or one of some names
means by its word is for `segedge.cli.values`, which refuses it in our form of an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cached_property
from inspect import Parameter
from typing import Annotated, Any, cast, get_args, get_type_hints

import typer

from segedge.cli import values

_WORD = str | None
"""What Typer makes of an option whose value is read by `segedge.cli.values`."""


@dataclass(frozen=True)
class Option:
    """How an option is spelled and explained."""

    help: str
    names: str = ""
    """``-o --out``; empty: the field's name, and its ``--no-`` where the usual value is true."""
    metavar: str | None = None
    min: float | None = None
    max: float | None = None
    panel: str | None = None
    """Heading in the help; None: the group's."""

    def as_typer(self, usual_names: list[str], panel: str | None, metavar: str | None) -> Any:
        """The same in Typer's words."""
        return typer.Option(
            *self.names.split() or usual_names,
            help=self.help,
            metavar=self.metavar or metavar,
            rich_help_panel=self.panel or panel,
        )


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer takes it: every field of its groups is a parameter."""
    parameters = inspect.signature(command, eval_str=True).parameters.values()

    def call(**words: Any) -> None:
        command(**{p.name: _filled(p.name, p.annotation, p.default, words) for p in parameters})

    flat = [option for p in parameters for option in _flat(p.name, p.annotation, p.default)]
    call.__doc__ = command.__doc__
    call.__annotations__ = {option.name: option.annotation for option in flat}
    call.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    return call


def _flat(name: str, kind: Any, default: Any, panel: str | None = None) -> Iterator[Parameter]:
    """One parameter, or those of all fields of a group."""
    if not is_dataclass(kind):
        annotation = _spelled(name, kind, default, panel)
        if get_args(annotation)[0] == _WORD and default not in (None, Parameter.empty):
            default = str(default)
        yield Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        return
    kinds = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        usual = Parameter.empty if field.default is MISSING else field.default
        yield from _flat(field.name, kinds[field.name], usual, getattr(kind, "panel", panel))


def _spelled(name: str, kind: Any, default: Any, panel: str | None) -> Any:
    value, told = get_args(kind)
    if isinstance(told, str):
        told = Option(told)
    if isinstance(told, Option):
        # What is off anyhow needs no --no-.
        is_flag = value is bool and default is False
        names = [f"--{name.replace('_', '-')}"] if is_flag else []
        metavar = values.shown(value, told.min, told.max) if values.is_read(value) else None
        told = told.as_typer(names, panel, metavar)
        value = value if metavar is None else _WORD
    return Annotated[value, told]


def _filled(name: str, kind: Any, usual: Any, words: dict[str, Any]) -> Any:
    """The value of a parameter; a group with all that it amounts to.

    That is made at once, because a wrong option must not be found after an engine was built.
    """
    if not is_dataclass(kind):
        return _read(name, kind, usual, words[name])
    kinds = get_type_hints(kind, include_extras=True)
    group = cast("type[Any]", kind)(
        **{
            field.name: _filled(field.name, kinds[field.name], field.default, words)
            for field in fields(kind)
        }
    )
    for attribute, how in vars(kind).items():
        if isinstance(how, cached_property):
            getattr(group, attribute)
    return group


def _read(name: str, kind: Any, usual: Any, word: Any) -> Any:
    """An option's value, of the word that Typer found."""
    value, told = get_args(kind)
    option = told if isinstance(told, Option) else Option("")
    if not isinstance(told, str | Option) or not values.is_read(value):
        return word
    spelled = next((n for n in reversed(option.names.split()) if n.startswith("--")), "")
    return values.read(
        word,
        spelled or f"--{name.replace('_', '-')}",
        value,
        low=option.min,
        high=option.max,
        usual=None if usual in (MISSING, Parameter.empty) else usual,
    )
