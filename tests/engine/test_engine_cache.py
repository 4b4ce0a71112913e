"""The engine cache: what is a hit, why a rebuild, and what may go wrong with a folder."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from segedge.engine.builder import build as engine_build
from segedge.engine.builder.build import EngineBuild, build_engine
from segedge.engine.cache import EngineCache, engine_key
from segedge.engine.file import facts_path
from segedge.engine.flavour import Flavour
from segedge.engine.options import BuildOptions
from segedge.engine.source import read_source
from segedge.errors import UsageError
from tests.engine.graphs import CARD, conv_model, save
from tests.processes import started


def test_built_once_then_loaded(make: Any) -> None:
    said: list[str] = []
    first, second = make(say=said.append), make(say=said.append)
    assert (first.cached, second.cached) == (False, True)
    assert first.reason == "first build of this model"
    assert second.reason == ""
    assert first.plan == second.plan
    assert second.card == CARD
    assert second.path == first.path
    assert said == ["building with TensorRT-RTX 1.7.1: first build of this model"]


def test_insisting_on_the_precision_that_it_has_is_a_hit(make: Any) -> None:
    make()
    assert make(BuildOptions(precision="fp32")).cached
    with pytest.raises(UsageError):
        make(BuildOptions(precision="int8"))


def test_a_renamed_copy_is_a_hit(make: Any, model: Path, tmp_path: Path) -> None:
    make()
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(model.read_bytes())
    assert build_engine(copy, flavour="tensorrt_rtx", cache=EngineCache.default()).cached


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (BuildOptions(precision="fp16"), "precision - → fp16"),
        (BuildOptions(tf32=False), "tf32 on → off"),
        (BuildOptions(targets=("sm86", "sm89")), "targets - → sm86,sm89"),
        (
            BuildOptions(optimization_level=0, workspace_bytes=1 << 30),
            "workspace_bytes - → 1073741824, optimization_level - → 0",
        ),
    ],
)
def test_changed_options_are_the_reason(make: Any, options: BuildOptions, reason: str) -> None:
    make()
    built = make(options)
    assert not built.cached
    assert built.reason == reason


def test_a_changed_model_is_the_reason(make: Any, model: Path) -> None:
    make()
    save(conv_model(seed=1), model, card=CARD)
    built = make()
    assert not built.cached
    assert built.reason.startswith("model.onnx changed since 20")


def test_another_version_is_the_reason(make: Any, cache: EngineCache) -> None:
    built = make()
    _forge(cache, built, version="1.4.0")
    assert make().reason == "TensorRT-RTX 1.4.0 → TensorRT-RTX 1.7.1"


def test_another_gpu_is_the_reason(
    rtx: Flavour, model: Path, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT proper is bound to a GPU; the library is RTX's, its name and the GPU pretended."""
    from segedge.machine.gpu import Gpu

    pretended = Flavour("tensorrt", rtx.module, (10, 13, 3))
    source = read_source(model)
    gpus = [Gpu("Orin", (8, 7), 8 << 30, True), Gpu("Thor", (11, 0), 64 << 30, True)]
    keys = [engine_key(source, options=BuildOptions(), flavour=pretended, gpu=gpu) for gpu in gpus]
    assert keys[0] != keys[1]
    built = build_engine(model, flavour=rtx, cache=cache)
    _forge(cache, built, flavour="tensorrt", version="10.13.3", gpu="Orin", capability="sm_87")
    order = engine_build._Order(
        source, BuildOptions(), pretended, gpus[1], None, None, lambda line: None
    )
    assert engine_build.rebuild_reason(order, cache) == "Orin (sm_87) → Thor (sm_110)"


def _forge(cache: EngineCache, built: EngineBuild, **changes: Any) -> None:
    """Make the only entry look as if it had been built elsewhere."""
    cache.clear()
    facts = dataclasses.replace(built.facts, **changes)
    cache.store("0" * 64, built.plan, facts)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "truncated"),
        (lambda path: path.write_bytes(b""), "truncated"),
        (lambda path: _flip(path, 9000), "corrupt"),
        (lambda path: _flip(path, 0), "no TensorRT engine"),
        (lambda path: facts_path(path).write_text("{"), "does not describe"),
        (lambda path: facts_path(path).write_text("[]"), "does not describe"),
        (lambda path: facts_path(path).unlink(), "are gone"),
    ],
)
def test_a_damaged_entry_is_rebuilt_and_says_so(make: Any, damage: Any, words: str) -> None:
    path = make().path
    damage(path)
    said: list[str] = []
    again = make(say=said.append)
    assert not again.cached
    assert words in again.reason
    assert len(said) == 1
    assert make().cached


def _flip(path: Path, index: int) -> None:
    data = bytearray(path.read_bytes())
    data[index] ^= 0xFF
    path.write_bytes(data)


def test_an_engine_that_tensorrt_refuses_is_built_anew(make: Any) -> None:
    """What only shows on a GPU: the plan is whole and yet not loaded."""
    first = make()
    said: list[str] = []
    reason = "TensorRT refuses the cached engine: old driver"
    again = make(say=said.append, refused=reason)
    assert not again.cached
    assert again.path == first.path
    assert said == [
        "building with TensorRT-RTX 1.7.1: TensorRT refuses the cached engine: old driver"
    ]
    assert make().cached


def test_another_flavours_bytes_under_our_key_are_rebuilt(make: Any) -> None:
    path = make().path
    data = path.read_bytes()
    path.write_bytes(b"ftrt" + data[4:])
    assert not make().cached


def test_the_least_recently_used_goes_first(make: Any, cache: EngineCache) -> None:
    first = make()
    size = first.path.stat().st_size + facts_path(first.path).stat().st_size
    small = EngineCache(cache.folder, limit_bytes=int(2.5 * size))
    second = make(BuildOptions(tf32=False), cache=small)
    for age, built in enumerate((first, second)):
        os.utime(facts_path(built.path), (1000 + age, 1000 + age))
    assert make(cache=small).cached  # now the first is the fresher one
    make(BuildOptions(optimization_level=0), cache=small)
    kept = {entry.path for entry in small.entries()}
    assert first.path in kept
    assert second.path not in kept
    assert len(kept) == 2


def test_an_engine_whose_description_is_spoilt_makes_room(make: Any, cache: EngineCache) -> None:
    spoilt = make().path
    facts_path(spoilt).write_text("{")
    os.utime(facts_path(spoilt), (1000, 1000))
    limit = int(1.5 * spoilt.stat().st_size)
    kept = make(BuildOptions(tf32=False), cache=EngineCache(cache.folder, limit_bytes=limit))
    assert not spoilt.exists()
    assert kept.path.exists()


def test_an_engine_larger_than_the_limit_is_kept_alone(make: Any, cache: EngineCache) -> None:
    built = make(cache=EngineCache(cache.folder, limit_bytes=10))
    assert [entry.path for entry in cache.entries()] == [built.path]


def test_what_a_killed_process_left_is_swept(make: Any, cache: EngineCache) -> None:
    cache.folder.mkdir(parents=True)
    left = cache.folder / ".abc.engine.x7"
    left.write_bytes(b"half")
    os.utime(left, (1, 1))
    make()
    assert not left.exists()


def test_list_and_clear(make: Any, cache: EngineCache) -> None:
    make()
    make(BuildOptions(tf32=False))
    entries = cache.entries()
    assert [dict(entry.facts.options) for entry in entries] == [{"tf32": False}, {}]
    engines, freed = cache.clear()
    assert engines == 2
    assert freed > sum(entry.size_bytes for entry in entries) - 1
    assert cache.entries() == []
    assert EngineCache(cache.folder / "absent").clear() == (0, 0)


def test_a_lock_makes_others_wait(cache: EngineCache) -> None:
    order: list[str] = []
    inside, waited = threading.Event(), threading.Event()

    def hold() -> None:
        with cache.locked("k", waiting=lambda: None):
            inside.set()
            waited.wait(10)
            order.append("first")

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(10)
    with cache.locked("k", waiting=waited.set):
        order.append("second")
    thread.join()
    assert waited.is_set()
    assert order == ["first", "second"]


_BUILDER = """
import sys, time
from pathlib import Path
from segedge.engine.builder import build as engine_build
from segedge.engine.cache import EngineCache
model, started, waiting = map(Path, sys.argv[1:])
real = engine_build.build_plan
def build(*args, **more):
    started.touch()
    while not waiting.exists():
        time.sleep(0.01)
    return real(*args, **more)
def say(text):
    print(text)
    if "another process is building" in text:
        waiting.touch()
engine_build.build_plan = build
built = engine_build.build_engine(
    model, flavour="tensorrt_rtx", cache=EngineCache.default(), say=say
)
print("CACHED" if built.cached else "BUILT")
"""


def test_two_processes_build_once(
    rtx: Flavour, model: Path, cache: EngineCache, tmp_path: Path
) -> None:
    def start(mark: str) -> AbstractContextManager[subprocess.Popen[str]]:
        words = [sys.executable, "-c", _BUILDER, model, tmp_path / mark, tmp_path / "waiting"]
        return started(words, stdout=subprocess.PIPE)

    with start("first") as first:
        while not (tmp_path / "first").exists() and first.poll() is None:
            time.sleep(0.02)
        with start("second") as second:
            said = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert said[0].endswith("BUILT\n")
    assert said[1].endswith("CACHED\n")
    assert "another process is building" in said[1]
    assert not (tmp_path / "second").exists()


def test_timings_are_kept(cache: EngineCache) -> None:
    assert cache.read_timings("gpu") == b""
    cache.write_timings("gpu", b"timings")
    assert cache.read_timings("gpu") == b"timings"
