"""Lane: one source with its sinks, their threads and their queues."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from segedge.errors import first_line
from segedge.frames.protocols import EndOfRun, ResultView, Sink, Source
from segedge.pipeline.feed import Feed, FrameSegmenter
from segedge.pipeline.given import checked_sinks, checked_source
from segedge.pipeline.ledger import Job, Ledger
from segedge.pipeline.mailbox import CAPACITY, Mailbox, MailboxClosed, Policy, policy_of
from segedge.pipeline.stats import RunReport


class Lane:
    """A source and its sinks, in threads of their own.

    The runner takes jobs from `inbox` and hands them back with `hand_on`. What goes wrong here
    ends this lane; whether it ends others is the runner's business. What a part was done with
    before it, or another one, failed still passes the parts behind: frames that were read before
    their source broke are written, results from before the network failed are, too.
    """

    def __init__(
        self,
        source: Source,
        sinks: Sequence[Sink],
        *,
        policy: Policy | None = None,
        sink_names: Sequence[str] | None = None,
        is_sequence: bool | None = None,
    ) -> None:
        """Put the parts together; nothing starts yet.

        ``policy``: ``lossless`` waits for the slowest stage; ``latest`` drops the oldest waiting
        frame, in front of the segmenter and of each sink, and is usual for live sources.
        ``is_sequence``: the frames show one scene over time, so that smoothing applies; None: all
        sources but images.
        """
        self.source = checked_source(source)
        self.sinks = tuple(checked_sinks(sinks))
        self.policy = policy_of(policy, live=source.info.live)
        self.outputs = frozenset[str]().union(*(sink.needs for sink in sinks))
        self.sink_names = tuple(sink_names or (f"sink {n}" for n in range(len(sinks))))
        self.is_sequence = source.info.kind != "images" if is_sequence is None else is_sequence
        self.error: BaseException | None = None
        """The first one of this lane."""
        self.report: RunReport | None = None
        """Set at the end, also by an error."""
        self._ended_by = "source"
        self._failing = threading.Lock()
        self.prepare(threading.Condition(), time.monotonic_ns, lambda error: None)

    def prepare(
        self,
        changed: threading.Condition,
        clock_ns: Callable[[], int],
        on_failed: Callable[[BaseException], None],
    ) -> None:
        """Join the runner: its condition, its clock, and whom to tell of the first error."""

        def box() -> Mailbox[Job]:
            return Mailbox(CAPACITY[self.policy], policy=self.policy, changed=changed)

        self.inbox = box()
        self._outboxes = tuple(box() for _ in self.sinks)
        self._on_failed = on_failed
        self._clock_ns = clock_ns

    def start(self) -> list[threading.Thread]:
        """Begin to read. Daemon threads: a second Ctrl-C must not wait for them."""
        self.ledger = Ledger(
            sinks=self.sink_names,
            expected=self.source.info.frame_count,
            clock_ns=self._clock_ns,
        )
        threads = [threading.Thread(target=self._read, name="segedge-source", daemon=True)]
        threads += [
            threading.Thread(
                target=self._write, args=(number,), name=f"segedge-sink-{number}", daemon=True
            )
            for number in range(len(self.sinks))
        ]
        for thread in threads:
            thread.start()
        return threads

    def feed(self, segmenter: FrameSegmenter) -> Feed:
        """What takes this lane's frames through the segmenter."""
        self._feed = Feed(
            segmenter, self.outputs, live=self.policy == "latest", is_sequence=self.is_sequence
        )
        return self._feed

    @property
    def has_room(self) -> bool:
        """Whether `hand_on` returns at once: no lossless sink is stalled."""
        return all(outbox.has_room for outbox in self._outboxes)

    def hand_on(self, job: Job, result: ResultView, compute_ms: float) -> None:
        """Give a result to every sink; from the segmenter's thread."""
        self.ledger.computed(job, result, self._feed.own_ms(compute_ms))
        drift = self._feed.drift
        job.frame.drift = None if drift is None else drift.note
        if not self.sinks:
            result.wait()
            self._compare(job, result)
            self.ledger.written(job, job.for_sink().times)
        with suppress(MailboxClosed):  # a sink failed: the inbox is closed, too
            for number, outbox in enumerate(self._outboxes):
                pushed_out = outbox.put(job)
                if pushed_out is not None:
                    self.ledger.dropped(pushed_out, number)

    def sample(self) -> dict[str, Any]:
        """What the world is told once a second: counts so far, times since the last sample."""
        found = {
            "name": self.source.info.name,
            "policy": self.policy,
            "running": not self.inbox.closed,
            **self.ledger.sample(),
        }
        motion, drift = self._feed.motion, self._feed.drift
        if motion is not None:
            found["motion"] = motion.sample()
        told = None if drift is None else drift.sample()
        return found if told is None else {**found, "drift": told}

    def _compare(self, job: Job, result: ResultView) -> None:
        """A computed frame with those that the network knows."""
        if self._feed.drift is not None:
            self._feed.drift.look(job.frame, result)

    def stop_reading(self, why: str) -> None:
        """Take no further frame. From any thread or a signal handler: no lock but the boxes'."""
        if not self.inbox.closed:
            self._ended_by = why
        self.inbox.close()

    def stop(self, why: str = "stop") -> None:
        """Take no further frame, and end a source that waits for one."""
        self.stop_reading(why)
        with suppress(Exception):
            self.source.close()

    def close_outboxes(self) -> None:
        """No result follows: the sinks finish, and are told of an error."""
        for outbox in self._outboxes:
            outbox.close(self.error)

    def end_reading(self, error: BaseException) -> None:
        """Nothing follows what was read so far, because of an error here or elsewhere."""
        with self._failing:
            first = self.error is None
            self.error = self.error or error
        self.inbox.close()
        with suppress(Exception):
            self.source.close()
        if first:
            self._on_failed(error)

    def fail(self, error: BaseException, *, at_once: bool = False) -> None:
        """Compute nothing more; the sinks take what was computed, unless all ends ``at_once``."""
        self.inbox.close(error, drop=True)
        for outbox in self._outboxes:
            outbox.close(error, drop=at_once)
        self.end_reading(error)

    def finish(self, *, interrupted: bool, machine: dict[str, Any]) -> RunReport:
        """Close the source, settle the accounts; all threads have ended."""
        self.source.close()
        requested = interrupted or (self.error is None and self._ended_by != "source")
        self.ledger.settle_rest("dropped" if requested else "failed")
        self.report = self._make_report(interrupted, machine)
        return self.report

    def _read(self) -> None:
        """The source's thread."""
        try:
            self.ledger.enter_all(self.source, self.inbox)
        except BaseException as error:
            self.end_reading(error)
        finally:
            self.inbox.close()

    def _write(self, number: int) -> None:
        """A sink's thread."""
        sink, outbox = self.sinks[number], self._outboxes[number]
        try:
            for job in outbox:
                self.ledger.received(job, number)
                assert job.result is not None, "set before it was put here"
                job.result.wait()  # here, so that the next frame is computed meanwhile
                if number == 0:
                    self._compare(job, job.result)
                frame = job.for_sink()
                try:
                    sink.write(frame, job.result)
                except EndOfRun:
                    self.stop("sink")
                self.ledger.written(job, frame.times, number)
                del job, frame  # not to be kept alive while waiting for the next
        except BaseException as error:
            self.fail(error)
        try:
            cut = any(failure.cut for failure in self.source.failures)
            sink.close(error=outbox.error is not None or cut)
        except BaseException as error:
            self.fail(error)

    def _make_report(self, interrupted: bool, machine: dict[str, Any]) -> RunReport:
        entries, stats = self.ledger, self.ledger.stats
        seconds = entries.seconds()
        first_ns = stats.first_written_ns
        return RunReport(
            source=self.source.info.name,
            **stats.counts,
            seconds=seconds,
            fps=stats.counts["written"] / seconds if seconds > 0 else 0.0,
            first_frame_seconds=None if first_ns is None else entries.seconds(first_ns),
            stages=stats.stages,
            compute=stats.compute,
            latency=stats.latency,
            interrupted=interrupted,
            paths=tuple(path for sink in self.sinks for path in sink.paths),
            failures=tuple(self.source.failures),
            notes=tuple(note for sink in self.sinks for note in sink.notes),
            policy=self.policy,
            ended_by="error" if self.error is not None else self._ended_by,
            places=entries.places(),
            interval=stats.interval.summary_or_none(),
            jitter=stats.jitter.summary_or_none(),
            machine=machine,
            motion=None if self._feed.motion is None else self._feed.motion.to_dict(),
            drift=None if self._feed.drift is None else self._feed.drift.sample(),
            error=None if self.error is None else first_line(self.error),
        )
