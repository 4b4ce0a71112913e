"""The kernels of smoothing against the reference: on the CPU through the shim, and on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from shim.cases import EXAMPLES, a_card
from shim.gpu import GpuLauncher, at
from shim.launcher import ShimLauncher

from segedge.card.geometry import Size
from segedge.cuda.runtime.program import Launcher
from segedge.cuda.smoothing import Smooth
from segedge.errors import UsageError
from segedge.options.smoothing import Changes, Flicker, Smoothing, Step
from segedge.reference import smoothing as reference
from tests.smooth_cases import CONFIGS, Sequence, assert_close, figures, sequences


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: "-".join(map(str, c.values())))
def test_sequences_equal_the_reference(
    launcher: ShimLauncher | GpuLauncher, config: dict[str, Any]
):
    @settings(deadline=None, max_examples=max(EXAMPLES // 6, 5))
    @given(sequences(**config))
    def check(case: Sequence) -> None:
        Run(case, launcher).check()

    check()
    assert [kernel.name for kernel in launcher.kernels[:2]] == ["smooth_guide", "smooth_blend"]


class Run:
    """One sequence through the kernels."""

    def __init__(self, case: Sequence, launcher: Launcher) -> None:
        self.case, self.launcher = case, launcher
        logits, tensor, _ = case.frames[0]
        self.smooth = Smooth(
            case.card, case.grid, case.network, smoothing=case.smoothing, dtype=logits.dtype,
            tensor_dtype=tensor.dtype,
        )  # fmt: skip
        # Nothing of it may be read before it is written: NaN, and labels that are none.
        self.past = {
            name: np.full(shape, 0xFF if np.dtype(kind).kind == "u" else np.nan, kind)
            for name, (shape, kind) in self.smooth.past_shapes().items()
        }
        self.past["counts"][:] = 0
        self.scratch = np.full(self.smooth.scratch_bytes // 4, np.nan, np.float32)

    def step(self, logits: np.ndarray, tensor: np.ndarray, step: Step) -> None:
        past = {name: at(array) for name, array in self.past.items()}
        self.smooth.run(
            self.launcher, at(logits), at(tensor), at(self.scratch), past=past, step=step
        )

    def check(self) -> None:
        theirs, counted = None, np.zeros(5, int)
        for logits, tensor, step in self.case.frames:
            expected, theirs, counts = reference.smooth(
                logits, tensor, self.case.card, theirs, smoothing=self.case.smoothing, step=step
            )
            found = logits.copy()
            self.step(found, tensor, step)
            assert_close(found, expected)
            counted += figures(counts)
        if self.case.smoothing.flicker:
            still, *changes = self.past["counts"].tolist()
            flicker = Flicker(still, Changes(*changes[:2]), Changes(*changes[2:]))
            assert np.abs(figures(flicker) - counted).max() <= 1 + 0.02 * counted.max()


def test_what_cannot_be_smoothed_is_refused():
    size = Size(4, 4)
    with pytest.raises(UsageError, match="gives labels"):
        Smooth(a_card(head="labels"), size, size, smoothing=Smoothing())
    with pytest.raises(UsageError, match="float64"):
        Smooth(a_card(), size, size, smoothing=Smoothing(), dtype="float64")
    with pytest.raises(UsageError, match="uint8"):
        Smooth(a_card(), size, size, smoothing=Smoothing(), tensor_dtype="uint8")
    with pytest.raises(UsageError, match="no smoothing of inputs of 4x32768"):
        Smooth(a_card(), size, Size(4, 32768), smoothing=Smoothing())
