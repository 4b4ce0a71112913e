"""Whether a backend computes what was exported: the proof's pictures, end to end, and compared.

The first time that a file meets a backend, a version, a device and a precision, its pictures go
through preprocessing, network and tail. On a device they are several, and differ: one alone is
answered rightly where frames in flight are mixed up. On the host, where a call returns what it has
computed, it is the first, which is resized as frames are. It is made while the backend opens, see
`segedge.segment.ahead`; what remains is a run of the network and the comparing. What came of it is
kept in the user's cache; later openings only look there.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

from segedge.backends.base import Backend, DeviceBackend, Precision
from segedge.backends.registry import (
    BACKENDS,
    ENGINE_SUFFIXES,
    may_run_on_host,
    open_backend,
)
from segedge.backends.remote.address import is_address
from segedge.card.attachments import PROOF_KEY
from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.card.modelfile import read_metadata, weights_beside
from segedge.card.plain import PlainError, from_plain, to_plain
from segedge.card.proof import PROOF, Proof
from segedge.errors import BackendError, CardError, ModelError
from segedge.machine.cache_folder import tell_once
from segedge.machine.environment import cpu_flags, cpu_name
from segedge.machine.gpu import find_driver
from segedge.machine.kept import Kept
from segedge.segment.ahead import Ahead
from segedge.segment.checked import (
    EXACT_ENOUGH,
    WRONG_WEIGHTS,
    Checked,
    bound_of,
    coarser,
)
from segedge.segment.common import Common
from segedge.segment.fitting import check_network, network_size
from segedge.version import __version__

Stamps = tuple[tuple[int, ...], ...]
"""See `stamps_of`."""
_SCHEMA = 4
_REFUSED = "refused"
"""Folder of what did not pass, which `auto` looks for before it opens anything."""
_SURELY_ROUNDING = 0.008
"""Labels and logits that change less in bf16 or f16 need no second look in f32, which opens the
file again. Trained networks stay below it in bf16, with 0.005 of their labels and 0.007 of their
logits' span; a Resize without its antialias changes 0.1."""
_UNCHECKED = "what it computes here is not checked"
_EXACT_VARIANT = {"openvino": "openvino:f32"}
"""Backends that compute the same file in float32 when they are asked."""
_log = logging.getLogger("segedge")


@dataclass
class Prover:
    """A file with a proof, and what came of it on backends."""

    path: Path
    card: ModelCard
    proof: Proof
    told: str
    """The proof as the file holds it."""
    threads: int | None = None
    graphs: bool = True
    common: Common = field(default_factory=Common)
    """What the picture's frame and later ones have in common, on the CPU."""
    stamps: Stamps = ()
    """Of the file when it was opened; what comes of it is kept of that one."""
    found: dict[str, Checked] = field(default_factory=dict)
    """Backend with its variant to what came of it."""
    _entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Backend with its variant to what is kept of it."""

    @classmethod
    def of(
        cls,
        path: Path,
        card: ModelCard,
        *,
        threads: int | None = None,
        graphs: bool = True,
        common: Common | None = None,
        stamps: Stamps | None = None,
    ) -> Prover | None:
        """None where the file has no proof, or is opened with another card than its own.

        ``stamps`` were taken before a backend read the file; None: none has yet.
        """
        if is_address(path):
            return None
        if stamps is None:
            stamps = stamps_of(path)
        own, told = _read(path)
        if told == "":
            _note(f"{path.name} carries no proof: {_UNCHECKED} (segedge prove {path})")
        proof = PROOF.read({PROOF_KEY: told}) if told else None
        if proof is None or own is None:
            return None
        size = {"input_height": card.input_height, "input_width": card.input_width}
        if own.replace(**size) != card:
            _note(f"{path.name} is opened with another card than its own: {_UNCHECKED}")
            return None
        if problem := _misfit(proof, card):
            _log.warning("%s in the model file is left aside: %s", PROOF_KEY, problem)
            return None
        return cls(path, own, proof, told or "", threads, graphs, common or Common(threads), stamps)

    def begin(self, name: str) -> None:
        """Prepare for a backend on the CPU that nothing is known of."""
        if not self._entry(name):
            self._ahead.begin(self.common)

    @staticmethod
    def has_refused_nothing() -> bool:
        """Whether no file was ever refused, as far as is kept: `refused_before` needs more time."""
        return Kept.default(_REFUSED).is_new

    def refused_before(self, name: str) -> str:
        """Why this version of a backend is known not to pass, if it is, without opening it."""
        entry = self._read_entry(Kept.default(_REFUSED), name)
        found = _outcome(entry)
        if found is None or found.passed or entry.get("library") != _library(name):
            return ""
        return found.text

    def check(self, name: str, backend: Backend) -> Checked | None:
        """What comes of the pictures, or came of them before; None where they cannot be shown."""
        found = self._kept(name, backend)
        if found is None:
            found = self.look(name, backend)
            if found is not None:
                self._keep(name, backend, found)
        if found is not None:
            self.found[name] = found
        return found

    def look(self, name: str, backend: Backend) -> Checked | None:
        """What comes of the pictures now; None where the network is of another size than proved."""
        if _size_of(self.card, backend, self.proof) != self.proof.network:
            _note(f"{self.path.name} is proved at {self.proof.network} alone: {_UNCHECKED}")
            return None
        found = self._shown(backend)
        changes = max(1.0 - found.labels, found.error or 0.0)
        exact = exact_variant(name)
        if found.rounds and changes > _SURELY_ROUNDING and exact is not None:
            found = replace(found, exact=self._is_exact(exact))
        return replace(found, same_weights=self._ahead.has_its_weights())

    def _is_exact(self, name: str) -> bool:
        """Whether the backend is right in float32: what a coarse precision changes may hide it."""
        choice = open_backend(self.path, name, threads=self.threads)
        with closing(choice.backend) as backend:
            return self._shown(backend).within

    def _shown(self, backend: Backend) -> Checked:
        from segedge.reference.proof import nearness, tail_share

        network, card = self.proof.network, self._proved_card
        near, tails = [], []
        with self._segmenter(card, backend) as segmenter:
            for answer in self.proof.answers[: 1 if backend.memory == "host" else None]:
                result = segmenter(self._ahead.pixels(answer), outputs=("labels",))
                near.append(nearness(answer, result.logits, card))
                geometry = card.place(answer.picture.size, network)
                tails.append(tail_share(result.labels, result.logits, card, geometry))
        errors = [one.error for one in near if one.error is not None]
        labels, error, tail = min(one.labels for one in near), max(errors, default=None), min(tails)
        precision = coarser(backend.precision, cast("Precision", self.proof.precision))
        bound = bound_of(self.proof, precision)
        return Checked(
            backend=backend.description.partition(" (")[0],
            precision=precision,
            file_precision=cast("Precision", self.proof.precision),
            labels=labels,
            error=error,
            tail=tail,
            within=labels >= bound.labels
            and (error is None or error <= bound.error)
            and tail >= EXACT_ENOUGH,
        )

    @property
    def _proved_card(self) -> ModelCard:
        """The file's, at the size that it is proved at."""
        network = self.proof.network
        return self.card.replace(input_height=network.height, input_width=network.width)

    @contextmanager
    def _segmenter(self, card: ModelCard, backend: Backend) -> Iterator[Any]:
        """One for a single frame, plainly; it leaves the backend open, and what is common."""
        if backend.memory == "host":
            from segedge.segment.segmenter import Segmenter

            yield Segmenter(card, backend, common=self.common)
            return
        from segedge.segment.on_gpu import CudaSegmenter

        lent = cast("DeviceBackend", _Lent(backend))
        with CudaSegmenter(card, lent, slots=1, graphs=self.graphs) as segmenter:
            yield segmenter

    @cached_property
    def _ahead(self) -> Ahead:
        return Ahead(self.path, self._proved_card, self.proof)

    @cached_property
    def _store(self) -> Kept:
        return Kept.default("checks")

    def _kept(self, name: str, backend: Backend) -> Checked | None:
        """What came of it before, on the same of everything."""
        entry = self._entry(name)
        return _outcome(entry) if entry.get("detail") == _detail(backend) else None

    def _keep(self, name: str, backend: Backend, found: Checked) -> None:
        entry = {"detail": _detail(backend), "checked": to_plain(found)}
        self._entries[name] = entry
        if self._store.put(self._key(name), entry) and not found.passed:
            Kept.default(_REFUSED).put(self._key(name), {**entry, "library": _library(name)})

    def _entry(self, name: str) -> dict[str, Any]:
        """What is kept, of whatever version of the library; empty where nothing is."""
        if name not in self._entries:
            self._entries[name] = self._read_entry(self._store, name)
        return self._entries[name]

    def _read_entry(self, store: Kept, name: str) -> dict[str, Any]:
        kept = store.get(self._key(name))
        return kept if isinstance(kept, dict) else {}

    def _key(self, name: str) -> str:
        """What the outcome depends on and is known at once, before a backend is opened."""
        return json.dumps([_SCHEMA, __version__, self._file, name, _device(name)])

    @cached_property
    def _file(self) -> list[Any]:
        """The file as it lies there, which changes with its weights, and what it says itself."""
        said = self.card.to_json() + self.told
        return [self.stamps, hashlib.sha256(said.encode()).hexdigest(), self.graphs]


def stamps_of(path: Path) -> Stamps:
    """What changes when a file, or the one with its weights, is written or another takes its name.

    They are taken before the file is opened: one that is replaced meanwhile is not what runs, and
    what comes of it must not be kept of what is there now.
    """
    found = []
    for one in filter(None, (path, weights_beside(path))):
        with suppress(OSError):  # there is none, or whoever opens it says what is wrong
            s = one.stat()
            found.append((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns))
    return tuple(found)


def exact_variant(name: str) -> str | None:
    """What computes the same file in float32, where a backend may round."""
    return _EXACT_VARIANT.get(name.partition(":")[0])


def require_sound(prover: Prover | None, path: Path, name: str) -> None:
    """Refuse what is not as exported, and what nobody knows of."""
    found = None if prover is None else prover.found.get(name)
    if found is None:
        raise ModelError(
            f"{path.name} cannot be checked on {name}",
            facts={"found": "no proof in it that this network and card could be compared with"},
            fix=f"segedge prove {path}, or leave --strict out",
        )
    if not found.passed:
        raise BackendError(
            f"{name} does not compute what was exported as {path.name}",
            facts={"found": found.figures},
            fix=f"segedge doctor {path} checks every backend; or leave --strict out",
        )
    if not found.same_weights:
        raise ModelError(
            f"{path.name} is not as it was exported",
            facts={"found": WRONG_WEIGHTS, "on the test picture": found.figures},
            fix="copy or export the file again; segedge prove it where the change is meant",
        )


def warn(found: Checked | None, path: Path) -> None:
    """Say what is wrong with what is about to run."""
    if found is not None and not found.is_sound:
        _log.warning("%s: %s; segedge doctor %s", path.name, found.text, path)


def _read(path: Path) -> tuple[ModelCard | None, str | None]:
    """The card and the proof's text, of a file or beside an engine; None: it can have none."""
    if path.suffix == ".pt2":
        return None, None
    if path.suffix.lower() not in ENGINE_SUFFIXES:
        metadata = read_metadata(path)
        return ModelCard.from_metadata(metadata), metadata.get(PROOF_KEY, "")
    from segedge.engine.file import read_facts_beside

    facts = read_facts_beside(path)
    return (None, None) if facts is None else (facts.card, facts.proof or None)


def _misfit(proof: Proof, card: ModelCard) -> str:
    """Why a proof cannot be of a network with this card; nothing where it can."""
    for answer in proof.answers:
        if answer.classes != len(card.classes):
            return f"it is of {answer.classes} classes, the card has {len(card.classes)}"
    try:
        card.replace(input_height=proof.height, input_width=proof.width)
    except CardError as error:
        return f"it is of an input of {proof.height}x{proof.width}: {error.headline}"
    return ""


def _size_of(card: ModelCard, backend: Backend, proof: Proof) -> Size:
    """The network's size when it is shown a picture of the proof."""
    first, _ = check_network(card, backend)
    wanted = card.replace(input_height=proof.height, input_width=proof.width)
    return network_size(wanted, first)


class _Lent:
    """A backend that another owner closes."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def close(self) -> None:
        """Nothing: it is not ours."""


def _detail(backend: Backend) -> list[str]:
    """What an opened backend says of itself, threads aside: its library's version, too."""
    facts = getattr(backend, "facts", None)
    library = backend.description.partition(" (")[0]
    return [library, backend.precision, getattr(facts, "plan_sha256", "")]


def _outcome(entry: dict[str, Any]) -> Checked | None:
    """What came of it, as far as an entry says so."""
    try:
        return from_plain(Checked, entry["checked"])
    except (KeyError, TypeError, PlainError):
        return None


def _note(text: str) -> None:
    tell_once(text, logging.INFO)


@cache
def _library(name: str) -> str | None:
    """Version of a backend's library as it is installed: looking for it takes milliseconds."""
    return BACKENDS[name.partition(":")[0]].status().version


@cache
def _device(name: str) -> str:
    """What a backend of this name computes on."""
    if may_run_on_host(name):
        return f"{cpu_name()} {' '.join(cpu_flags())}"
    driver = find_driver()
    return f"{driver.gpu} {driver.cuda_text}"
