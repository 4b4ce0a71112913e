"""Pipeline: sources, one segmenter and sinks, working at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from segedge.errors import UsageError
from segedge.frames.protocols import ResultView, Sink, Source
from segedge.machine.interrupt import on_interrupt
from segedge.pipeline.feed import FrameSegmenter
from segedge.pipeline.lane import Lane
from segedge.pipeline.ledger import Job
from segedge.pipeline.machine import Machine
from segedge.pipeline.mailbox import Policy, RoundRobin
from segedge.pipeline.sampler import Sampler, SecondTicker, Ticker
from segedge.pipeline.stats import Progress, RunReport

__all__ = ["FrameSegmenter", "Lane", "MultiPipeline", "Pipeline", "Watch"]


@dataclass(frozen=True)
class Watch:
    """Who wants to know how a run goes, and by which clocks."""

    on_progress: Callable[[Progress], None] | None = None
    """Called in the thread of `run` after every frame that was computed, and once at the end; what
    it raises ends the run."""
    on_sample: Callable[[dict[str, Any]], None] | None = None
    """Called once a second, in a thread of its own, with the figures of docs/pipeline.md, and once
    at the end; what it raises ends the run."""
    clock_ns: Callable[[], int] = time.monotonic_ns
    """The monotonic clock, the same one as `Frame.captured_ns`."""
    ticker: Ticker | None = None
    """When to sample; None: every second."""
    machine: Machine | None = None
    """What measures processor and GPU; None: the real ones."""


class MultiPipeline:
    """One run of several lanes through one segmenter.

    Each source and each sink has a thread of its own; the segmenter stays in the thread that calls
    `run` (GPU contexts belong to threads) and takes frames from the lanes in turn. Bounded
    mailboxes join them, so frames keep their order and a slow stage holds back the ones before it,
    or with ``latest`` drops. An error ends its lane; the first error of the segmenter, of the last
    lane or (with ``fail_fast``) of any ends everything, once. What was read before a source failed
    is computed and written, and what was computed before anything failed is written.

    Use it once. It closes the sources and the sinks, and leaves the segmenter open.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        segmenter: FrameSegmenter,
        *,
        fail_fast: bool = False,
        watch: Watch | None = None,
    ) -> None:
        """Put the stages together; ``fail_fast``: the first error of a lane ends the others."""
        if not lanes:
            raise UsageError("a pipeline without a source")
        self._lanes = tuple(lanes)
        self._segmenter = segmenter
        self._fail_fast = fail_fast
        self._watch = watch or Watch()
        self._clock_ns = self._watch.clock_ns
        self._changed = threading.Condition()
        self._failing = threading.Lock()
        self._first: BaseException | None = None
        self._fatal: BaseException | None = None
        self._signal: str | None = None
        self._started = False
        for lane in self._lanes:
            lane.prepare(self._changed, self._clock_ns, self._lane_failed)

    def run(self) -> tuple[RunReport, ...]:
        """Run until the sources end, everything fails, or Ctrl-C, SIGTERM or SIGHUP.

        A signal stops reading; what was computed is still written and the files are finished. A
        second one leaves at once.

        Returns:
            What happened, a report a lane; ``interrupted`` tells of the signal, ``error`` of a
            lane that failed while others did not.

        Raises:
            Exception: The first error, with its own traceback, if all lanes failed or one error
                ended all; `Lane.report` has the numbers nevertheless.
            UsageError: It has run before.
        """
        if self._started:
            raise UsageError("a Pipeline runs once")
        self._started = True
        self._start_ns = self._clock_ns()
        self._machine = self._watch.machine or Machine(clock_ns=self._clock_ns)
        sampler = Sampler(self._sample, self._watch.ticker or SecondTicker(), self._fail_all)
        try:
            with on_interrupt(self._interrupt):
                self._run_stages(sampler)
        finally:
            sampler.stop()
        sampler.join()
        return self._finish()

    def stop(self, why: str = "stop") -> None:
        """End the run as if the sources ended. Any thread may call it."""
        for lane in self._lanes:
            lane.stop(why)

    def _run_stages(self, sampler: Sampler) -> None:
        """From the first thread to the end of the last one."""
        self._feeds = [lane.feed(self._segmenter) for lane in self._lanes]
        threads = [thread for lane in self._lanes for thread in lane.start()]
        sampler.start()
        self._guarded(self._segment)
        for feed in self._feeds:
            feed.close()
        for lane in self._lanes:
            lane.close_outboxes()
            if self._signal is not None:
                lane.source.close()  # it may wait for a camera
        while any(thread.is_alive() for thread in threads):
            self._guarded(lambda: _join(threads))

    def _finish(self) -> tuple[RunReport, ...]:
        self._guarded(self._sample)
        machine = self._machine.summary()
        interrupted = self._signal is not None
        reports = tuple(
            lane.finish(interrupted=interrupted, machine=machine) for lane in self._lanes
        )
        for number in range(len(self._lanes)):
            if self._fatal is None and self._lanes[number].error is None:
                self._guarded(lambda number=number: self._tell_progress(number))  # type: ignore[misc]
        error = self._fatal
        if error is None and all(lane.error is not None for lane in self._lanes):
            error = self._first
        if error is not None:
            raise error
        return reports

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a step of the calling thread; its error ends the run, Ctrl-C ends reading."""
        try:
            step()
        except KeyboardInterrupt as error:  # the second one, or where we have no signal handler
            if self._signal is not None:
                self._fail_all(error, at_once=True)
                raise
            self._interrupt("SIGINT")
        except BaseException as error:
            self._fail_all(error)

    def _interrupt(self, name: str) -> None:
        """Stop reading. A signal handler: mailboxes are reentrant, other locks are not taken."""
        self._signal = name
        for lane in self._lanes:
            lane.stop_reading(name)

    def _segment(self) -> None:
        """The calling thread's part: compute, and hand to every sink of the frame's lane."""
        turns = RoundRobin(
            [lane.inbox for lane in self._lanes],
            changed=self._changed,
            ready=lambda number: self._lanes[number].has_room,
            on_end=self._end_lane,
        )
        for number, job in turns:
            if self._signal is not None:
                return
            lane = self._lanes[number]
            lane.ledger.taken(job)
            job.frame.stream = self._feeds[number].stream if lane.is_sequence else None
            self._hand_on(number, self._feeds[number].push(job))
            del job  # not to be kept alive while waiting for the next

    def _end_lane(self, number: int) -> None:
        """No frame of a lane follows."""
        if self._signal is None and self._lanes[number].inbox.error is None:
            self._hand_on(number, self._feeds[number].end())
        self._lanes[number].close_outboxes()

    def _hand_on(self, number: int, done: Iterator[tuple[Job, ResultView]]) -> None:
        """Compute what a feed has ready, one by one."""
        lane, start_ns = self._lanes[number], self._clock_ns()
        for job, result in done:
            lane.hand_on(job, result, (self._clock_ns() - start_ns) / 1e6)
            self._tell_progress(number)
            del job, result
            start_ns = self._clock_ns()

    def _tell_progress(self, number: int) -> None:
        if self._watch.on_progress is not None:
            self._watch.on_progress(self._lanes[number].ledger.progress(number))

    def _sample(self) -> None:
        """What the world is told once a second."""
        machine = self._machine.sample()
        if self._watch.on_sample is None:
            return
        sources = [lane.sample() for lane in self._lanes]
        seconds = (self._clock_ns() - self._start_ns) / 1e9
        self._watch.on_sample({"seconds": round(seconds, 3), "sources": sources, **machine})

    def _lane_failed(self, error: BaseException) -> None:
        with self._failing:
            ends_all = self._fail_fast and self._fatal is None
            self._first = self._first or error
            if self._fail_fast:
                self._fatal = self._fatal or error
        if ends_all:
            for lane in self._lanes:
                lane.end_reading(error)

    def _fail_all(self, error: BaseException, *, at_once: bool = False) -> None:
        """Keep the first error and wake everyone."""
        with self._failing:
            # A lane that failed before is the cause where there is no other lane.
            alone = self._first if len(self._lanes) == 1 else None
            self._fatal = self._fatal or alone or error
        for lane in self._lanes:
            lane.fail(error, at_once=at_once)


class Pipeline:
    """One run from a source through a segmenter into sinks: a `MultiPipeline` of one lane."""

    def __init__(
        self,
        source: Source,
        segmenter: FrameSegmenter,
        sinks: Sequence[Sink] = (),
        *,
        policy: Policy | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_sample: Callable[[dict[str, Any]], None] | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Put the stages together; nothing starts yet.

        Args:
            source: Where frames come from.
            segmenter: What happens to them.
            sinks: Where results go; none is a run for its statistics alone.
            policy: See `Lane`.
            on_progress: See `Watch`.
            on_sample: See `Watch`.
            clock_ns: See `Watch`.

        Raises:
            UsageError: The policy is unknown.
        """
        self._lane = Lane(source, sinks, policy=policy)
        watch = Watch(on_progress=on_progress, on_sample=on_sample, clock_ns=clock_ns)
        self._pipeline = MultiPipeline([self._lane], segmenter, watch=watch)

    @property
    def report(self) -> RunReport | None:
        """Set when `run` ends, also by an error."""
        return self._lane.report

    def run(self) -> RunReport:
        """Run until the source ends, something fails, or Ctrl-C; see `MultiPipeline.run`."""
        return self._pipeline.run()[0]

    def stop(self) -> None:
        """End the run as if the source ended. Any thread may call it."""
        self._pipeline.stop()


def _join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.join()
