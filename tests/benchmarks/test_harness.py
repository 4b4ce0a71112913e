"""Workers in turn, options, and what is told when something fails."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

WORKER = """
import json, sys
variant = sys.argv[sys.argv.index("--variant") + 1]
if variant == "broken":
    print("Traceback ...", file=sys.stderr)
    sys.exit("library is too old")
print("chatter of a library")
print(json.dumps({"frame": [1.0, 2.0, 3.0], "load": 0.5} | ({} if variant == "a" else {"x": 1.0})))
"""


@pytest.fixture
def harness(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("harness")


def test_variants_take_turns_and_a_broken_one_is_skipped_with_its_reason(
    harness: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    turns = harness.run_in_turn(script, ["a", "broken", "b"], rounds=2)
    told = capsys.readouterr().err
    assert told.splitlines() == [
        "round 1/2  a", "round 1/2  broken", "  broken skipped: library is too old",
        "round 1/2  b", "round 2/2  a", "round 2/2  b",
    ]  # fmt: skip
    assert turns.skipped == {"broken": "library is too old"}
    assert list(turns.samples) == ["a", "b"]
    figures = {(f.variant, f.quantity): f for f in turns.figures({"load": "%"}, scene="s")}
    assert figures["a", "frame"].count == 6
    assert figures["a", "frame"].parameters == {"scene": "s"}
    assert (figures["b", "load"].unit, figures["b", "load"].median) == ("%", 0.5)
    assert turns.median("a", "frame") == 2.0
    assert turns.median("a", "x") is None
    assert turns.median("broken", "frame") is None


def test_stages_that_not_every_repeat_has_are_left_out(harness: ModuleType) -> None:
    count = 0

    def step() -> dict[str, float]:
        nonlocal count
        count += 1
        return {"frame": float(count), **({} if count % 2 else {"even": 1.0})}

    samples = harness.measure(step, seconds=1e-6)
    assert list(samples) == ["frame"]
    assert len(samples["frame"]) >= harness.AT_LEAST
    assert samples["frame"][0] > 10  # what warmed up does not count


@pytest.mark.parametrize("text", ["0", "-1", "1e9", "nan"])
def test_counts_are_above_zero(harness: ModuleType, text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not above 0"):
        harness.positive(float)(text)


def test_quick_overrides_rounds_and_seconds(harness: ModuleType) -> None:
    parser = harness.parser_of("text", rounds=3, seconds=2.0)
    assert harness.parsed(parser, ["--rounds", "4"]).rounds == 4
    quick = harness.parsed(parser, ["--rounds", "4", "--quick"])
    assert (quick.rounds, quick.seconds) == (1, 0.05)


def test_a_busy_machine_is_told(harness: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    import dataclasses

    environment = harness.Environment.capture()
    busy = dataclasses.replace(environment, load_1_min=environment.processors + 1.0)
    harness.say_machine(busy)
    assert "warning: the machine is busy: load" in capsys.readouterr().out
    harness.say_machine(dataclasses.replace(environment, load_1_min=0.0))
    assert "warning" not in capsys.readouterr().out
