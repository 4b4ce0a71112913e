"""Statistics and familiar figures: written, read back, and left aside where they are damaged."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segedge.card.familiar import FAMILIAR, Familiar
from segedge.card.statistics import STATISTICS, Channels, Statistics
from segedge.errors import CardError

counts = st.lists(st.integers(1, 9), min_size=0, max_size=4)


@given(counts, st.integers(0, 2**32 - 1))
def test_statistics_come_back_in_half_precision(channels: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    given_ = {
        f"v{number}": Channels(rng.normal(0, 3, count), rng.uniform(0, 1e6, count))
        for number, count in enumerate(channels)
    }
    read = STATISTICS.read(STATISTICS.metadata(Statistics.of("BatchNorm", given_)))
    assert read is not None
    assert list(read.expected) == list(given_)
    for name, one in given_.items():
        back = read.expected[name]
        np.testing.assert_array_equal(back.mean, one.mean.astype(np.float16))
        wanted = np.minimum(one.deviation, 65504).astype(np.float16)
        np.testing.assert_array_equal(back.deviation, wanted)


def text(**changes: object) -> dict[str, str]:
    kept = Statistics.of("BatchNorm", {"a": Channels(np.zeros(3), np.ones(3))})
    fields = json.loads(STATISTICS.metadata(kept)[STATISTICS.key])
    return {STATISTICS.key: json.dumps({**fields, **changes})}


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"channels": [4]},
        {"channels": [0]},
        {"channels": [1 << 30]},
        {"values": ["a", "a"], "channels": [1, 2]},
        {"mean": "no base64"},
        {"mean": 3},
    ],
)
def test_damaged_statistics_are_left_aside(
    changes: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    assert STATISTICS.read(text()) is not None
    assert STATISTICS.read(text(**changes)) is None
    assert "left aside" in caplog.text


def test_statistics_are_finite() -> None:
    with pytest.raises(CardError, match="finite"):
        Statistics.of("x", {"a": Channels(np.array([np.nan]), np.ones(1))})
    with pytest.raises(CardError, match="not below zero"):
        Statistics.of("x", {"a": Channels(np.zeros(1), -np.ones(1))})


def familiar(**changes: object) -> Familiar:
    fields: dict[str, object] = {
        "when": "exported", "images": 3, "confidence": 0.9, "spread": 0.01,
        "top": (0.1,) * 10, "class_shares": (0.5, 0.5), "mean_bgr": (100.0, 90.0, 80.0),
        "contrast_bgr": (40.0, 40.0, 40.0),
    }  # fmt: skip
    return Familiar(**{**fields, **changes})  # type: ignore[arg-type]


def test_familiar_figures_come_back() -> None:
    assert FAMILIAR.read(FAMILIAR.metadata(familiar())) == familiar()


@pytest.mark.parametrize(
    "changes",
    [{"confidence": 1.5}, {"top": (1.0,)}, {"images": 0}, {"mean_bgr": (1.0, 2.0, float("nan"))}],
)
def test_familiar_figures_are_possible(changes: dict[str, object]) -> None:
    with pytest.raises(CardError):
        familiar(**changes)


def test_the_alarm_is_below_what_single_images_do() -> None:
    assert familiar(spread=0.001).alarm == pytest.approx(0.85)
    assert familiar(spread=0.1).alarm == pytest.approx(0.6)
    assert familiar(confidence=0.1, spread=0.1).alarm == 0.0
