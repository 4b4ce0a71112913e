"""The exception tree. Every error that a user can cause is one of these.

    SegedgeError                a fact, its numbers, and the fix; exit code 2 on the command line
    ├── UsageError              an argument or option that cannot be meant
    ├── ModelError              a model file, network or checkpoint that does not fit
    │   ├── CheckpointError     weights that are missing, truncated or of another network
    │   ├── CardError           a model card that is missing, malformed or contradicts its network
    │   ├── ExportError         a network that cannot be exported as asked
    │   └── ParityError         an exported model that does not compute what the original does
    ├── BackendError            an inference library that refuses or fails
    │   └── MissingDependencyError   an optional library that is not installed
    ├── SourceError             an image, video or stream that cannot be read
    ├── SinkError               an output that cannot be written
    └── DeviceError             a GPU, its driver or its memory

Foreign exceptions are translated into one of these once, in the file that touches the library.
"""

from __future__ import annotations

from collections.abc import Mapping


class SegedgeError(Exception):
    """Something the user can mend: what is wrong, what was found, how to mend it.

    Attributes:
        headline: One line that says what is wrong.
        facts: Label to text, e.g. ``{"expected": "412 tensors", "found": "406"}``.
        fix: The command, option or step that mends it, or None where none is known.
    """

    def __init__(
        self, headline: str, *, facts: Mapping[str, str] | None = None, fix: str | None = None
    ) -> None:
        super().__init__(headline)
        self.headline = headline
        self.facts = dict(facts or {})
        self.fix = fix

    def lines(self) -> list[tuple[str, str]]:
        """The (label, text) rows below the headline; the fix comes last."""
        rows = list(self.facts.items())
        return [*rows, ("fix", self.fix)] if self.fix else rows

    def __str__(self) -> str:
        rows = self.lines()
        width = max((len(label) for label, _ in rows), default=0)
        return "\n".join([self.headline, *(f"  {label:<{width}}  {text}" for label, text in rows)])


class UsageError(SegedgeError):
    """An argument or option that cannot be meant."""


class ModelError(SegedgeError):
    """A model file, network or checkpoint that does not fit."""


class CheckpointError(ModelError):
    """Weights that are missing, truncated or of another network."""


class CardError(ModelError):
    """A model card that is missing, malformed or contradicts its network."""


class ExportError(ModelError):
    """A network that cannot be exported as asked."""


class ParityError(ModelError):
    """An exported model that does not compute what the original does."""


class BackendError(SegedgeError):
    """An inference library that refuses or fails."""


class MissingDependencyError(BackendError):
    """An optional library that is not installed."""


class SourceError(SegedgeError):
    """An image, video or stream that cannot be read."""


class SinkError(SegedgeError):
    """An output that cannot be written."""


class DeviceError(SegedgeError):
    """A GPU, its driver or its memory."""


def first_line(error: BaseException) -> str:
    """The first line of what a foreign exception says; its class, where it says nothing."""
    return _lines(error)[0][:300]


def last_line(error: BaseException) -> str:
    """As `first_line`, of libraries that begin with where they were."""
    return _lines(error)[-1][:300]


def _lines(error: BaseException) -> list[str]:
    lines = [line.strip() for line in str(error).splitlines()]
    return [line for line in lines if line] or [type(error).__name__]


def nearest_name(name: str, known: list[str] | tuple[str, ...]) -> str | None:
    """The known name most like ``name``, for "did you mean"; None if none is near."""
    import difflib

    matches = difflib.get_close_matches(name.lower(), [k.lower() for k in known], n=1, cutoff=0.6)
    return next((k for k in known if matches and k.lower() == matches[0]), None)


def unknown_name_error(kind: str, name: str, known: list[str] | tuple[str, ...]) -> UsageError:
    """The error for a name that is not in a fixed set, with the nearest one."""
    near = nearest_name(name, known)
    hint = f"; did you mean {near!r}?" if near else ""
    return UsageError(f"no {kind} {name!r}{hint}", facts={"known": ", ".join(known)})
