"""`load`: from a model file, an engine or an address to a segmenter."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, cast

from segedge.backends.base import Backend
from segedge.backends.registry import ENGINE_SUFFIXES, Choice, may_run_on_host, open_backend
from segedge.backends.remote.address import is_address
from segedge.card.card import ModelCard
from segedge.card.familiar import FAMILIAR, Familiar
from segedge.card.modelfile import no_card_error, read_card, read_metadata
from segedge.cpu.ready import Patience, Ready
from segedge.errors import CardError, UsageError
from segedge.options.cleaning import Cleaning
from segedge.options.frame import FrameOptions
from segedge.options.motion import Motion
from segedge.options.sliding import Slide
from segedge.options.smoothing import Smoothing
from segedge.options.style import OverlayStyle
from segedge.segment.check import require_sound, warn
from segedge.segment.checked import Checked
from segedge.segment.common import Common
from segedge.segment.proving import Proving
from segedge.segment.segmenter import Segmenter

if TYPE_CHECKING:
    from segedge.backends.base import DeviceBackend
    from segedge.segment.on_gpu import CudaSegmenter


def load(
    model: str | Path,
    *,
    backend: str = "auto",
    threads: int | None = None,
    card: ModelCard | None = None,
    style: OverlayStyle | None = None,
    cleaning: Cleaning | None = None,
    slide: Slide | None = None,
    smoothing: Smoothing | None = None,
    motion: Motion | None = None,
    slots: int = 2,
    graphs: bool = True,
    check: bool = True,
    strict: bool = False,
    kernels: Patience = "wait",
) -> Segmenter | CudaSegmenter:
    """Open a model.

    Args:
        model: A ``.onnx`` file that carries its card, a ``.engine`` with its JSON file beside it,
            a ``.pt2`` program with ``card``, or a model on a server: ``grpc://host:8001/model``.
        backend: ``auto`` or a name that `segedge doctor` lists.
        threads: CPU threads; None takes all that this process may use.
        card: Overrides the file's own card.
        style: How overlays look; None is the palette at 50 %.
        cleaning: What is done with small regions of the labels; None leaves them.
        slide: Windows over the frame at full resolution, their logits averaged; None brings the
            whole frame to the network's size.
        smoothing: How the logits of a video are steadied over time; None leaves each frame alone.
        motion: On which frames of a video the network works; None: on all.
        slots: On a GPU: frames in flight at once.
        graphs: On a GPU: replay a captured graph a frame instead of launching each kernel.
        check: The first time, let the file prove itself on the backend (`Segmenter.checked`):
            ``auto`` takes the fastest that computes what was exported, and a backend that was named
            and does not is warned of.
        strict: Refuse instead of warning.
        kernels: On a CPU, where those of this version are not in the cache yet: ``wait`` compiles
            them before the first frame, which takes seconds; ``beside`` compiles them in a process
            of their own while NumPy computes the same frames, more slowly; ``none`` uses NumPy
            alone, for a few frames.

    Raises:
        ModelError: The file is missing, truncated, or carries no card; or, with ``strict``, has
            other weights than were exported, or no proof.
        BackendError: No backend can run it; or, with ``strict``, computes what was exported.
    """
    options = FrameOptions(
        style or OverlayStyle(), cleaning or Cleaning(), slide, smoothing, motion
    )
    path = _path_of(model)
    card = _known_card(path, card, is_checked=check or strict)
    with ExitStack() as opened:
        ready = common = proving = None
        if is_address(path) or may_run_on_host(backend):
            ready = Ready(card, patience=kernels)
            opened.callback(ready.close)
            common = Common(threads, ready)
            opened.callback(common.workers.close)
        if card is not None and (check or strict):
            proving = Proving(
                path, card, threads=threads, graphs=graphs, ready=ready, common=common
            )
        try:
            choice = _opened(path, backend, threads, proving, ready)
            opened.callback(choice.backend.close)
        finally:
            if ready is not None:
                ready.settle()
        name = choice.name if backend == "auto" else backend
        checked = _checked(path, name, choice, proving, strict=strict)
        card = card or _served_card(path, choice.backend)
        if choice.backend.memory == "host":
            segmenter: Segmenter | CudaSegmenter = Segmenter(
                card, choice.backend,
                options=options, threads=threads, ready=ready, common=common,
            )  # fmt: skip
        else:
            from segedge.segment.on_gpu import CudaSegmenter

            segmenter = CudaSegmenter(
                card, cast("DeviceBackend", choice.backend),
                options=options, slots=slots, graphs=graphs,
            )  # fmt: skip
        segmenter.backend_name, segmenter.backend_reason = name, choice.reason
        segmenter.checked = checked
        segmenter.familiar = familiar_of(path)
        opened.pop_all()  # the segmenter closes it
    return segmenter


def _path_of(model: object) -> Path:
    if isinstance(model, (str, Path)):
        return Path(model)
    raise UsageError(
        f"a model is a file or an address, found {type(model).__name__}",
        fix='segedge.load("model.onnx")',
    )


def _known_card(path: Path, card: ModelCard | None, *, is_checked: bool) -> ModelCard | None:
    """The card as far as it is known now: a server tells its model's later."""
    if is_address(path):
        return card
    if card is None:
        return card_of(path)
    if is_checked and path.suffix.lower() not in (".pt2", *ENGINE_SUFFIXES):
        read_card(path)  # what is no ONNX file is told as that, not as what libraries say
    return card


def _checked(
    path: Path, name: str, choice: Choice, proving: Proving | None, *, strict: bool
) -> Checked | None:
    """What came of the file's proof; what is wrong is said, or refused."""
    prover = None if proving is None else proving.prover
    checked = None if prover is None else prover.check(name, choice.backend)
    if strict:
        require_sound(prover, path, name)
    warn(checked, path)
    return checked


def familiar_of(path: Path) -> Familiar | None:
    """What the network's answers look like on images that it knows, where its file says so."""
    if is_address(path):
        return None
    if path.suffix.lower() in ENGINE_SUFFIXES:
        from segedge.engine.file import read_facts_beside

        facts = read_facts_beside(path)
        told = facts.familiar if facts is not None else ""
        return FAMILIAR.read({FAMILIAR.key: told}) if told else None
    return FAMILIAR.read(read_metadata(path)) if path.suffix.lower() == ".onnx" else None


def _opened(
    path: Path, backend: str, threads: int | None, proving: Proving | None, ready: Ready | None
) -> Choice:
    """The backend, while the CPU's kernels are made ready."""

    def refuses(name: str, opened: Backend | None) -> str:
        if opened is not None and ready is not None:
            ready.settle()
        return "" if proving is None else proving.refuses(name, opened)

    if proving is not None and backend != "auto":
        proving.begin(backend)
    return open_backend(path, backend, threads=threads, refuses=refuses)


def card_of(path: Path) -> ModelCard:
    """The card that a model file carries, or that lies beside an engine."""
    card = _own_card(path)
    if card is None:
        beside = f"put {path.name}.json beside it, which segedge build wrote, or --card MODEL.onnx"
        is_engine = path.suffix.lower() in ENGINE_SUFFIXES
        raise no_card_error(path, fix=beside if is_engine else None)
    return card


def _own_card(path: Path) -> ModelCard | None:
    """The card that a model file carries, or that lies beside an engine."""
    if path.suffix.lower() in ENGINE_SUFFIXES:
        from segedge.engine.file import engine_card

        return engine_card(path)
    return read_card(path)


def _served_card(address: Path, backend: Backend) -> ModelCard:
    """The card that a server tells."""
    card: ModelCard | None = getattr(backend, "card", None)
    if card is None:
        raise CardError(
            f"the server tells no card of {address.name}: its classes are unknown",
            fix="serve it with segedge triton, which puts its card there, or --card MODEL.onnx",
        )
    return card
