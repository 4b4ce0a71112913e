from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segedge.frames.timing import StageTimes, Summary, percentile

values = st.lists(st.floats(0, 1e6), min_size=1, max_size=50)


@given(values=values, percent=st.floats(0, 100))
def test_percentile_is_numpys(values: list[float], percent: float) -> None:
    assert percentile(values, percent) == pytest.approx(np.percentile(values, percent), abs=1e-6)


def test_percentile_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="of 0 values"):
        percentile([], 50)
    with pytest.raises(ValueError, match="percentile 101"):
        percentile([1.0], 101)


def test_stage_times_add_up() -> None:
    times = StageTimes()
    times.add("tail", 1.5)
    times.add("tail", 0.5)
    times.add("network", 8.0)
    assert times.milliseconds == {"tail": 2.0, "network": 8.0}
    assert times.total() == 10.0
    assert times.total("network", "encode") == 8.0


def test_a_stage_that_raises_is_still_timed() -> None:
    times = StageTimes()
    with pytest.raises(KeyError), times.measure("decode"):
        raise KeyError
    assert times.milliseconds["decode"] >= 0.0


def test_summary() -> None:
    summary = Summary.of([1.0, 2.0, 3.0, 4.0])
    assert (summary.count, summary.mean_ms, summary.p50_ms, summary.max_ms) == (4, 2.5, 2.5, 4.0)
