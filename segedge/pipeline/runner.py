"""Pipeline: a source, a segmenter and sinks, working at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from segedge.errors import UsageError, unknown_name_error
from segedge.frame import Frame
from segedge.pipeline.interrupt import on_interrupt
from segedge.pipeline.ledger import Job, Ledger
from segedge.pipeline.mailbox import POLICIES, Mailbox, MailboxClosed, Policy
from segedge.pipeline.stats import Progress, RunReport
from segedge.video.protocols import ResultView, Sink, Source

_LOSSLESS_CAPACITY = 3
"""Frames that wait between two stages: enough to even out their jitter, little memory."""

_LATEST_CAPACITY = 1
"""With ``latest`` every waiting frame is one frame time of latency."""


class FrameSegmenter(Protocol):
    """What turns a frame into a result; `segedge.segmenter.Segmenter` is one.

    Results must own their arrays: sinks read them while the next frames are computed.
    """

    def __call__(self, frame: Frame, /, *, outputs: frozenset[str]) -> ResultView:
        """Segment one frame.

        Args:
            frame: The frame; stage times are added to ``frame.times``.
            outputs: What the sinks will read, to be computed here and not in their threads.
        """


class Pipeline:
    """One run from a source through a segmenter into sinks.

    The source and each sink have a thread of their own; the segmenter stays in the thread that
    calls `run` (GPU contexts belong to threads). Bounded mailboxes join them, so frames keep
    their order and a slow stage holds back the ones before it, or with ``latest`` makes the source
    drop. The first error anywhere ends everything, once.

    Use it once. It closes the source and the sinks, and leaves the segmenter open.
    """

    def __init__(
        self,
        source: Source,
        segmenter: FrameSegmenter,
        sinks: Sequence[Sink],
        *,
        policy: Policy | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Put the stages together; nothing starts yet.

        Args:
            source: Where frames come from.
            segmenter: What happens to them.
            sinks: Where results go; none is a run for its statistics alone.
            policy: ``lossless`` waits for the slowest stage, ``latest`` drops the oldest waiting
                frame; None is ``latest`` for live sources and ``lossless`` for others.
            on_progress: Called in the thread of `run` after every frame that was computed, and
                once at the end; what it raises ends the run.
            clock_ns: The monotonic clock, the same one as `Frame.captured_ns`.

        Raises:
            UsageError: The policy is unknown.
        """
        policy = policy or ("latest" if source.info.live else "lossless")
        if policy not in POLICIES:
            raise unknown_name_error("policy", policy, POLICIES)
        self.report: RunReport | None = None
        """Set when `run` ends, also by an error."""
        self._source = source
        self._segmenter = segmenter
        self._sinks = tuple(sinks)
        self._outputs = frozenset[str]().union(*(sink.needs for sink in sinks))
        self._on_progress = on_progress or (lambda progress: None)
        self._clock_ns = clock_ns
        capacity = _LATEST_CAPACITY if policy == "latest" else _LOSSLESS_CAPACITY
        self._inbox: Mailbox[Job] = Mailbox(capacity, policy=policy)
        self._outboxes: tuple[Mailbox[Job], ...] = tuple(Mailbox(capacity) for _ in sinks)
        self._failing = threading.Lock()
        self._error: BaseException | None = None
        self._interrupted = False
        self._ledger: Ledger | None = None

    def run(self) -> RunReport:
        """Run until the source ends, something fails, or Ctrl-C.

        Ctrl-C stops reading; what was computed is still written and the files are finished. A
        second Ctrl-C leaves at once.

        Returns:
            What happened; ``interrupted`` tells of Ctrl-C.

        Raises:
            Exception: The first error of any stage, with its own traceback; `report` has the
                numbers nevertheless.
            UsageError: It has run before.
        """
        if self._ledger is not None:
            raise UsageError("a Pipeline runs once")
        expected = self._source.info.frame_count
        self._ledger = Ledger(
            sinks=max(1, len(self._sinks)), expected=expected, clock_ns=self._clock_ns
        )
        with on_interrupt(self._interrupt):
            threads = self._start()
            self._guarded(self._segment)
            self._close_outboxes()
            if self._interrupted:
                self._source.close()  # it may wait for a camera
            while any(thread.is_alive() for thread in threads):
                self._guarded(lambda: _join(threads))
        self._source.close()
        self._ledger.settle_rest("dropped" if self._interrupted else "failed")
        self.report = self._make_report()
        if self._error is None:
            self._guarded(lambda: self._on_progress(self._entries.progress()))
        if self._error is not None:
            raise self._error
        return self.report

    @property
    def _entries(self) -> Ledger:
        assert self._ledger is not None, "run() makes it"
        return self._ledger

    def _start(self) -> list[threading.Thread]:
        """Threads of source and sinks. Daemons: a second Ctrl-C must not wait for them."""
        threads = [threading.Thread(target=self._read, name="segedge-source", daemon=True)]
        for number, (sink, outbox) in enumerate(zip(self._sinks, self._outboxes, strict=True)):
            name = f"segedge-sink-{number}"
            threads.append(
                threading.Thread(target=self._write, args=(sink, outbox), name=name, daemon=True)
            )
        for thread in threads:
            thread.start()
        return threads

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a step of the calling thread; its error ends the run, Ctrl-C ends reading."""
        try:
            step()
        except KeyboardInterrupt as error:  # the second one, or where we have no signal handler
            if self._interrupted:
                self._fail(error)
                raise
            self._interrupt()
        except BaseException as error:
            self._fail(error)

    def _interrupt(self) -> None:
        """Stop reading. A signal handler: mailboxes are reentrant, other locks are not taken."""
        self._interrupted = True
        self._inbox.close()

    def _read(self) -> None:
        """The source's thread."""
        try:
            for frame in self._source.frames():
                job = self._entries.enter(frame)
                pushed_out = self._inbox.put(job)
                if pushed_out is not None:
                    self._entries.dropped(pushed_out)
        except MailboxClosed:
            pass  # the run ended elsewhere
        except BaseException as error:
            self._fail(error)
        finally:
            self._inbox.close()

    def _segment(self) -> None:
        """The calling thread's part: compute, and hand to every sink."""
        for job in self._inbox:
            if self._interrupted:
                return
            start_ns = self._clock_ns()
            result = self._segmenter(job.frame, outputs=self._outputs)
            job.computed_now(result, (self._clock_ns() - start_ns) / 1e6)
            if not self._sinks:
                result.wait()
                self._entries.written(job, job.for_sink().times)
            with suppress(MailboxClosed):  # a sink failed: the inbox is closed too
                for outbox in self._outboxes:
                    outbox.put(job)
            self._on_progress(self._entries.progress())

    def _write(self, sink: Sink, outbox: Mailbox[Job]) -> None:
        """A sink's thread."""
        try:
            for job in outbox:
                assert job.result is not None, "set before it was put here"
                job.result.wait()  # here, so that the next frame is computed meanwhile
                frame = job.for_sink()
                sink.write(frame, job.result)
                self._entries.written(job, frame.times)
                del job, frame  # not to be kept alive while waiting for the next
        except BaseException as error:
            self._fail(error)
        try:
            cut = any(failure.cut for failure in self._source.failures)
            sink.close(error=outbox.error is not None or cut)
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Keep the first error and wake everyone."""
        with self._failing:
            self._error = self._error or error
        self._inbox.close(error)
        for outbox in self._outboxes:
            outbox.close(error)
        with suppress(Exception):
            self._source.close()

    def _close_outboxes(self) -> None:
        for outbox in self._outboxes:
            outbox.close()

    def _make_report(self) -> RunReport:
        entries, stats = self._entries, self._entries.stats
        seconds = entries.seconds()
        first_ns = stats.first_written_ns
        return RunReport(
            source=self._source.info.name,
            **stats.counts,
            seconds=seconds,
            fps=stats.counts["written"] / seconds if seconds > 0 else 0.0,
            first_frame_seconds=None if first_ns is None else entries.seconds(first_ns),
            stages=stats.stages,
            compute=stats.compute,
            latency=stats.latency,
            interrupted=self._interrupted,
            paths=tuple(path for sink in self._sinks for path in sink.paths),
            failures=tuple(self._source.failures),
            notes=tuple(note for sink in self._sinks for note in sink.notes),
        )


def _join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.join()
