"""What the machine did meanwhile, read from files of the test's own."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from bench_parts import seen

from segedge.card.plain import from_plain, to_plain
from segedge.measure.bench.watch import (
    Observed,
    Spread,
    Watch,
    doubts,
    processor_mhz,
    processor_seconds,
)
from segedge.pipeline.gpu_meter import GpuMeter, jetson_reader

HZ = os.sysconf("SC_CLK_TCK")


def write_stat(root: Path, busy: float, stolen: float = 0.0) -> None:
    """Seconds so far, the same on each processor that this process may use."""
    numbers = sorted(os.sched_getaffinity(0))
    each = [round(seconds * HZ) // len(numbers) for seconds in (busy, stolen)]
    lines = [f"cpu{n} {each[0]} 0 0 999 9 0 0 {each[1]} 7 0" for n in numbers]
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/stat").write_text("\n".join(["cpu 1 2 3", *lines, "cpu4096 5 5 5 5 5 5 5 5", ""]))


class Times:
    """The clock, and what this process used."""

    now_ns, own = 0, 0.0

    def watch(self, root: Path, readings: list[dict[str, float]] | None = None) -> Watch:
        meter = GpuMeter(lambda: readings.pop(0) if readings else {})
        return Watch(
            root=root, gpu=meter, clock_ns=lambda: self.now_ns, own_seconds=lambda: self.own
        )


def test_others_are_what_is_busy_and_not_ours(tmp_path: Path) -> None:
    many = len(os.sched_getaffinity(0))
    write_stat(tmp_path, 100.0 * many)
    times = Times()
    watch = times.watch(tmp_path)
    times.now_ns, times.own = 2_000_000_000, 3.0
    write_stat(tmp_path, 100.0 * many + 4.0, 1.0)
    found = watch.end()
    assert (found.seconds, found.own_percent, found.threads) == (2.0, 150.0, many)
    assert found.others_percent == pytest.approx(50.0, abs=3)
    assert found.stolen_percent == pytest.approx(50.0, abs=3)


def test_too_short_or_untold_is_not_known(tmp_path: Path) -> None:
    times = Times()
    watch = times.watch(tmp_path)
    times.now_ns = 2_000_000_000
    assert watch.end().others_percent is None
    write_stat(tmp_path, 100.0)
    watch = times.watch(tmp_path)
    times.now_ns += 10_000_000
    assert watch.end().others_percent is None
    assert processor_seconds(tmp_path / "absent", [0]) is None
    assert processor_mhz(tmp_path, [0]) is None


def test_clocks_and_power_are_read_four_times_a_second(tmp_path: Path) -> None:
    frequency = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
    frequency.parent.mkdir(parents=True)
    frequency.write_text("3000000\n")
    assert processor_mhz(tmp_path, [0]) == 3000.0
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("cpu MHz\t\t: 2400.5\ncpu MHz\t\t: 2400.7\n")
    assert processor_mhz(tmp_path, [7]) == pytest.approx(2400.6)
    times, readings = Times(), [{"power_w": w} for w in (10.0, 30.0, 50.0)]
    watch = times.watch(tmp_path, readings)
    for now_ns in (100_000_000, 260_000_000, 300_000_000):
        times.now_ns = now_ns
        watch.tick()
    found = watch.end()
    assert found.gpu == {"power_w": Spread(10.0, 30.0, 50.0)}


def test_a_jetson_tells_its_clock(tmp_path: Path) -> None:
    path = tmp_path / "sys/class/devfreq/17000000.gpu/cur_freq"
    path.parent.mkdir(parents=True)
    path.write_text("1020000000\n")
    read = jetson_reader(tmp_path)
    assert read is not None
    assert read() == {"clock_mhz": 1020.0}


def test_the_real_machine_answers() -> None:
    watch = Watch()
    watch.tick()
    found = watch.end()
    assert found.own_percent >= 0.0
    assert from_plain(Observed, json.loads(json.dumps(to_plain(found)))) == found


def test_rounds_are_joined_by_their_length() -> None:
    long = dataclasses.replace(seen(others=10.0, mhz=(2000, 2400)), seconds=3.0)
    found = Observed.join([long, seen(others=50.0, mhz=(1000, 2000), gpu_mhz=(500, 600))])
    assert (found.seconds, found.others_percent) == (4.0, 20.0)
    assert found.cpu_mhz == Spread(1000, 1850, 2400)
    assert found.gpu["clock_mhz"] == Spread(500, 550, 600)
    assert Observed.join([seen(others=None)]).others_percent is None


def test_doubts() -> None:
    assert doubts({"a": seen(others=19.0, stolen=3.0, mhz=(2300, 2400))}) == []
    assert doubts({"a": seen(others=21.0), "b": seen()}) == [
        "other programs took up to 21 % of a processor during 1 of 2: a"
    ]
    assert doubts({"a": seen(others=90.0), "b": seen(others=80.0)}) == [
        "other programs took up to 90 % of a processor during all of it"
    ]
    assert "the hypervisor took up to 5 %" in doubts({"a": seen(stolen=5.0)})[0]
    # Each stood still, but not the same.
    clocks = {"a": seen(mhz=(2000, 2000)), "b": seen(mhz=(3000, 3000), gpu_mhz=(800, 1400))}
    assert doubts(clocks) == [
        "the processors' clock moved between 2000 and 3000 MHz",
        "the GPU's clock moved between 800 and 1400 MHz",
    ]
