"""Classes of a data set in the classes of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segedge.errors import UsageError, unknown_name_error

IGNORE_NAME = "ignore"


def parse_mapping(text: str) -> dict[str, str]:
    """Read ``road=street,car=vehicle``, or a file with such pairs, one a line (# comments)."""
    path = Path(text)
    if "=" not in text or _is_file(path):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"--map {text} is neither pairs nor a readable file",
                facts={"found": str(getattr(error, "strerror", None) or error)},
                fix="--map theirs=ours,other=ignore",
            ) from error
        pairs = [line.partition("#")[0] for line in lines]
    else:
        pairs = text.split(",")
    mapping: dict[str, str] = {}
    for pair in (p.strip() for p in pairs):
        if not pair:
            continue
        theirs, equals, ours = (part.strip() for part in pair.partition("="))
        if not (theirs and equals and ours):
            raise UsageError(
                f"--map: {pair!r} is no pair", facts={"expected": "THEIRS=OURS, or THEIRS=ignore"}
            )
        if theirs in mapping:
            raise UsageError(f"--map: class {theirs!r} is mapped twice")
        mapping[theirs] = ours
    return mapping


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # many pairs are longer than a name may be
        return False


def class_table(
    theirs: Sequence[str], ours: Sequence[str], mapping: Mapping[str, str]
) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    """Class of the model for each of the data set, `IGNORED` where it does not count; and notes.

    Names are compared without letter case. With a mapping, a class that is neither in it nor of
    the same name in the model does not count, and a note says so.
    """
    our_index = {name.lower(): index for index, name in enumerate(ours)}
    pairs = {key.lower(): value.lower() for key, value in mapping.items()}
    for key, value in mapping.items():
        if key.lower() not in {name.lower() for name in theirs}:
            raise unknown_name_error("class of the data set", key, tuple(theirs))
        if value.lower() != IGNORE_NAME and value.lower() not in our_index:
            raise unknown_name_error("class of the model", value, tuple(ours))
    targets = [pairs.get(name.lower(), name.lower()) for name in theirs]
    table = np.array([our_index.get(target, IGNORED) for target in targets], np.int16)
    lost = [
        name
        for name, target, index in zip(theirs, targets, table.tolist(), strict=True)
        if index == IGNORED and target != IGNORE_NAME
    ]
    if (lost and not mapping) or (table == IGNORED).all():
        raise _other_classes(theirs, ours, lost)
    notes = [f"not counted, no such class in the model: {', '.join(lost)}"] if lost else []
    never = [name for index, name in enumerate(ours) if index not in table]
    if never:
        notes.append(f"classes of the model that the data set never has: {', '.join(never)}")
    return table, tuple(notes)


def _other_classes(theirs: Sequence[str], ours: Sequence[str], lost: Sequence[str]) -> UsageError:
    example = next(iter(lost), theirs[0])
    return UsageError(
        "the data set has other classes than the model",
        facts={
            "data set": f"{len(theirs)}: {', '.join(theirs)}",
            "model": f"{len(ours)}: {', '.join(ours)}",
            "unmatched": f"{len(lost)}: {', '.join(lost)}",
        },
        fix=f"--map '{example}={ours[0]},...' by name (THEIRS=ignore takes a class out), "
        "or --map FILE with a pair a line",
    )


IGNORED = -1
"""Truth that counts for nothing, in labels as `Dataset` gives them."""
