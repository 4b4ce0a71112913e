"""`segedge cache`: what is kept for later starts, and emptying the engines' part of it."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import typer

from segedge.cli.console import print_json, print_row
from segedge.cli.options import AsJson
from segedge.engine.cache import CacheEntry, EngineCache
from segedge.engine.facts import EngineFacts
from segedge.errors import ModelError, unknown_name_error
from segedge.machine.cache_folder import Kind, cache_folder, cache_path
from segedge.machine.files import megabytes, refused

_ACTIONS = ("list", "clear")
_COMPILED: dict[Kind, str] = {"cpu": "compiled for CPUs", "kernels": "compiled for GPUs"}


def cache_command(
    action: Annotated[str, typer.Argument(help="list or clear.")] = "list",
    as_json: AsJson = False,
) -> None:
    """List or delete the engines that were built for this user.

    SEGEDGE_CACHE_DIR names another folder. Deleting is safe: engines are built again when needed.
    Kernels lie beside them; those that a month saw no use of go by themselves.
    """
    if action not in _ACTIONS:
        raise unknown_name_error("action", action, list(_ACTIONS))
    cache = EngineCache.default()
    if action == "clear":
        _clear(cache, as_json)
    else:
        _list(cache, as_json)


def _clear(cache: EngineCache, as_json: bool) -> None:
    with refused(f"{cache.folder} cannot be emptied", ModelError):
        engines, freed = cache.clear()
    if as_json:
        print_json({"folder": str(cache.folder), "engines": engines, "freed_bytes": freed})
        return
    print_row("cleared", f"{engines} engines, {megabytes(freed)} from {cache.folder}")


def _list(cache: EngineCache, as_json: bool) -> None:
    entries = cache.entries()
    total = sum(entry.size_bytes for entry in entries)
    if as_json:
        print_json(
            {
                "folder": str(cache.folder),
                "total_bytes": total,
                "limit_bytes": cache.limit_bytes,
                "engines": [_data(entry) for entry in entries],
                "origin": cache_folder().origin,
                "problem": cache_folder().problem,
                **{f"{kind}_bytes": _kept(kind)[1] for kind in _COMPILED},
            }
        )
        return
    print_row("folder", cache_folder().text)
    for kind, name in _COMPILED.items():
        count, size = _kept(kind)
        print_row(kind, f"{count} {name}, {megabytes(size)}")
    for entry in entries:
        facts = entry.facts
        options = " ".join(f"{k}={v}" for k, v in facts.options.items() if k != "precision")
        print_row(
            entry.key[:10],
            f"{facts.model}  {facts.precision}  {megabytes(entry.size_bytes)}  {facts.library}, "
            f"{_device(facts)}{'  ' + options if options else ''}  used {_day(entry.used)}",
        )
    limit = megabytes(cache.limit_bytes)
    print_row("total", f"{len(entries)} engines, {megabytes(total)} of at most {limit}")
    if entries:
        print_row("next", "segedge cache clear")


def _kept(kind: Kind) -> tuple[int, int]:
    """Files of one kind and their bytes."""
    sizes = [path.stat().st_size for path in cache_path(kind).rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def _data(entry: CacheEntry) -> dict[str, Any]:
    facts = entry.facts
    return {
        "key": entry.key,
        "path": str(entry.path),
        "model": facts.model,
        "precision": facts.precision,
        "library": facts.library,
        "device": facts.device,
        "options": dict(facts.options),
        "size_bytes": entry.size_bytes,
        "built": facts.built,
        "used": _day(entry.used),
    }


def _device(facts: EngineFacts) -> str:
    """The GPU, or the first target and how many there are besides."""
    first, *others = facts.targets or (facts.device,)
    return f"{first} and {len(others)} more" if others else first


def _day(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
