"""The card of an exported network: from options, from what the source says, and from defaults."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from segedge.card.axes import Layout
from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.card.labels import LabelSet, built_in_sets, named_set, read_classes, sets_of
from segedge.card.records import Provenance
from segedge.convert.options import ExportOptions
from segedge.convert.passes.head import HeadFacts
from segedge.convert.preparation import Preparation, prepare
from segedge.convert.said import Said
from segedge.errors import CardError, UsageError, nearest_name, unknown_name_error


def asked_classes(options: ExportOptions) -> LabelSet | None:
    """The classes that the user names: a label set, a text file, a comma list, or one name."""
    asked = options.classes
    if asked is None:
        return None
    if isinstance(asked, tuple):
        return named_set(asked)
    if asked.lower() in built_in_sets():
        return built_in_sets()[asked.lower()]
    is_file = False
    with suppress(OSError):  # a list may be longer than a file's name can be
        is_file = Path(asked).is_file()
    if is_file:
        return read_classes(Path(asked))
    if "," not in asked and _is_misspelt(asked):
        raise unknown_name_error("class set", asked, tuple(built_in_sets()))
    return named_set(tuple(name.strip() for name in asked.split(",") if name.strip()))


def _is_misspelt(asked: str) -> bool:
    """Whether one word is more likely a label set or a file than the name of a class."""
    is_path = bool(Path(asked).suffix) or "/" in asked or "\\" in asked
    return is_path or not asked.strip() or nearest_name(asked, tuple(built_in_sets())) is not None


def asked_channels(options: ExportOptions, said: Said) -> int | None:
    """How many channels the named classes ask for, or None where none are named."""
    asked = asked_classes(options)
    names = asked.names if asked else said.class_names()
    return len(names) if names else None


def build_card(
    options: ExportOptions,
    said: Said,
    head: HeadFacts,
    *,
    size: Size,
    input_layout: Layout,
    provenance: Provenance,
    mask_scale: int | None = None,
) -> Preparation:
    """Put a card together; what the user says goes before what the source says."""
    classes = _fitting(_classes(options, said, head), head)
    card = ModelCard(
        classes=classes.names,
        palette_rgb=classes.palette_rgb,
        label_set=classes.name if classes.name in built_in_sets() else "",
        ignore_index=classes.ignore_index,
        input_height=size.height,
        input_width=size.width,
    )
    prepared = prepare(card, options, said)
    same_grid = said.card is not None and not head.tail.cut
    align = said.card.align_corners if said.card and same_grid else head.align_corners
    if options.align_corners is not None:
        align = _asked_alignment(options.align_corners, head)
    card = replace(
        prepared.card,
        input_layout=input_layout,
        head=head.head,
        logits_layout=head.layout,
        stride=max(1, round(size.height / head.grid.height)),
        align_corners=align,
        activation="sigmoid" if head.channels == 1 else "softmax",
        output=head.head,
        dynamic=tuple(options.dynamic),
        provenance=provenance,
        probabilities=head.probabilities,
        mask_scale=mask_scale or (said.card.mask_scale if said.card else None),
    )
    return replace(prepared, card=card)


def enlarging_is_assumed(options: ExportOptions, said: Said, head: HeadFacts, size: Size) -> bool:
    """Whether nothing says how the training code enlarges the logits that the graph ends at."""
    known = options.align_corners is not None or said.card is not None or said.folder is not None
    at_end = head.head == "logits" and not any("Resize" in step for step in head.tail.removed)
    return at_end and not known and head.grid != size


def _asked_alignment(asked: bool, head: HeadFacts) -> bool:
    """The user's word, where the graph does not say otherwise."""
    if asked == head.align_corners or not any("Resize" in step for step in head.tail.removed):
        return asked
    words = {True: "align-corners", False: "half-pixel"}
    found = f"{', '.join(head.tail.removed)}, which is {words[head.align_corners]}"
    raise UsageError(
        f"--{words[asked]} contradicts the network's own enlarging",
        facts={"found": found},
        fix="leave it out",
    )


def _classes(options: ExportOptions, said: Said, head: HeadFacts) -> LabelSet:
    """Classes by the user, else by the source, else numbered."""
    asked = asked_classes(options)
    if asked is not None:
        return asked
    if said.card is not None:
        name = said.card.label_set
        return LabelSet(name, said.card.classes, said.card.palette_rgb, said.card.ignore_index)
    names = said.class_names()
    if names is not None:
        return named_set(names)
    if head.channels is None:
        raise CardError(
            "the network gives labels and does not say how many classes there are",
            fix="name them: --classes NAME,NAME,... or a label set or a text file",
        )
    if head.channels == 1:
        return named_set(("background", "foreground"))
    return named_set(tuple(f"class {index}" for index in range(head.channels)))


def _fitting(classes: LabelSet, head: HeadFacts) -> LabelSet:
    """The classes, checked against the channels; one channel is a class and its background."""
    if head.channels is None:
        return classes
    if head.channels == 1 and len(classes) == 1:
        return named_set(("background", *classes.names))
    wanted = 2 if head.channels == 1 else head.channels
    if len(classes) == wanted:
        return classes
    fitting = sets_of(wanted)
    hint = f"--classes {fitting[0]}, or " if fitting else ""
    known = {"label sets": ", ".join(built_in_sets())} if len(classes) == 1 else {}
    raise CardError(
        "class names and channels of the network differ",
        facts={
            "names": f"{len(classes)}{f' ({classes.name})' if classes.name else ''}: "
            f"{', '.join(classes.names[:4])}{', ...' if len(classes) > 4 else ''}",
            "channels": str(head.channels),
            **known,
        },
        fix=f"{hint}--classes with {wanted} names, or a text file with a name a line",
    )
