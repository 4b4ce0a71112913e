"""Making a proof: test pictures are shown to the original, and what it says is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.card.modelfile import graph_sha256
from segedge.card.picture import Picture, Triple
from segedge.card.proof import (
    MOST_BYTES,
    MOST_POINTS,
    Answer,
    FilePrecision,
    Proof,
    margin_points,
    packed_labels,
    packed_margins,
    rivals,
    spread,
)
from segedge.convert.parity import (
    WANTED_AGREEMENT,
    Image,
    Network,
    class_planes,
    label_size,
    settled,
)
from segedge.convert.passes.head import HeadFacts
from segedge.errors import ExportError, ParityError
from segedge.machine.onnx_session import Session
from segedge.machine.optional import installed_version
from segedge.reference import frame as reference
from segedge.reference.proof import Nearness, clear, nearness

LEAST_BOUND, LARGEST_BOUND = 5e-4, 1e-2
"""Of what float32 may change in a margin, as a share of the logits' span."""
_NOISE = 16.0
"""How many times as far as the exported network here any other may be from the original."""
_INT8_NOISE = 6.0
"""The same of int8 kernels, which round where they like."""
_LEAST_INT8, _LARGEST_INT8, _LEAST_INT8_LABELS = 0.02, 0.3, 0.85
"""Bounds of int8's own, whatever is measured here: of margins, and of the share of labels."""
_MARGINS = 3000
_LABEL_CHARS = (MOST_BYTES - 6_000) // 2 - 2 * _MARGINS * 4 // 3
"""What the labels of one of two answers may take."""
_SMALLEST, _LARGEST = 1e-30, 1.0 - 1e-4
"""Probabilities between which a float32 tells the logit well enough."""
Points = NDArray[np.int64]


@dataclass(frozen=True)
class Said:
    """What a witness says to one input, to be read at points."""

    plane: Size
    """What points lie on."""
    grid: Size
    """The network's own logit grid."""
    logits: Callable[[Points, Points], NDArray[np.float64]] | None
    """C x rows x columns; NaN where the witness does not tell. None: it has labels only."""
    labels: Callable[[Points, Points], NDArray[np.int64]] | None = None
    """Its own labels, where they are not simply the largest logits."""
    classes: int = 0
    """Where there are no logits that tell."""


Witness = Callable[[NDArray[np.float32]], Said]
"""What says something to a preprocessed tensor."""


class Pixels:
    """Means and contrasts of images that pass by, for a test picture that looks like them."""

    def __init__(self) -> None:
        self._means: list[NDArray[np.float64]] = []
        self._deviations: list[NDArray[np.float64]] = []

    def passing(self, images: Iterable[Image]) -> Iterator[Image]:
        """The same images."""
        for image in images:
            thin = image[::8, ::8].reshape(-1, 3).astype(np.float64)
            self._means.append(thin.mean(axis=0))
            self._deviations.append(thin.std(axis=0))
            yield image

    @property
    def levels(self) -> tuple[Triple, Triple] | None:
        """Mean and contrast of each channel; None where no image came by."""
        if not self._means:
            return None
        mean, contrast = (np.mean(v, axis=0) for v in (self._means, self._deviations))
        return _triple(mean), _triple(np.maximum(contrast, 16.0))


def _triple(values: NDArray[np.float64]) -> Triple:
    blue, green, red = (int(min(max(value, 0.0), 255.0) + 0.5) for value in values)
    return blue, green, red


def pictures(size: Size, levels: tuple[Triple, Triple] | None = None) -> tuple[Picture, Picture]:
    """One that must be made lower and less wide for the network, and one of the network's size."""
    mean, contrast = levels or (Picture(1, 1, 0).mean, Picture(1, 1, 0).contrast)
    other = Size(3 * size.height // 4 | 1, 5 * size.width // 4 | 1)
    first, second = (
        Picture(at.height, at.width, seed, mean, contrast)
        for seed, at in enumerate((other, size), start=1)
    )
    return first, second


def make_proof(
    witness: Witness,
    exported: Network,
    card: ModelCard,
    *,
    graph: Path | bytes,
    name: str,
    precision: FilePrecision = "f32",
    levels: tuple[Triple, Triple] | None = None,
) -> Proof:
    """Show the pictures to the witness; how far the exported network is from it sets the bounds."""
    answers, near = [], []
    for picture in pictures(card.input_size, levels):
        tensor = reference.preprocess(picture.pixels(), card, card.place(picture.size))
        answers.append(answer(picture, witness(tensor)))
        near.append(nearness(answers[-1], exported(tensor), card))
    if precision != "int8":
        _require_near(near)
    label_bound, logit_bound = _bounds(near, precision)
    return Proof(
        graph_sha256=graph_sha256(graph),
        witness=name,
        precision=precision,
        height=card.input_height,
        width=card.input_width,
        logit_bound=logit_bound,
        answers=tuple(answers),
        label_bound=label_bound,
    )


def _bounds(near: Sequence[Nearness], precision: FilePrecision) -> tuple[float | None, float]:
    """Least share of labels, and largest difference of a margin."""
    noise = max(found.error or 0.0 for found in near)
    if precision != "int8":
        return None, min(max(_NOISE * noise, LEAST_BOUND), LARGEST_BOUND)
    changed = 1.0 - min(found.labels for found in near)
    labels = max(1.0 - max(_INT8_NOISE * changed, 0.02), _LEAST_INT8_LABELS)
    return labels, min(max(_INT8_NOISE * noise, _LEAST_INT8), _LARGEST_INT8)


def _require_near(near: Sequence[Nearness]) -> None:
    """What is not as the original says here will not be anywhere."""
    share = min(found.labels for found in near)
    if share < WANTED_AGREEMENT:
        raise ParityError(
            "the exported network does not compute what the original does",
            facts={
                "agreement": f"{100 * share:.3f} % of the unambiguous points of a test picture",
                "expected": f"{100 * WANTED_AGREEMENT:.1f} %",
            },
            fix="try --keep-tail to see whether the cut is to blame, another --opset, or report it "
            "with the network",
        )


def answer(picture: Picture, said: Said) -> Answer:
    """What is said to a picture, at as many points as there is room for."""
    limit = MOST_POINTS
    while True:
        found = _answer(picture, said, limit)
        if len(found.labels) <= _LABEL_CHARS:
            return found
        limit //= 2


def _answer(picture: Picture, said: Said, limit: int) -> Answer:
    rows, columns = _counts(said, limit)
    places = spread(said.plane.height, rows), spread(said.plane.width, columns)
    planes = None if said.logits is None else said.logits(*places)
    classes = said.classes if planes is None else len(planes)
    labels = None if said.labels is None else said.labels(*places)
    span, margins, step = 1.0, np.zeros(0), 0
    if planes is not None:
        sure = clear(np.nan_to_num(planes, nan=np.nanmin(planes)))
        labels = np.where(sure, np.nanargmax(planes, axis=0) if labels is None else labels, -1)
        span = float(np.nanmax(planes) - np.nanmin(planes)) or 1.0
        step = -(-rows * columns // _MARGINS)
        margins = _margins(planes, labels, margin_points(rows * columns, step))
    assert labels is not None, "a witness says logits or labels"
    return Answer(
        picture, said.plane.height, said.plane.width, rows, columns, classes, span,
        packed_labels(labels, classes), step, packed_margins(margins, span),
    )  # fmt: skip


def _counts(said: Said, limit: int) -> tuple[int, int]:
    """Rows and columns of points: those of the grid, not all at one place of their cells."""
    if said.plane == said.grid:
        high, wide = said.grid.height, said.grid.width
    else:
        high = min(said.plane.height, said.grid.height | 1)
        wide = min(said.plane.width, said.grid.width | 1)
    shrink = min(1.0, (limit / (high * wide)) ** 0.5)
    return max(1, int(high * shrink)), max(1, int(wide * shrink))


def _margins(
    planes: NDArray[np.float64], labels: NDArray[np.int64], points: Points
) -> NDArray[np.float64]:
    flat, winner = planes.reshape(len(planes), -1), labels.reshape(-1)[points]
    margins = flat[winner, points] - flat[rivals(points, len(planes)), points]
    # The original's own label need not be the largest of the logits that stand in for its.
    return np.where((winner < 0) | (margins < 0), np.nan, margins)


def original_witness(
    original: Network, exported: Network, card: ModelCard, head: HeadFacts
) -> Witness:
    """The network before anything was done to it.

    Where it gives labels only, the exported network's logits stand in for what it does not tell.
    """
    if card.head == "labels":
        return lambda tensor: _labels_said(original(tensor), card)
    if head.original.labels:
        return lambda tensor: _half_said(original(tensor), exported(tensor), card, head)
    return lambda tensor: _logits_said(original(tensor), head)


def file_witness(network: Network, card: ModelCard) -> Witness:
    """A file with a card, taken at its word."""
    if card.head == "labels":
        return lambda tensor: _labels_said(network(tensor), card)
    return lambda tensor: _interpolated_said(network(tensor), card, card.input_size)


def _labels_said(output: NDArray[Any], card: ModelCard) -> Said:
    grid = card.grid_size(output.shape)
    geometry = Geometry.fit(grid, grid, "stretch")
    labels = reference.labels(output, card, geometry).astype(np.int64)
    return Said(
        grid, grid, None, lambda rows, columns: labels[np.ix_(rows, columns)], len(card.classes)
    )


def _half_said(
    labels: NDArray[Any], output: NDArray[Any], card: ModelCard, head: HeadFacts
) -> Said:
    plane = label_size(labels, card)
    map_hw = np.reshape(labels, (plane.height, plane.width)).astype(np.int64)
    said = _interpolated_said(output, card, plane)
    logits = said.logits
    assert logits is not None

    def settled_labels(rows: Points, columns: Points) -> NDArray[np.int64]:
        sure = settled(logits(rows, columns), head)
        return np.where(sure, map_hw[np.ix_(rows, columns)], -1)

    return Said(plane, said.grid, logits, settled_labels)


def _interpolated_said(output: NDArray[Any], card: ModelCard, plane: Size) -> Said:
    geometry = Geometry.fit(plane, plane, "stretch")

    def logits(rows: Points, columns: Points) -> NDArray[np.float64]:
        return reference.interpolate_at(output, card, geometry, rows, columns)

    return Said(plane, card.grid_size(output.shape), logits)


def _logits_said(output: NDArray[Any], head: HeadFacts) -> Said:
    planes = class_planes(output, head.original)
    plane = Size(*planes.shape[1:])

    def logits(rows: Points, columns: Points) -> NDArray[np.float64]:
        return _as_logits(planes[:, rows][:, :, columns], head)

    def labels(rows: Points, columns: Points) -> NDArray[np.int64]:
        return np.asarray(planes[0][np.ix_(rows, columns)] > head.limit, np.int64)

    # A sigmoid of 1 tells its label, if no logit.
    return Said(plane, head.grid, logits, None if head.limit is None else labels)


def _as_logits(planes: NDArray[np.float64], head: HeadFacts) -> NDArray[np.float64]:
    """An original's output as logits, one plane a class, but for a constant a point."""
    if not head.probabilities and head.original.activation in ("softmax", "sigmoid"):
        known = (planes > _SMALLEST) & (planes < _LARGEST)
        if head.original.activation == "softmax":
            known = planes > _SMALLEST
        inside = np.where(known, planes, 0.5)
        logits = np.log(inside)
        if head.original.activation == "sigmoid":
            logits -= np.log1p(-inside)
        planes = np.where(known, logits, np.nan)
    if head.channels == 1:  # a background with the logit zero stands beside it
        planes = (planes - head.shift) / head.scale
        planes = np.concatenate([np.zeros_like(planes), planes])
    return planes


def prove(
    model: Path | bytes,
    card: ModelCard,
    *,
    precision: FilePrecision = "f32",
    levels: tuple[Triple, Triple] | None = None,
) -> Proof:
    """A proof of a file with a card by ONNX Runtime, which runs node by node as the file has it.

    Q and DQ nodes round, and what is between them is computed in float32. How far ONNX Runtime's
    own int8 kernels are from that sets an int8 file's bounds.
    """
    plain = Session(model, simulate=True, optimise=False, error=ExportError)
    usual = plain if precision == "f16" else Session(model, error=ExportError)
    output = card.output or None
    return make_proof(
        file_witness(lambda tensor: plain(tensor, output), card),
        lambda tensor: usual(tensor, output),
        card,
        graph=model,
        name=runtime_name(),
        precision=precision,
        levels=levels,
    )


def levels_of(proof: Proof | None) -> tuple[Triple, Triple] | None:
    """Mean and contrast of another proof's picture, for the same images."""
    if proof is None:
        return None
    picture = proof.answers[0].picture
    return picture.mean, picture.contrast


def runtime_name() -> str:
    """ONNX Runtime as a witness."""
    version = installed_version("onnxruntime", "onnxruntime-gpu")
    return f"ONNX Runtime {version}, optimisations off"
