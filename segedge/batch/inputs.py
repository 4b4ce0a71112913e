"""From what the user typed to files: folders, globs, lists, files, here or behind fsspec."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segedge.batch.store import file_system, is_remote
from segedge.errors import SourceError, UsageError
from segedge.frames.protocols import SourceFailure
from segedge.machine.files import refused
from segedge.machine.text_file import read_lines
from segedge.video.formats import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from segedge.video.sources.images import natural_key
from segedge.video.sources.open import check_named, not_found

LIST_SUFFIXES = (".txt", ".lst", ".list")
"""Endings of text files with a path a line."""
_MAGIC = "*?["
_CHANGES = ("etag", "md5hash", "mtime", "lastmodified", "last_modified", "updated", "created")
"""What file systems of fsspec call it that tells an object from an earlier one of its size."""


@dataclass(frozen=True)
class InputFile:
    """One video or image."""

    path: str
    """As it is opened: absolute, or an fsspec address."""
    below: str
    """Path under the folder, pattern or list that it came from; outputs are named after it."""
    fingerprint: str
    """Size and time of change, or the digest that a store has: another file of that name is
    another input."""

    @property
    def is_image(self) -> bool:
        """By its ending."""
        return self.path.lower().endswith(IMAGE_SUFFIXES)


def find_inputs(specs: Sequence[str]) -> tuple[list[InputFile], list[SourceFailure]]:
    """All files that were named, each once, in order; and what a list names that is not there.

    Folders (with all folders in them), patterns in quotes, lists (``.txt``: a path a line, relative
    to the list), videos and images.
    """
    if not specs:
        raise UsageError("no input was given")
    found: dict[str, InputFile] = {}
    missing: list[SourceFailure] = []
    for spec in specs:
        is_list = spec.lower().endswith(LIST_SUFFIXES) and not is_remote(spec)
        for file in _listed(Path(spec), missing) if is_list else _of_spec(spec):
            found.setdefault(file.path, file)
    return list(found.values()), missing


def _of_spec(spec: str) -> Iterable[InputFile]:
    check_named(spec)
    if is_remote(spec):
        return _remote(spec)
    path = Path(os.path.abspath(spec.removeprefix("file://")))  # noqa: PTH100 - resolve() follows links
    if path.is_dir():
        return _some([_file(p, path.parent) for p in _walk(path)], spec)
    if path.is_file():
        if not _is_input(path.name):
            raise SourceError(
                f"{path} is of no known kind",
                facts={
                    "images": " ".join(IMAGE_SUFFIXES),
                    "videos": " ".join(VIDEO_SUFFIXES),
                    "lists": " ".join(LIST_SUFFIXES),
                },
            )
        return [_file(path, path.parent)]
    if any(character in spec for character in _MAGIC):
        return _some(_matching(path), spec)
    raise not_found(path)


def _matching(pattern: Path) -> list[InputFile]:
    fixed = Path(*_fixed(pattern.parts))
    matches = (Path(text) for text in glob.glob(str(pattern), recursive=True))  # noqa: PTH207
    files = [path for path in matches if path.is_file() and _is_input(path.name)]
    return [_file(path, fixed.parent) for path in sorted(files, key=natural_key)]


def _fixed(parts: Sequence[str]) -> list[str]:
    """The folders of a pattern before its first wildcard."""
    fixed: list[str] = []
    for part in parts[:-1]:
        if any(character in part for character in _MAGIC):
            break
        fixed.append(part)
    return fixed


def _walk(folder: Path) -> Iterator[Path]:
    """Videos and images in a folder and all folders in it, in natural order; no hidden ones."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted((f for f in folders if not f.startswith(".")), key=natural_key)
        yield from (Path(parent) / f for f in sorted(files, key=natural_key) if _is_input(f))


def _listed(path: Path, missing: list[SourceFailure]) -> list[InputFile]:
    """The files of a list; those that are not there are told of, and the others go on."""
    with refused(f"cannot read the list {path}", SourceError):
        lines = read_lines(path)
    entries = [line.text for line in lines]
    local = [path.absolute().parent / entry for entry in entries if not is_remote(entry)]
    base = Path(os.path.commonpath([file.parent for file in local])) if local else Path()
    found: list[InputFile] = []
    for line, entry in zip(lines, entries, strict=True):
        try:
            if is_remote(entry):
                found += _remote(entry)
                continue
            file = path.absolute().parent / entry
            if not file.is_file() or not _is_input(file.name):
                raise SourceError("is no video or image" if file.exists() else "not found")
            found.append(_file(Path(os.path.normpath(file)), base))
        except SourceError as error:
            missing.append(
                SourceFailure(
                    entry, f"{error.headline} (listed in {path.name}, line {line.number})"
                )
            )
    if not found:
        raise SourceError(
            f"nothing that {path} lists is there",
            facts={"lines": str(len(entries)), "first": missing[0].name if missing else "none"},
            fix="paths in a list are relative to the list",
        )
    return found


def _remote(address: str) -> list[InputFile]:
    scheme = address.partition("://")[0]
    if scheme in ("rtsp", "rtsps", "rtmp", "udp", "tcp", "srt"):
        raise UsageError(
            f"{scheme}:// is a stream, and segedge batch takes files",
            fix="record it first: segedge run MODEL ADDRESS -o archive.mkv --segment 10m",
        )
    files, path = file_system(address)
    try:
        entries = _remote_entries(files, path)
    except Exception as error:  # each file system has its own
        reason = f"{type(error).__name__}: {error}"
        raise SourceError(f"cannot list {address}", facts={"found": reason}) from error
    base = str(PurePosixPath(*_fixed(PurePosixPath(path.rstrip("/")).parts)))
    found = [
        InputFile(
            f"{scheme}://{name.lstrip('/')}" if scheme != "memory" else f"memory://{name}",
            _below(name, base),
            _fingerprint(info),
        )
        for name, info in entries.items()
        if info.get("type") == "file" and _is_input(name.rpartition("/")[2])
    ]
    return list(_some(sorted(found, key=lambda file: natural_key(file.path)), address))


def _remote_entries(files: object, path: str) -> dict[str, dict[str, object]]:
    """Name to facts of all files that a path means."""
    found: dict[str, dict[str, object]]
    if any(character in path for character in _MAGIC):
        found = files.glob(path, detail=True)  # type: ignore[attr-defined]
    elif files.isdir(path):  # type: ignore[attr-defined]
        found = files.find(path, detail=True)  # type: ignore[attr-defined]
    else:
        found = {path: files.info(path)}  # type: ignore[attr-defined]
    return found


def _fingerprint(info: Mapping[str, object]) -> str:
    facts = {key.lower(): value for key, value in info.items()}
    change = next((facts[key] for key in _CHANGES if facts.get(key) is not None), "")
    return f"{facts.get('size')} {change}".rstrip()


def _below(name: str, base: str) -> str:
    return name.removeprefix(base).lstrip("/") or name.rpartition("/")[2]


def _file(path: Path, base: Path) -> InputFile:
    stat = path.stat()
    below = path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name
    return InputFile(str(path), below, f"{stat.st_size} {stat.st_mtime_ns}")


def _is_input(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES + VIDEO_SUFFIXES) and not name.startswith(".")


def _some(files: list[InputFile], spec: str) -> list[InputFile]:
    if files:
        return files
    raise SourceError(
        f"no video or image in {spec}",
        facts={"images": " ".join(IMAGE_SUFFIXES), "videos": " ".join(VIDEO_SUFFIXES)},
    )
