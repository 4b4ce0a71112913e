"""stream(): frames and results as a plain ``for`` loop."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from segedge.card.labels import names_in
from segedge.errors import UsageError
from segedge.frames.closing import Closing
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView, Source
from segedge.frames.turns import Turns
from segedge.motion.summary import MotionSummary
from segedge.pipeline.feed import Feed
from segedge.pipeline.given import checked_source
from segedge.pipeline.ledger import Job, Ledger
from segedge.pipeline.mailbox import CAPACITY, Mailbox, MailboxClosed, Policy, policy_of
from segedge.pipeline.stats import Progress

if TYPE_CHECKING:
    from segedge.options.motion import Motion
    from segedge.pipeline.feed import FrameSegmenter
    from segedge.segment.on_gpu import CudaSegmenter
    from segedge.segment.result import Result
    from segedge.segment.segmenter import Segmenter


def stream(
    model: str | Path | Segmenter | CudaSegmenter | FrameSegmenter,
    source: str | Path | int | Source,
    *,
    policy: Policy | None = None,
    outputs: Iterable[str] = ("labels",),
    backend: str = "auto",
    motion: Motion | None = None,
) -> FrameStream:
    """Frames with their results, one at a time, read ahead in a thread.

    ``for frame, result in segedge.stream("model.onnx", 0): ...``

    Args:
        model: A file, which is opened and closed again, or a segmenter, which stays open.
        source: What `segedge run` takes, a camera's number, or a `Source`; it is closed at the end.
        policy: ``latest``: each step of the loop gets the newest frame, and those that came during
            the last step are dropped. ``lossless``: every frame, and the source waits. None is
            ``latest`` for live sources and ``lossless`` for others.
        outputs: What to compute at once; anything else is computed when first asked for.
        backend: For a file: ``auto`` or a name that `segedge doctor` lists.
        motion: For a file: on which frames the network works, the others getting its logits by
            motion; None: on all. With ``lossless`` some frames come later than they were read.

    Returns:
        An iterator. Leaving the loop early is fine in a ``with`` statement, or with `close`.

    Raises:
        SegedgeError: The model or the source cannot be opened.
        UsageError: Motion for a segmenter, which has its own.
    """
    if motion is not None and not isinstance(model, str | Path):
        raise UsageError(
            "a segmenter that is open has its own motion",
            fix='segedge.load("model.onnx", motion=...), and stream() without',
        )
    opened: Source
    if isinstance(source, str | Path | int):
        from segedge.video.options import SourceOptions
        from segedge.video.sources.open import open_source

        options = SourceOptions(motion_vectors=_needs_vectors(model, motion))
        opened = open_source(source, options=options)
    else:
        opened = checked_source(source)
    try:
        if isinstance(model, str | Path):
            from segedge.segment.load import load

            segmenter = load(model, backend=backend, motion=motion)
            compute, closing = cast("FrameSegmenter", segmenter), segmenter.close
        else:
            compute, closing = cast("FrameSegmenter", model), _nothing
        return FrameStream(opened, compute, policy=policy, outputs=outputs, on_close=closing)
    except BaseException:
        opened.close()
        raise


def _needs_vectors(model: object, motion: Motion | None) -> bool:
    """Whether the motion of a file's segmenter to be, or of a segmenter, asks the codec."""
    asked: Motion | None = motion or getattr(getattr(model, "options", None), "motion", None)
    return asked is not None and asked.needs_vectors


class FrameStream(Closing):
    """An iterator of (frame, result); made by `stream`.

    The frame is computed in the thread that asks for it, so that with ``latest`` it is as fresh as
    can be. Frames and results own their arrays: keep them as long as you like. Threads that share
    one get each frame once, in turn.
    """

    def __init__(
        self,
        source: Source,
        segmenter: FrameSegmenter,
        *,
        policy: Policy | None = None,
        outputs: Iterable[str] = ("labels",),
        on_close: Callable[[], None] = lambda: None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Begin to read; ``on_close`` is called once, at the end."""
        chosen = policy_of(policy, live=source.info.live)
        self._source = source
        self._feed = Feed(
            segmenter, frozenset(names_in(outputs)), live=chosen == "latest",
            is_sequence=source.info.kind != "images",
        )  # fmt: skip
        self._done: Iterator[tuple[Job, ResultView]] = iter(())
        self._ended = False
        self._on_close = on_close
        self._clock_ns = clock_ns
        self._inbox: Mailbox[Job] = Mailbox(CAPACITY[chosen], policy=chosen)
        self._ledger = Ledger(sinks=(), expected=source.info.frame_count, clock_ns=clock_ns)
        self._closed = False
        self._stepping = threading.RLock()
        """Held while a frame is computed: who closes waits for it, or leaves the end to it."""
        self._in_step = False
        self._turns = Turns("the stream")
        self._fate = "dropped"
        self._thread = threading.Thread(
            target=_read,
            args=(source, self._inbox, self._ledger),
            name="segedge-source",
            daemon=True,
        )
        weakref.finalize(self, _abandon, source, self._inbox)
        self._thread.start()

    @property
    def motion(self) -> MotionSummary | None:
        """Key frames and agreement so far; None without motion."""
        return self._feed.motion

    @property
    def drift(self) -> dict[str, Any] | None:
        """How the last frames compare with those that the network knows; see docs/adapt.md.

        None where the file does not say, or too little was seen.
        """
        return None if self._feed.drift is None else self._feed.drift.sample()

    @property
    def progress(self) -> Progress:
        """Counts so far: read = written + dropped + failed + those on their way."""
        return self._ledger.progress()

    def __iter__(self) -> Iterator[tuple[Frame, Result]]:
        """Itself: it runs once."""
        return self

    def __next__(self) -> tuple[Frame, Result]:
        """The next frame, or with ``latest`` the newest.

        Raises:
            StopIteration: The source has ended, or the stream is closed.
            SegedgeError: The source failed, and all that was read before it has come; or the
                network did. Nothing follows.
        """
        with self._turns:
            while not self._closed:
                shown = self._next_done()
                if shown is not None:
                    return shown
        raise StopIteration

    def _next_done(self) -> tuple[Frame, Result] | None:
        """The next of the frames that are done, or None where another must come first."""
        with self._stepping:
            if self._closed:
                return None
            self._in_step = True
            try:
                shown = self._step()
            except BaseException:
                self.close(fate="failed")
                raise
            finally:
                self._in_step = False
                self._end_if_closed()
        if shown is None:
            self._take()
        return shown

    def _step(self) -> tuple[Frame, Result] | None:
        start_ns = self._clock_ns()
        done = next(self._done, None)
        if done is None:
            return None
        job, result = done
        result.wait()
        compute_ms = (self._clock_ns() - start_ns) / 1e6
        self._ledger.computed(job, result, self._feed.own_ms(compute_ms))
        self._ledger.written(job, job.for_sink().times)
        if self._feed.drift is not None:
            self._feed.drift.look(job.frame, result)
            job.frame.drift = self._feed.drift.note
        return job.frame, cast("Result", result)

    def _take(self) -> None:
        """Take the next frame from the source, or at its end the frames that still wait."""
        if self._ended:
            self.close()
            if self._inbox.error is not None:
                raise self._inbox.error from None
            return
        try:
            job = self._inbox.get()
        except MailboxClosed:
            self._ended, self._done = True, self._feed.end()
            return
        self._ledger.taken(job)
        if self._source.info.kind == "images":
            job.frame.stream = None  # no sequence that smoothing could lean on
        elif job.frame.stream == 0:  # the source itself names no other
            job.frame.stream = self._feed.stream
        self._done = self._feed.push(job)

    def close(self, *, fate: str = "dropped") -> None:
        """End the reading. More than once does nothing; results given out stay usable.

        From another thread it waits for the frame that is being computed; from a signal handler
        in the midst of one, that frame is the last.
        """
        if self._closed:
            return
        self._closed, self._fate = True, fate
        self._inbox.close(drop=True)
        self._source.close()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        with self._stepping:
            self._end_if_closed()

    def _end_if_closed(self) -> None:
        """Let go of what was computed with, once nothing is being computed."""
        if self._in_step or not self._closed:
            return
        on_close, self._on_close = self._on_close, _nothing
        self._done = iter(())
        self._feed.close()
        self._ledger.settle_rest("failed" if self._fate == "failed" else "dropped")
        on_close()


def _read(source: Source, inbox: Mailbox[Job], ledger: Ledger) -> None:
    """The source's thread. It does not know the stream: one that nobody holds is collected."""
    try:
        ledger.enter_all(source, inbox)
    except BaseException as error:
        inbox.close(error)
    finally:
        inbox.close()


def _abandon(source: Source, inbox: Mailbox[Job]) -> None:
    """A loop was left without `close`: end the thread, and free the camera."""
    inbox.close()
    source.close()


def _nothing() -> None:
    """A segmenter that was handed in stays open."""
