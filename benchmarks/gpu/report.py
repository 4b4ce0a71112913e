"""Rows of a check: what was looked at, the verdict, and a sentence with the numbers."""

from __future__ import annotations

import argparse
import contextlib
import json
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from segedge.errors import SegedgeError

Verdict = Literal["right", "wrong", "refused", "absent", "error", "fact"]
BAD: tuple[Verdict, ...] = ("wrong", "error")
"""Verdicts that make the exit code 1. ``refused`` is a clear message where one may be expected,
``absent`` a library or tool that is not installed, ``fact`` something that is only told."""


@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    models: tuple[Path, ...]
    precisions: tuple[str, ...]
    flavour: str
    quick: bool
    frames: int

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Options:
        """From the command line."""
        frames = arguments.frames or (60 if arguments.quick else 10_000)
        precisions = tuple(arguments.precision or ("fp32", "fp16"))
        models = tuple(arguments.models)
        return cls(models, precisions, arguments.flavour, arguments.quick, frames)


class Report:
    """Writes each row at once, so that a step that dies keeps what it found."""

    def __init__(self, step: str, path: Path) -> None:
        """Rows of a step go to a file of JSON lines."""
        self._step = step
        self._path = path

    def add(
        self, name: str, verdict: Verdict, text: str, *, quiet: bool = False, **figures: Any
    ) -> None:
        """Print a row (unless quiet) and keep it."""
        row = {"step": self._step, "name": name, "verdict": verdict, "text": text, **figures}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if not quiet:
            shown = text.replace("\n", "\n" + " " * 10)
            print(f"{verdict:<9} {self._step}: {name}: {shown}", flush=True)

    @contextlib.contextmanager
    def guard(self, name: str, *, may_refuse: bool = False) -> Iterator[None]:
        """Turn what goes wrong in a check into a row; the next check goes on."""
        try:
            yield
        except SegedgeError as error:
            self.add(name, "refused" if may_refuse else "wrong", str(error), facts=error.facts)
        except AssertionError as error:
            self.add(name, "wrong", str(error) or "an assertion failed: see the traceback")
            traceback.print_exc()
        except ImportError as error:
            self.add(name, "absent", str(error))
        except Exception as error:  # a check must not stop the others
            self.add(name, "error", f"{type(error).__name__}: {error}")
            traceback.print_exc()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """What a step has kept so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
