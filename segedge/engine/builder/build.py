"""An engine for a model: from the cache where it has one, else built, and why."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from segedge.card.card import ModelCard
from segedge.engine.builder.builder import TimingCache, build_plan, building_gpu
from segedge.engine.builder.half import Images
from segedge.engine.builder.network import check_precision
from segedge.engine.builder.progress import ProgressCallback
from segedge.engine.cache import EngineCache, engine_key
from segedge.engine.facts import EngineFacts
from segedge.engine.file import ENGINE_SUFFIXES, EngineFile, is_engine, sha256, write_engine
from segedge.engine.flavour import Flavour, load_flavour
from segedge.engine.options import BuildOptions, options_difference
from segedge.engine.source import EngineSource, read_buildable
from segedge.engine.versions import checked_targets, device_key
from segedge.errors import ModelError, UsageError
from segedge.machine.files import megabytes, prepare_folder, sink_error, writing
from segedge.machine.gpu import Gpu
from segedge.version import __version__

Say = Callable[[str], None]
"""Told one line for people: why an engine is built, that another process builds it."""


@dataclass(frozen=True)
class EngineBuild:
    """An engine, and how it came about."""

    plan: bytes = field(repr=False)
    facts: EngineFacts
    card: ModelCard | None
    path: Path | None
    """Where the plan is on disk; None where neither an output was named nor a cache could keep
    it."""
    cached: bool
    """Whether it was built before."""
    reason: str
    """Why it was built, in one line; empty for a cached one."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Order:
    """What is wanted, resolved."""

    source: EngineSource
    options: BuildOptions
    flavour: Flavour
    gpu: Gpu | None
    images: Images | None
    progress: ProgressCallback | None
    say: Say
    refused: str = ""

    @property
    def key(self) -> str:
        key = engine_key(self.source, options=self.options, flavour=self.flavour, gpu=self.gpu)
        if self.images is None or self.options.precision != "fp16":
            return key
        # Ranges measured on other images may keep other layers in fp32.
        return sha256(key.encode(), *(image.tobytes() for image in self.images))


def build_engine(
    model: str | Path,
    *,
    output: str | Path | None = None,
    options: BuildOptions | None = None,
    flavour: str | Flavour = "auto",
    cache: EngineCache | None = None,
    images: Images | None = None,
    progress: ProgressCallback | None = None,
    say: Say | None = None,
    refused: str = "",
) -> EngineBuild:
    """An engine for an ONNX file, built only if the cache has none that still fits.

    The plan goes to ``output`` with ``OUTPUT.json`` beside it; None leaves it in the cache. Without
    a cache it is built anew and nothing but the output kept. ``images`` are preprocessed inputs
    that fp16's ranges are measured on; None is noise. ``refused``: why the cached engine is no
    good. Ctrl-C leaves nothing behind.
    """
    loaded = flavour if isinstance(flavour, Flavour) else load_flavour(flavour)
    order = _Order(
        source=read_buildable(model),
        options=options or BuildOptions(),
        flavour=loaded,
        gpu=building_gpu(loaded),
        images=images,
        progress=progress,
        say=say or _say_nothing,
        refused=refused,
    )
    checked_targets(loaded, order.options.targets)
    if output is not None:
        _check_output(Path(output))  # before minutes are spent on it
    result = _built(order, "not cached") if cache is None else _from_cache(order, cache)
    return result if output is None else _written(result, Path(output))


def _from_cache(order: _Order, cache: EngineCache) -> EngineBuild:
    key = order.key
    try:
        with cache.locked(key, waiting=lambda: order.say(_waiting(order))):
            return _loaded_or_built(order, cache, key)
    except OSError as error:
        # Read-only, full, no locks: the engine matters, the cache does not.
        return _readable_or_built(order, cache, key, error)


def _readable_or_built(order: _Order, cache: EngineCache, key: str, error: OSError) -> EngineBuild:
    """A cache that cannot be locked: read what is there, build what is not, keep nothing."""
    try:
        file = None if order.refused else cache.load(key)
    except ModelError:
        file = None
    if file is not None and file.facts is not None:
        return _loaded(order, file, file.facts)
    reason = order.refused or rebuild_reason(order, cache)
    return _warned(_built(order, reason), cache, error)


def _warned(built: EngineBuild, cache: EngineCache, error: OSError) -> EngineBuild:
    warning = (
        f"the engine cannot be cached: {cache.folder}: {error.strerror or error}; "
        "SEGEDGE_CACHE_DIR names another folder"
    )
    return dataclasses.replace(built, warnings=(*built.warnings, warning))


def _loaded_or_built(order: _Order, cache: EngineCache, key: str) -> EngineBuild:
    reason = order.refused
    try:
        file = None if order.refused else cache.load(key)
        if file is not None and file.facts is not None:
            return _loaded(order, file, file.facts)
        if file is not None:
            reason = "the facts beside the cached engine are gone"
    except ModelError as error:
        found = "; ".join(error.facts.values())
        reason = f"the cached engine is damaged: {error.headline} ({found})"
    built = _built(order, reason or rebuild_reason(order, cache), cache)
    try:
        path = cache.store(key, built.plan, built.facts)
    except OSError as error:
        return _warned(built, cache, error)
    return dataclasses.replace(built, path=path)


def rebuild_reason(order: _Order, cache: EngineCache) -> str:
    """Why the cache has no engine, by comparing with the newest one of the same model."""
    entries = [entry.facts for entry in cache.entries()]
    same = [facts for facts in entries if facts.onnx_sha256 == order.source.sha256]
    place = [facts for facts in entries if facts.origin == order.source.origin]
    if not same:
        name = order.source.path.name
        return f"{name} changed since {place[0].built}" if place else "first build of this model"
    old, flavour = same[0], order.flavour
    new_options = order.options.to_dict()
    device = device_key(flavour, order.gpu, checked_targets(flavour, order.options.targets))
    if old.library != str(flavour):
        return f"{old.library} → {flavour}"
    if not flavour.builds_ahead and old.device != device:
        return f"{old.device} → {device}"
    changed = options_difference(dict(old.options), new_options)
    if changed or old.segedge != __version__:
        return changed or f"segedge {old.segedge} → {__version__}"
    return "other images to measure fp16 on"


def _built(order: _Order, reason: str, cache: EngineCache | None = None) -> EngineBuild:
    order.say(f"building with {order.flavour}: {reason}")
    built = build_plan(
        order.source,
        flavour=order.flavour,
        options=order.options,
        images=order.images,
        progress=order.progress,
        timing=_timing(order, cache),
    )
    return EngineBuild(built.plan, built.facts, order.source.card, None, False, reason, ())


def _loaded(order: _Order, file: EngineFile, facts: EngineFacts) -> EngineBuild:
    check_precision(order.options.precision, facts.precision, facts.model)
    return EngineBuild(file.plan, facts, file.card, file.path, True, "", ())


def _check_output(output: Path) -> None:
    """Refuse a name under which the engine could not be written, or not be found again."""
    if output.is_dir():  # first: "." has no name that could end otherwise
        raise sink_error(output, IsADirectoryError(errno.EISDIR, "Is a directory"))
    if not is_engine(output):
        raise UsageError(
            f"{output} is not named like an engine",
            facts={"expected": f"a name that ends in {', '.join(ENGINE_SUFFIXES)}"},
            fix=f"-o {output.with_suffix('.engine')}",
        )
    prepare_folder(output.parent, purpose=output)


def _written(result: EngineBuild, output: Path) -> EngineBuild:
    with writing(output, facts={"needed": megabytes(len(result.plan))}):
        write_engine(output, result.plan, result.facts)
    return dataclasses.replace(result, path=output)


def _timing(order: _Order, cache: EngineCache | None) -> TimingCache | None:
    if cache is None or order.gpu is None:
        return None
    # Timings hold for one GPU and one version of the library.
    name = sha256(f"{order.flavour} {order.gpu}".encode())[:16]
    return TimingCache(
        lambda: cache.read_timings(name), lambda data: cache.write_timings(name, data)
    )


def _waiting(order: _Order) -> str:
    return f"another process is building the engine of {order.source.path.name}: waiting for it"


def _say_nothing(line: str) -> None:
    """Keep quiet."""
