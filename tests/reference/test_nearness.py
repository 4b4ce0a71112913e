"""How near an output is to a proof, against torch and whole arrays."""

from __future__ import annotations

import numpy as np
import pytest

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.card.labels import distinct_palette
from segedge.card.picture import Picture
from segedge.card.proof import (
    Answer,
    margin_points,
    packed_labels,
    packed_margins,
    rivals,
    spread,
)
from segedge.reference import frame as reference
from segedge.reference.proof import nearness, tail_share

torch = pytest.importorskip("torch")

PLANE, GRID, CLASSES = Size(256, 384), Size(33, 49), 17
ROWS, COLUMNS, STEP = 60, 90, 3


def a_card(classes: int = CLASSES, **fields: object) -> ModelCard:
    names = tuple(f"c{number}" for number in range(classes))
    card = ModelCard(names, distinct_palette(classes), PLANE.height, PLANE.width)
    return card.replace(**fields)


def an_output(channels: int) -> np.ndarray:
    random = np.random.default_rng(channels)
    return random.normal(size=(1, channels, GRID.height, GRID.width)).astype(np.float32)


def interpolated(output: np.ndarray, card: ModelCard, size: Size) -> np.ndarray:
    """All classes at every pixel of a plane that the network sees whole, in float64."""
    planes = torch.from_numpy(output).double()
    if card.activation == "sigmoid":
        planes = torch.cat([torch.zeros_like(planes), planes], 1)
    return torch.nn.functional.interpolate(
        planes, (size.height, size.width), mode="bilinear", align_corners=card.align_corners
    )[0].numpy()


def laid_out(output: np.ndarray, card: ModelCard) -> np.ndarray:
    return output.transpose(0, 2, 3, 1) if card.logits_layout == "nhwc" else output


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_labels_and_margins_are_those_of_torch(activation: str, layout: str, align: bool) -> None:
    classes = 2 if activation == "sigmoid" else CLASSES
    card = a_card(classes, activation=activation, logits_layout=layout, align_corners=align)
    output = an_output(card.channels)
    rows, columns = spread(PLANE.height, ROWS), spread(PLANE.width, COLUMNS)
    planes = interpolated(output, card, PLANE)[:, rows[:, None], columns]
    labels = planes.argmax(0)
    labels[3, 5] = -1  # a tie
    points = margin_points(labels.size, STEP)
    flat = planes.reshape(classes, -1)
    winner = planes.argmax(0).reshape(-1)[points]
    margins = flat[winner, points] - flat[rivals(points, classes), points]
    span = float(np.ptp(planes))
    margins[7] = np.nan
    answer = Answer(
        Picture(48, 60, 1), PLANE.height, PLANE.width, ROWS, COLUMNS, classes, span,
        packed_labels(labels, classes), STEP, packed_margins(margins, span),
    )  # fmt: skip
    same = nearness(answer, laid_out(output, card), card)
    assert same.labels == 1.0
    assert same.error is not None
    assert same.error < 1e-4
    wrong = output.copy()
    wrong[0, -1, 12:] += 4
    off = nearness(answer, laid_out(wrong, card), card)
    planes = interpolated(wrong, card, PLANE)[:, rows[:, None], columns]
    flat, known = planes.reshape(classes, -1), ~np.isnan(margins)
    found = flat[winner, points] - flat[rivals(points, classes), points]
    assert off.error == pytest.approx(np.abs(found - margins)[known].max() / span, abs=1e-4)
    told = labels >= 0
    assert off.labels == np.mean(planes.argmax(0)[told] == labels[told])
    assert off.labels < 0.8


@pytest.mark.parametrize("fit", ["stretch", "crop"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_tail_is_compared_where_it_is_clear(layout: str, fit: str) -> None:
    """By whole arrays of the reference: a share counts pixels of all strips."""
    card = a_card(logits_layout=layout, fit=fit)
    output, frame = laid_out(an_output(CLASSES), card), Size(301, 211)
    geometry = Geometry.fit(frame, PLANE, fit)
    labels = reference.labels(output, card, geometry)
    assert tail_share(labels, output, card, geometry) == 1.0
    damaged = labels.copy()
    damaged[150:] = (damaged[150:] + 1) % CLASSES
    thinning = (frame.height * frame.width / (1 << 13)) ** 0.5
    rows = spread(frame.height, int(frame.height / thinning))
    columns = spread(frame.width, int(frame.width / thinning))
    planes = reference.interpolate(output, card, geometry)[:, rows[:, None], columns]
    second, best = np.sort(planes, axis=0)[-2:]
    seen = np.zeros((frame.height, frame.width), bool)
    top, left, bottom, right = geometry.seen()
    seen[top:bottom, left:right] = True
    at = np.ix_(rows, columns)
    counted = (best - second > reference.TIE * np.ptp(planes)) | ~seen[at]
    expected = np.mean((damaged == labels)[at][counted])
    assert tail_share(damaged, output, card, geometry) == expected
    assert 0.3 < expected < 0.7
