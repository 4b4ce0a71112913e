"""Affinity, cgroup quotas of both versions and OMP_NUM_THREADS decide together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from segedge.cpu.workers import Workers
from segedge.machine import processors as module
from segedge.machine.processors import Processors, cpu_quota, processors, usable_processors
from segedge.video.encode.settings import encoder_threads


@pytest.fixture(autouse=True)
def cgroups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Eight processors, no limits, and a tree of cgroups that is this test's own."""
    monkeypatch.setattr(module, "_CGROUPS", tmp_path)
    monkeypatch.setattr(module, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_affinity_where_nothing_else_limits(cgroups: Path) -> None:
    assert processors() == Processors(8, "affinity")
    write(cgroups, own="0::/\n", cpu__max="max 100000\n")
    assert processors() == Processors(8, "affinity")


@pytest.mark.parametrize(
    ("limit", "count", "text"),
    [
        ("50000 100000", 1, "cgroup quota of 0.5"),
        ("150000 100000", 1, "cgroup quota of 1.5"),
        ("400000 100000", 4, "cgroup quota of 4"),
        ("1000 100000", 1, "cgroup quota of 0.01"),
        ("1600000 100000", 8, "affinity"),
    ],
)
def test_version_2(cgroups: Path, limit: str, count: int, text: str) -> None:
    write(cgroups, own="0::/\n", cpu__max=limit)
    assert processors() == Processors(count, text)


def test_the_tightest_cgroup_around_counts(cgroups: Path) -> None:
    write(cgroups, own="0::/pod/box\n")
    write(cgroups / "pod", cpu__max="300000 100000")
    write(cgroups / "pod" / "box", cpu__max="max 100000")
    assert cpu_quota() == 3.0
    write(cgroups / "pod" / "box", cpu__max="200000 100000")
    assert cpu_quota() == 2.0


@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
def test_version_1(cgroups: Path, folder: str) -> None:
    """The path in /proc is the host's; a container sees its own group as the root."""
    write(cgroups, own="5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n1:name=systemd:/\n0::/\n")
    write(cgroups / folder, cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    assert cpu_quota() is None
    write(cgroups / folder, cpu__cfs_quota_us="250000\n", cpu__cfs_period_us="100000\n")
    assert processors() == Processors(2, "cgroup quota of 2.5")


def test_what_cannot_be_read_limits_nothing(cgroups: Path) -> None:
    write(cgroups, own="nonsense\n0::/\n4:cpu:/\n", cpu__max="what?")
    write(cgroups / "cpu", cpu__cfs_quota_us="", cpu__cfs_period_us="0")
    assert cpu_quota() is None


@pytest.mark.parametrize(
    ("asked", "count"), [("3", 3), ("2,1", 2), ("64", 8), ("0", 8), ("", 8), ("all", 8), ("-1", 8)]
)
def test_omp_num_threads(monkeypatch: pytest.MonkeyPatch, asked: str, count: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert usable_processors() == count


def test_kernels_encoders_and_workers_of_batch_follow(
    cgroups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segedge.batch.begin import split

    assert (Workers().count, encoder_threads(), split(0, 0, 0)) == (4, 4, (4, 2))
    write(cgroups, own="0::/\n", cpu__max="50000 100000")
    assert (Workers().count, encoder_threads(), split(0, 0, 0)) == (1, 1, (1, 1))
