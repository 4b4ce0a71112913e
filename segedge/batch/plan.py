"""The plan: which frames make a shard, and what their outputs are called.

It depends on the inputs and options alone, so that a later run knows which shards are finished.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np

from segedge.batch.inputs import InputFile
from segedge.batch.store import is_remote
from segedge.card.plain import from_plain, parse_json
from segedge.errors import SourceError, UsageError
from segedge.frames.frame import Frame
from segedge.frames.protocols import SourceFailure
from segedge.video.sinks.names import FrameNames
from segedge.video.sources.parts import VideoPart, split_video

_SCANNERS = 8
"""Videos that are looked at side by side: this waits for disks."""


@dataclass(frozen=True)
class Shard:
    """What one worker does in one go; done whole or not at all."""

    shard_id: str
    """A digest of everything below and of the files' sizes and times of change."""
    source: str
    """Name of the video or folder of images in the outputs."""
    kind: Literal["video", "images"]
    paths: tuple[str, ...]
    """The video, or the images in order."""
    stems: tuple[str, ...] = ()
    """Names of the images' outputs."""
    first_index: int = 0
    """Number of its first frame in the source."""
    part: VideoPart | None = None
    """Of a video; None: all of it."""
    frames: int | None = None
    """How many it has, where that is known."""

    @property
    def label(self) -> str:
        """What messages call it: ``drive/0001, frames 1500..2999``."""
        if self.part is None and self.kind == "video":
            return self.source
        count = (self.part.frames if self.part else self.frames) or 0
        what = "frames" if self.kind == "video" else "images"
        return f"{self.source}, {what} {self.first_index}..{self.first_index + count - 1}"


@dataclass(frozen=True)
class Planned:
    """One source, as the archive remembers it."""

    key: str
    """The video's path, or the folder's of its images."""
    name: str
    """What outputs are called after; never given to another source again."""
    fingerprint: str
    """Of the video when it was cut; empty for images."""
    frames: int | None = None
    """Of a video, as it declares or by the cut; None where unknown."""
    parts: tuple[VideoPart, ...] = ()
    """Of a video that was cut."""
    shards: tuple[str, ...] = ()
    """Ids of its shards, as the last run that named it had them."""


@dataclass(frozen=True)
class Plan:
    """All sources, in the order of the table, and the shards of this run."""

    sources: tuple[Planned, ...]
    """All sources, also those of earlier runs."""
    shards: tuple[Shard, ...]
    """Of the inputs of this run."""
    failures: tuple[SourceFailure, ...]
    """Videos that cannot be opened."""
    replaced: tuple[Planned, ...] = ()
    """Videos as earlier runs saw them, where the file is another one now."""

    @property
    def shard_ids(self) -> list[str]:
        """Of all sources, in the order of the table."""
        return [shard_id for source in self.sources for shard_id in source.shards]

    @property
    def frames(self) -> int | None:
        """How many frames there are, where all videos tell."""
        counts = [shard.frames for shard in self.shards]
        return None if None in counts else sum(count or 0 for count in counts)


def make_plan(
    files: Sequence[InputFile], *, shard_frames: int, known: Sequence[Planned] = ()
) -> Plan:
    """Cut the inputs into shards.

    ``shard_frames`` is the shortest part of a video, and most images of a shard; ``known`` sources,
    of earlier runs into the same archive, keep their names and cuts.
    """
    before = {planned.key: planned for planned in known}
    names = _Names(planned.name for planned in known)
    folders: dict[str, list[InputFile]] = {}
    order: dict[str, InputFile] = {}
    for file in files:
        if file.is_image:
            folders.setdefault(file.path.rpartition("/")[0], []).append(file)
        order.setdefault(file.path.rpartition("/")[0] if file.is_image else file.path, file)
    videos = [file for file in files if not file.is_image]
    looked = _look_at_all(videos, before, shard_frames)
    sources: dict[str, Planned] = dict(before)
    shards: list[Shard] = []
    failures: list[SourceFailure] = []
    for key, file in order.items():
        found = looked.get(key)
        if isinstance(found, SourceError):
            reason = found.facts.get("found")
            failures.append(SourceFailure(key, found.headline + (f": {reason}" if reason else "")))
            continue
        name = before[key].name if key in before else names(_stem(file))
        if found is None:
            planned = Planned(key, name, "")
            own = _of_images(name, folders[key], shard_frames)
        else:
            planned = dataclasses.replace(found, name=name)
            own = _of_video(planned)
        sources[key] = dataclasses.replace(planned, shards=tuple(s.shard_id for s in own))
        shards += own
    replaced = tuple(b for b in before.values() if b.fingerprint != sources[b.key].fingerprint)
    return Plan(tuple(sources.values()), tuple(shards), tuple(failures), replaced)


def plan_lines(sources: Sequence[Planned]) -> bytes:
    """The file that remembers sources, a line each."""
    lines = (json.dumps(dataclasses.asdict(source), ensure_ascii=False) for source in sources)
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def read_plan(data: bytes) -> list[Planned]:
    """What `plan_lines` wrote."""
    lines = data.decode("utf-8", "surrogateescape").splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(from_plain(Planned, dict(parse_json(line))))
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"line {number} of the archive's list of sources is damaged",
                facts={"found": str(error)},
                fix="--out ANOTHER",
            ) from error
    return found


def _look_at_all(
    videos: Sequence[InputFile], before: Mapping[str, Planned], shard_frames: int
) -> dict[str, Planned | SourceError]:
    """Each video by its path: its cuts, or why it cannot be opened."""

    def look(file: InputFile) -> Planned | SourceError:
        known = before.get(file.path)
        if known is not None and known.fingerprint == file.fingerprint:
            return known
        try:
            return _look_at(file, shard_frames)
        except SourceError as error:
            return error

    with ThreadPoolExecutor(_SCANNERS) as pool:
        return dict(zip((file.path for file in videos), pool.map(look, videos), strict=True))


def _look_at(file: InputFile, shard_frames: int) -> Planned:
    """A video's cuts: only a long local one is read for them.

    One that lies elsewhere is fetched whole by whoever works on it, so it is one shard.
    """
    if is_remote(file.path):
        return Planned(file.path, "", file.fingerprint)
    from segedge.video.sources.file import VideoFile

    count = VideoFile(file.path).info.frame_count
    parts: tuple[VideoPart, ...] = ()
    if count is None or count > shard_frames:
        parts = split_video(file.path, frames=shard_frames)
    if parts:
        count = sum(part.frames for part in parts)
    return Planned(file.path, "", file.fingerprint, count, parts)


def _of_video(source: Planned) -> list[Shard]:
    if not source.parts:
        digest = _digest(source.name, source.key, source.fingerprint, None)
        paths = (source.key,)
        return [Shard(digest, source.name, "video", paths, frames=source.frames)]
    return [
        Shard(
            _digest(source.name, source.key, source.fingerprint, dataclasses.astuple(part)),
            source.name,
            "video",
            (source.key,),
            first_index=part.first_index,
            part=part,
            frames=part.frames,
        )
        for part in source.parts
    ]


def _of_images(name: str, files: Sequence[InputFile], shard_frames: int) -> list[Shard]:
    """Consecutive images of a folder, named as `segedge run` names them."""
    stem_of = FrameNames()
    nothing = np.empty((0, 0, 3), np.uint8)
    stems = [stem_of(Frame(nothing, index, file.path)) for index, file in enumerate(files)]
    shards = []
    for first in range(0, len(files), shard_frames):
        own, called = files[first : first + shard_frames], stems[first : first + shard_frames]
        facts = [(file.path, file.fingerprint) for file in own]
        digest = _digest(name, first, facts, called)
        paths = tuple(file.path for file in own)
        shards.append(Shard(digest, name, "images", paths, tuple(called), first, frames=len(own)))
    return shards


def _digest(*values: object) -> str:
    return hashlib.sha256(repr(values).encode("utf-8", "surrogateescape")).hexdigest()[:20]


def _stem(file: InputFile) -> str:
    """Path of the outputs: the video's without its ending, or the folder's of images."""
    below = PurePosixPath(file.below)
    if file.is_image:
        own = below.parent.as_posix()
        text = own if own != "." else PurePosixPath(file.path).parent.name
    else:
        text = below.with_suffix("").as_posix()
    parts = [re.sub(r"[^\w.+-]+", "-", part).strip("-.") for part in text.split("/")]
    return "/".join(part for part in parts if part) or "source"


class _Names:
    """Names that no other source has, told apart without case."""

    def __init__(self, taken: Any) -> None:
        self._taken = {name.casefold() for name in taken}
        self._next: dict[str, int] = {}

    def __call__(self, wanted: str) -> str:
        name, number = wanted, self._next.get(wanted, 2)
        while name.casefold() in self._taken:
            name, number = f"{wanted}-{number}", number + 1
        self._next[wanted] = number
        self._taken.add(name.casefold())
        return name
