"""The proof as a value: its picture is the same everywhere, and what is damaged is told."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from segedge.card.attachments import PROOF_KEY
from segedge.card.card import ModelCard
from segedge.card.modelfile import graph_sha256, read_metadata, with_metadata
from segedge.card.picture import Picture
from segedge.card.proof import (
    MOST_BYTES,
    PROOF,
    Answer,
    Proof,
    margin_points,
    packed_labels,
    packed_margins,
)
from segedge.errors import CardError
from tests.small_model import write_model


@pytest.mark.parametrize(
    ("picture", "sha256"),
    [
        (
            Picture(97, 161, 1),
            "9c61882e84d70a77b4e90a94c07326dfcccae2880c0aa41507a3522add1ba9c5",
        ),
        (
            Picture(64, 33, 7, (200, 20, 90), (80, 0, 40)),
            "189bf243985d3535adb8e65f7359a701dc339529d5dbcab547d49c90b4043143",
        ),
    ],
)
def test_the_picture_is_the_same_everywhere(picture: Picture, sha256: str) -> None:
    """Files that were proved years ago are checked with it: this hash must never change."""
    assert hashlib.sha256(picture.pixels().tobytes()).hexdigest() == sha256


def test_the_picture_has_the_levels_that_are_asked_for() -> None:
    pixels = Picture(256, 384, 3, (90, 120, 150), (30, 40, 50)).pixels().astype(float)
    assert np.abs(pixels.mean(axis=(0, 1)) - (90, 120, 150)).max() < 4
    assert np.abs(pixels.std(axis=(0, 1)) / (30, 40, 50) - 1).max() < 0.15
    steps = np.abs(np.diff(pixels, axis=1))
    assert (steps > 20).any(), "edges"
    assert (steps.mean(axis=(0, 2)) > 0.5).all(), "nothing is flat"


def answer(**changes: Any) -> Answer:
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 5, (16, 24))
    margins = rng.uniform(0, 8, len(margin_points(16 * 24, 4)))
    margins[3] = np.nan
    values: dict[str, Any] = {
        "picture": Picture(48, 60, 1), "plane_height": 32, "plane_width": 48, "rows": 16,
        "columns": 24, "classes": 5, "span": 9.0, "labels": packed_labels(labels, 5), "step": 4,
        "margins": packed_margins(margins, 9.0), **changes,
    }  # fmt: skip
    return Answer(**values)


def proof() -> Proof:
    return Proof("0" * 64, "a witness", "f32", 32, 48, 1e-3, (answer(), answer()))


def test_labels_and_margins_come_back() -> None:
    found, rng = answer(), np.random.default_rng(0)
    np.testing.assert_array_equal(found.label_at_points, rng.integers(-1, 5, (16, 24)))
    margins = rng.uniform(0, 8, 96)
    assert np.isnan(found.margin_at_points[3])
    known = np.arange(96) != 3
    assert np.abs(found.margin_at_points - margins)[known].max() <= 9.0 / 65534 / 2 + 1e-12


def test_many_classes_need_two_bytes() -> None:
    labels = np.array([[0, 254, 255, 300, -1]])
    made = answer(
        rows=1, columns=5, classes=301, labels=packed_labels(labels, 301), step=0,
        margins=packed_margins(np.zeros(0), 1.0),
    )  # fmt: skip
    np.testing.assert_array_equal(made.label_at_points, labels)
    assert made.margin_at_points.size == 0


def test_a_proof_survives_its_file(tmp_path: Path) -> None:
    data = write_model(tmp_path / "m.onnx").read_bytes()
    proved = with_metadata(data, PROOF.metadata(proof()))
    (tmp_path / "p.onnx").write_bytes(proved)
    assert PROOF.read(read_metadata(tmp_path / "p.onnx")) == proof()
    assert graph_sha256(tmp_path / "p.onnx") == graph_sha256(proved) == graph_sha256(data)
    onnx.checker.check_model(onnx.load_from_string(proved), full_check=True)
    again = with_metadata(proved, {PROOF_KEY: "x" * 200})
    kept = {p.key: p.value for p in onnx.load_from_string(again).metadata_props}
    assert kept[PROOF_KEY] == "x" * 200
    assert ModelCard.from_metadata(kept) is not None


def test_every_flipped_bit_of_the_graph_changes_its_digest(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    weights = model.graph.initializer[0]
    raw = bytearray(weights.raw_data)
    raw[2] ^= 1
    weights.raw_data = bytes(raw)
    assert graph_sha256(model.SerializeToString()) != graph_sha256(path)


def damaged(**changes: Any) -> str:
    fields = json.loads(PROOF.metadata(proof())[PROOF_KEY])
    first = fields["answers"][0]
    first.update({k: v for k, v in changes.items() if k in first})
    fields.update({k: v for k, v in changes.items() if k in fields})
    return json.dumps(fields)


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "{}", damaged(version=2), damaged(version="one"), damaged(answers=[]),
        damaged(labels="!"), damaged(labels="AAAA"),
        damaged(labels=packed_labels(np.full((16, 24), 9), 5)),
        damaged(margins=packed_margins(np.zeros(1 << 22), 1.0)), damaged(rows=40),
        damaged(span=0.0),
        damaged(rows=10**9, plane_height=10**9), damaged(step=-1), damaged(classes=0),
        damaged(logit_bound=2.0), damaged(height="high"), " " * MOST_BYTES + damaged(),
        damaged(picture={"height": 10**6, "width": 10**6, "seed": 1}),
    ],
)  # fmt: skip
def test_what_is_damaged_is_told_and_treated_as_none(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "segedge"):
        assert PROOF.read({PROOF_KEY: text}) is None
    assert PROOF_KEY in caplog.text


def test_what_a_newer_minor_version_adds_is_left_out() -> None:
    fields = json.loads(PROOF.metadata(proof())[PROOF_KEY])
    assert PROOF.read({PROOF_KEY: json.dumps({**fields, "more": 1})}) == proof()


def test_an_answer_refuses_what_it_cannot_be() -> None:
    with pytest.raises(CardError, match="16x24"):
        dataclasses.replace(answer(), plane_height=8)
