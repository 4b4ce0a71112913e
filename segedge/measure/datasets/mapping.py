"""Classes of a data set in the classes of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segedge.errors import UsageError, unknown_name_error
from segedge.machine.files import refused
from segedge.machine.text_file import read_lines

IGNORE_NAME = "ignore"
_HIGHEST = (1 << 16) - 1


def parse_mapping(text: str) -> dict[str, str]:
    """Read ``road=street,car=vehicle``, or a file with such pairs, one a line (# comments).

    Numbers on the left are label values, ``1..19=road..bicycle`` is a pair for each of them.
    """
    path = Path(text)
    if "=" not in text or _is_file(path):
        headline = f"--map {text} is neither pairs nor a readable file"
        with refused(headline, UsageError, fix="--map theirs=ours,other=ignore"):
            lines = read_lines(path)
        pairs = [(f"{path.name}, line {x.number}", x.text.partition("#")[0]) for x in lines]
    else:
        pairs = [("--map", pair) for pair in text.split(",") if pair.strip()]
    mapping: dict[str, str] = {}
    for place, pair in pairs:
        theirs, equals, ours = (part.strip() for part in pair.partition("="))
        if not (theirs and equals and ours):
            raise UsageError(
                f"{place}: {pair.strip()!r} is no pair",
                facts={"expected": "THEIRS=OURS, or THEIRS=ignore"},
            )
        if theirs in mapping:
            raise UsageError(f"{place}: class {theirs!r} is mapped twice")
        mapping[theirs] = ours
    return mapping


def split_values(
    mapping: Mapping[str, str], theirs: Sequence[str], ours: Sequence[str]
) -> tuple[dict[str, str], dict[int, int]]:
    """What a mapping says of class names, and of label values: value to class, or `IGNORED`.

    A number that is the name of a class is a name.
    """
    known = {name.lower() for name in theirs}
    names: dict[str, str] = {}
    values: dict[int, int] = {}
    for key, target in mapping.items():
        match = re.fullmatch(r"(\d{1,5})(?:\.\.(\d{1,5}))?", key)
        if match is None or key.lower() in known:
            names[key] = target
            continue
        wanted = range(int(match[1]), int(match[2] or match[1]) + 1)
        classes = _classes_of(target, ours, len(wanted))
        if not wanted or wanted[-1] > _HIGHEST or len(classes) != len(wanted):
            raise UsageError(
                f"--map {key}={target} is no pair of equal lengths",
                facts={"values": str(len(wanted)), "classes": str(len(classes))},
                fix="--map 0=ignore,1..3=road..sky",
            )
        values.update(zip(wanted, classes, strict=True))
    return names, values


def _classes_of(target: str, ours: Sequence[str], count: int) -> Sequence[int]:
    """The classes that a name, ``ignore`` or ``FIRST..LAST`` stands for."""
    names = [name.lower() for name in ours]
    if target.lower() == IGNORE_NAME:
        return [IGNORED] * count
    ends = [target] if target.lower() in names else target.split("..", 1)
    for end in ends:
        if end.strip().lower() not in names:
            raise unknown_name_error("class of the model", end.strip(), tuple(ours))
    first, last = (names.index(end.strip().lower()) for end in (ends[0], ends[-1]))
    return range(first, last + 1)


def value_option(label_of_value: Mapping[int, int], ours: Sequence[str]) -> str:
    """The ``--map`` that gives these values these classes, `IGNORED` ones too."""
    runs: list[list[tuple[int, int]]] = []
    for value, label in sorted(label_of_value.items()):
        last_value, last_label = runs[-1][-1] if runs else (-2, IGNORED)
        follows = label == last_label if IGNORED in (label, last_label) else label == last_label + 1
        if last_value == value - 1 and follows:
            runs[-1].append((value, label))
        else:
            runs.append([(value, label)])
    pairs = []
    for run in runs:
        (first, label), (last_value, last_label) = run[0], run[-1]
        many = len(run) > 1
        name = IGNORE_NAME if label == IGNORED else ours[label]
        if many and label != IGNORED:
            name += f"..{ours[last_label]}"
        pairs.append(f"{first}..{last_value}={name}" if many else f"{first}={name}")
    text = ",".join(pairs)
    return f"--map '{text}'" if re.search(r"[^\w.,=-]", text) else f"--map {text}"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # many pairs are longer than a name may be
        return False


def class_table(
    theirs: Sequence[str],
    ours: Sequence[str],
    mapping: Mapping[str, str],
    *,
    optional: Sequence[str] = (),
) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    """Class of the model for each of the data set, `IGNORED` where it does not count; and notes.

    Names are compared without letter case. With a mapping, a class that is neither in it nor of
    the same name in the model does not count, and a note says so; those of ``optional`` need none.
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
    if (set(lost) - set(optional) and not mapping) or (table == IGNORED).all():
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
