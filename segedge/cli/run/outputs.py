"""Which source goes into which output, where there are several of both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segedge.errors import UsageError, unknown_name_error

if TYPE_CHECKING:
    from segedge.options.effect import Effect

_PLACES = ("{name}", "{index}")
_BRACES = re.compile(r"\{\{|\}\}|\{[^{}]*\}")
"""A doubled brace, which stands for itself, or a placeholder."""


def source_labels(specs: Sequence[str]) -> list[str]:
    """A short name a source, fit for file names and different for each: ``cam0``, ``door-2``."""
    labels: list[str] = []
    for spec in specs:
        label, number = _label(spec), 2
        while label in labels:
            label, number = f"{_label(spec)}-{number}", number + 1
        labels.append(label)
    return labels


def _label(spec: str) -> str:
    if spec.isdecimal():
        return f"camera{spec}"
    if spec.startswith("gst:"):
        return "gst"
    if "://" in spec:
        # never what stands before @: it is a password
        spec = spec.partition("://")[2].partition("?")[0].rpartition("@")[2]
    elif spec.rpartition(".")[0] and not spec.startswith("test:"):
        spec = Path(spec).stem
    else:
        spec = Path(spec).name or spec
    return re.sub(r"[^\w.]+", "-", spec).strip("-.") or "source"


def outputs_by_source(
    outputs: Sequence[str], specs: Sequence[str], *, are_images: Sequence[bool]
) -> list[list[str]]:
    """The outputs of each source.

    ``{name}`` and ``{index}`` stand for the source, ``{{`` and ``}}`` for braces; with several
    sources a folder gets a video (a folder, for still images) of each.
    """
    labels = source_labels(specs)
    by_source = [
        [_fill(output, label, number) for output in outputs] for number, label in enumerate(labels)
    ]
    if len(specs) == 1:
        return by_source
    for column, output in enumerate(outputs):
        if output == "window":
            for row, label in zip(by_source, labels, strict=True):
                row[column] = f"window:{label}"
        elif not any(place in _PLACES for place in _BRACES.findall(output)):
            _check_folder(by_source[0][column], len(specs))
            for row, label, images in zip(by_source, labels, are_images, strict=True):
                row[column] = str(Path(row[column]) / label) + ("/" if images else ".mp4")
        elif len({row[column] for row in by_source}) < len(specs):
            raise _ambiguous(output, len(specs))
    return by_source


def _fill(output: str, label: str, number: int) -> str:
    values = dict(zip(_PLACES, (label, str(number)), strict=True))

    def value(found: re.Match[str]) -> str:
        word = found[0]
        if word in ("{{", "}}"):
            return word[0]
        if word not in values:
            error = unknown_name_error("placeholder", word, _PLACES)
            error.facts = {"found": f"-o '{output}'", **error.facts}
            error.fix = f"for a name with braces double them: '{{{word}}}'"
            raise error
        return values[word]

    return _BRACES.sub(value, output)


def _check_folder(output: str, count: int) -> None:
    path = Path(output)
    is_folder = output.endswith("/") or path.is_dir() or (not path.suffix and "/" in output)
    if "://" in output or not output or not (is_folder or path.is_dir()):
        raise _ambiguous(output, count)


def _ambiguous(output: str, count: int) -> UsageError:
    path = Path(output)
    named = f"{path.stem}-{{name}}{path.suffix}" if path.suffix else f"{output}-{{name}}"
    return UsageError(
        f"{output!r} is one output, and there are {count} sources",
        fix=f"-o {path.stem or 'out'}/ makes a file a source; so does -o '{named}'",
    )


def check_outputs(by_source: Sequence[Sequence[str]], masks: str | None) -> None:
    """Refuse outputs that would overwrite each other, and masks where none can be."""
    from segedge.video.formats import SINK_VIDEO_SUFFIXES

    names = [name for row in by_source for name in row if name and not name.startswith("window")]
    places = [name if "://" in name else str(Path(name).resolve()) for name in names]
    twice = next((p for n, p in enumerate(places) if p in places[:n]), None)
    if twice is not None:
        raise UsageError(
            f"{Path(twice).name} is asked for twice", fix="give every -o a name of its own"
        )
    if masks and not any(_holds_masks(name, SINK_VIDEO_SUFFIXES) for name in names):
        raise UsageError(
            f"--masks {masks} needs an output that can hold masks",
            facts={"found": ", ".join(names) or "no -o"},
            fix="add a folder or a PNG: -o masks/",
        )


def check_effect(outputs: Sequence[str], effect: Effect, *, masks: str | None) -> None:
    """Refuse outputs that hold no opacity for a cutout, and a background that cannot be read."""
    from segedge.video.formats import ALPHA_SUFFIXES, OVERLAY_SUFFIXES, SINK_VIDEO_SUFFIXES
    from segedge.video.sinks.open import CONTACT

    effect.check_files()
    if not effect.traits.alpha:
        return
    for name in outputs:
        suffix = Path(name).suffix.lower()
        is_video = suffix in SINK_VIDEO_SUFFIXES and suffix not in (".webm", ".mkv")
        is_image = suffix in OVERLAY_SUFFIXES and suffix not in ALPHA_SUFFIXES and not masks
        if "://" in name or (not name.startswith(CONTACT) and (is_video or is_image)):
            raise UsageError(
                f"{name} holds no opacity, which {effect.name} makes",
                facts={"known": f".webm .mkv {' '.join(ALPHA_SUFFIXES)}, or a folder of PNG files"},
                fix="-o out.webm for video, -o out.png or -o out/ for images,"
                " or --effect replace --background '#00ff00'",
            )


def _holds_masks(name: str, video_suffixes: Sequence[str]) -> bool:
    from segedge.video.formats import JSON_SUFFIXES
    from segedge.video.sinks.open import CONTACT

    path = Path(name)
    others = (*video_suffixes, *JSON_SUFFIXES)
    is_picture = path.is_dir() or path.suffix.lower() not in others
    is_special = name == "-" or "://" in name or name.startswith(CONTACT)
    return is_picture and not is_special
