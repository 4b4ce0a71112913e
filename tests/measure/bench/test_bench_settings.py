"""What is measured: names, sizes, batches, and why the rest is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from segedge.backends.registry import BackendStatus
from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.cli.verbs.bench_words import parse_batches, parse_modes, parse_sizes, parse_tolerance
from segedge.errors import UsageError
from segedge.measure.bench import names
from segedge.measure.bench.names import ALL, Contender, choose_backends
from segedge.measure.bench.runner import BenchOptions
from segedge.measure.bench.settings import Setting, settings

CARD = ModelCard(("a", "b"), ((0, 0, 0), (1, 1, 1)), 48, 64, stride=8)
OPEN = CARD.replace(dynamic=("batch", "size"))
NETWORK, DOUBLE = Size(48, 64), Size(96, 128)


def test_one_size_and_batch_is_one_setting() -> None:
    found, skipped = settings(CARD, ("network", "frame"), networks=(), frames=(), batches=(1,))
    assert found == [Setting(NETWORK, DOUBLE, 1, ("network", "frame"))]
    assert skipped == {}


def test_batches_are_of_the_network_and_frame_sizes_of_the_frame() -> None:
    frames = (Size(20, 30), Size(40, 60), Size(80, 120))
    found, _ = settings(
        OPEN, ("network", "frame", "video"), networks=(), frames=frames, batches=(1, 4)
    )
    assert found == [
        Setting(NETWORK, frames[0], 1, ("network", "frame", "video")),
        Setting(NETWORK, frames[1], 4, ("network", "frame")),
        Setting(NETWORK, frames[2], 1, ("frame",)),
    ]


def test_network_sizes_have_frames_of_their_own() -> None:
    found, _ = settings(
        OPEN, ("network", "rate"), networks=(NETWORK, Size(24, 32)), frames=(), batches=(1, 2)
    )
    assert [(s.network, s.frame, s.batch, s.modes) for s in found] == [
        (NETWORK, DOUBLE, 1, ("network", "rate")),
        (NETWORK, DOUBLE, 2, ("network",)),
        (Size(24, 32), NETWORK, 1, ("network", "rate")),
        (Size(24, 32), NETWORK, 2, ("network",)),
    ]


def test_what_is_fixed_is_skipped_with_the_fix() -> None:
    found, skipped = settings(
        CARD, ("network", "frame"), networks=(NETWORK, Size(24, 32)), frames=(), batches=(1, 2, 8)
    )
    assert [setting.batch for setting in found] == [1]
    assert "fixed at 48x64" in skipped["network 24x32"]
    assert "--dynamic batch" in skipped["batch 2"]
    assert set(skipped) == {"network 24x32", "batch 2", "batch 8"}
    assert settings(CARD, ("frame",), networks=(), frames=(), batches=(2,))[1] == {}


def test_names() -> None:
    assert Contender.parse("tensorrt:fp16+tail") == Contender(
        "tensorrt:fp16+tail", "tensorrt:fp16", True
    )
    assert not Contender.parse("openvino").has_tail
    assert Contender.parse("eager-cuda").needs_program
    assert all(Contender.parse(name).name == name for name in ALL)
    here = {Contender.parse(name).base for name in ALL}
    assert here == set(names.BACKENDS) - {"remote"}, "`--backend all` leaves one out"
    with pytest.raises(UsageError, match="did you mean 'openvino'"):
        Contender.parse("opnvino+tail")
    with pytest.raises(UsageError, match="measured as it is"):
        Contender.parse("eager+tail")


def fake_statuses() -> list[BackendStatus]:
    ready = {"openvino", "eager", "torch-compile"}
    return [
        BackendStatus(name, "1", name in ready, "says why", None if name in ready else "pip x")
        for name in names.BACKENDS
    ]


def test_nobody_is_left_out_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "statuses", fake_statuses)
    ready, skipped = choose_backends(["all"])
    assert ready == ["openvino", "openvino:f32", "openvino+tail"]
    assert set(ready) | set(skipped) == set(ALL)
    assert skipped["onnxruntime+tail"] == "says why (fix: pip x)"
    assert "--program" in skipped["eager"]
    assert choose_backends([])[0] == ["openvino"]
    assert choose_backends([], has_program=True)[0] == ["openvino", "torch-compile", "eager"]


@pytest.mark.parametrize(
    ("words", "modes"),
    [
        (["both"], ("network", "frame")), (["all"], ("network", "frame", "rate")),
        (["rate,network"], ("network", "rate")), (["both", "video"], ("network", "frame", "video")),
    ],
)  # fmt: skip
def test_modes(words: list[str], modes: tuple[str, ...]) -> None:
    assert parse_modes(words) == modes
    assert parse_modes(words, has_video=True) == tuple(dict.fromkeys((*modes, "video")))


def test_words_that_mean_nothing() -> None:
    assert parse_batches(["1,2", "8", "2"]) == (1, 2, 8)
    assert parse_batches([]) == (1,)
    assert parse_sizes(["48x64, 96x128"]) == (NETWORK, DOUBLE)
    for words in (["0"], ["-2"], ["1.5"], ["two"]):
        with pytest.raises(UsageError, match="whole numbers above 0"):
            parse_batches(words)
    with pytest.raises(UsageError, match="did you mean 'frame'"):
        parse_modes(["frames"])
    assert parse_tolerance("5%") == parse_tolerance("0.05") == 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": (1, 0)}, "--batch must be positive"),
        ({"batches": ()}, "nothing to measure"),
        ({"modes": ("frames",)}, "did you mean 'frame'"),
        ({"modes": ("video",)}, "needs a video"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BenchOptions(**options)  # type: ignore[arg-type]
    assert BenchOptions(modes=("video",), video=Path("a.mp4")).batches == (1,)
