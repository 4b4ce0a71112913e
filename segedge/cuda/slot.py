"""A slot: everything that one frame in flight needs, and the graph that does all of its work.

Host frame -> page-locked copy -> H2D -> preprocess -> network -> tail -> D2H of what was asked for,
on one stream. The first time, that work is launched plainly; then it is captured, replayed once
and compared, and from then on a frame is one launch. On GPUs that share the CPU's memory the
copies fall away: kernels read and write page-locked memory.

Where frames are smoothed over time, that work is two graphs with two plain launches between them,
which wait for the smoothing of the frame before; see `segedge.cuda.smoothing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segedge.card.geometry import Region
from segedge.cuda.capture import Graphs
from segedge.cuda.motion import Key
from segedge.cuda.plan import CleanMemory, DeviceNetwork, FramePlan, Render
from segedge.cuda.planes import FramePlanes
from segedge.cuda.runtime.array import DeviceArray, HostArray
from segedge.cuda.runtime.device import Device, translated
from segedge.cuda.runtime.program import Launcher
from segedge.cuda.smoothing import Follow
from segedge.motion.field import MotionField

Source = Literal["host", "device"]


@dataclass(frozen=True)
class CarriedFrom:
    """A key frame on the GPU that logits are carried from."""

    slot: Slot
    """Its own, which must not be used again before the carried frame is done."""
    field: MotionField
    """From the frame that they are carried to."""
    frames: float
    """How far apart both are."""


@dataclass(frozen=True)
class Request:
    """What is done with a frame; frames with equal requests share a graph."""

    render: Render
    """What the tail writes."""
    source: Source
    """Whether the frame comes from the slot's page-locked memory or lies on the GPU already."""
    to_host: bool
    """Whether the outputs are copied to page-locked memory."""
    smoothed: bool = False
    """Whether the logits are mixed with those of the frames before."""


class Slot:
    """Buffers, stream and graphs of one frame in flight; one frame at a time."""

    def __init__(
        self,
        device: Device,
        plan: FramePlan,
        network: DeviceNetwork,
        *,
        stream: Any = None,
        graphs: bool = True,
        timed: bool = False,
    ) -> None:
        """Allocate.

        The network's scratch memory must be this slot's own, or all its slots must share a stream.
        Without graphs every kernel is launched by itself; so it is where each stage is timed.
        """
        self.plan = plan
        self.device = device
        self.stream = stream or device.stream()
        self.frame = FramePlanes(device, self.stream, plan.frame_shapes)
        """Where the frame is; brought there by its methods, then `enqueue` or `carry`."""
        self._network = network
        self._graphs = Graphs(
            device, self.stream, network.is_capturable, wanted=graphs and not timed
        )
        self._timed = timed
        self._marks: list[tuple[str, Any]] = []
        self._started, self._done = device.event(), device.event()
        self._shared = device.gpu.integrated
        self.was_lent = False
        """Whether other libraries have had its arrays, and may have work on them under way."""
        if plan.carrier is None:
            self._tensor = device.empty(plan.tensor_shape, plan.tensor_dtype)
        self.logits = [device.empty(spec.shape, spec.dtype) for spec in plan.outputs]
        self._scratch = device.empty((plan.tail.scratch_bytes,), np.uint8)
        self._written: dict[str, tuple[DeviceArray, ...]] = {}
        self._hosted: dict[str, tuple[HostArray, ...]] = {}
        self._fields: dict[tuple[Any, ...], tuple[HostArray, DeviceArray]] = {}
        """Where motion fields are copied to, by number, name and shape."""
        self._spare: dict[Any, DeviceArray] = {}
        """Memory between the steps of an effect, by look: graphs know its address."""
        self._cleaning = self._clean_memory()
        if plan.smooth is not None:
            self._smooth_scratch = device.empty((plan.smooth.scratch_bytes,), np.uint8)

    def _clean_memory(self) -> CleanMemory | None:
        """Memory to clean label maps in, kept by the slot."""
        if self.plan.clean is None:
            return None
        self._maps = self.device.empty((self.plan.clean_bytes,), np.uint8)
        self._wanted = self.device.uploaded(self.plan.clean.wanted)
        return CleanMemory(self._maps.pointer, self._wanted.pointer)

    @property
    def refusal(self) -> str:
        """Why frames are launched plainly although graphs were wanted."""
        return self._graphs.refusal

    def begin(self) -> None:
        """Note the start of a frame's work on the GPU."""
        self.stream.record(self._started)

    def enqueue(self, request: Request, follow: Follow | None = None) -> None:
        """Enqueue a frame's work, as one graph (smoothed: two) where possible; it has been staged.

        ``follow`` is the past of the frame's stream, for a smoothed one.

        Raises:
            DeviceError: CUDA refuses.
            BackendError: The network fails.
        """
        with translated("a frame failed on the GPU", gpu=self.device.gpu):
            try:
                graphs = self._graphs.of(request)
                if graphs is None:
                    self._first(request, follow)
                    return
                graphs[0].launch(self.stream)
                if follow is not None:
                    self._smooth(follow)
                    graphs[1].launch(self.stream)
            finally:  # whatever was enqueued reads the frame: who takes the slot next waits for it
                self.stream.record(self._done)

    def carry(self, source: Source, sources: Sequence[CarriedFrom]) -> None:
        """Enqueue a frame that no network sees: its upload, and logits carried to it.

        Raises:
            DeviceError: CUDA refuses.
        """
        carrier = self.plan.carrier
        assert carrier is not None, "asked of a plan that has it"
        with translated("a frame failed on the GPU", gpu=self.device.gpu):
            try:
                self._upload(source, self.stream)
                keys = [self._key(number, one) for number, one in enumerate(sources)]
                carrier.run(self.launcher, keys, self.logits[0].pointer)
            finally:
                self.stream.record(self._done)

    def _key(self, number: int, source: CarriedFrom) -> Key:
        """A key with its field, which is copied to the GPU behind what the stream does."""
        source.slot.join(self.stream)
        arrays = [
            self._uploaded(("field", number, name), values)
            for name, values in (
                ("displacement", source.field.displacement), ("residual", source.field.residual)
            )
        ]  # fmt: skip
        logits = source.slot.logits[source.slot.plan.head]
        return Key(
            logits.pointer, arrays[0].pointer, arrays[1].pointer, source.field.blocks, source.frames
        )

    def _uploaded(self, name: tuple[Any, ...], values: NDArray[np.float32]) -> DeviceArray:
        """A copy of values in memory of this slot, made for them the first time."""
        key = (*name, values.shape)
        if key not in self._fields:
            host = self.device.pinned(values.shape, values.dtype)
            self._fields[key] = host, self.device.empty(values.shape, values.dtype)
        host, array = self._fields[key]
        np.copyto(host.array(), values)
        self.device.copy(array, host, self.stream)
        return array

    def finish(self, render: Render, *, to_host: bool) -> None:
        """Enqueue the tail of a frame whose logits are under way already.

        Raises:
            DeviceError: CUDA refuses.
        """
        with translated("the tail failed on the GPU", gpu=self.device.gpu):
            try:
                self._from_logits(Request(render, "device", to_host), self.stream)
            finally:
                self.stream.record(self._done)

    def _smooth(self, follow: Follow) -> None:
        """Mix the logits with the past, behind the frame before, whatever stream it is on."""
        smooth, past = self.plan.smooth, follow.past
        assert smooth is not None, "asked of a plan that has it"
        self.stream.wait(past.smoothed)
        smooth.run(
            self.launcher, self.logits[self.plan.head].pointer, self._tensor.pointer,
            self._smooth_scratch.pointer, past=past.addresses, step=follow.step,
        )  # fmt: skip
        self.stream.record(past.smoothed)
        self._mark("smoothing")

    def _first(self, request: Request, follow: Follow | None) -> None:
        """Launch plainly, then capture, replay and compare, if graphs are wanted.

        A smoothed frame is smoothed once: its two pieces are tried out on either side of that.
        """
        logits = {f"logits {k}": array for k, array in enumerate(self.logits)}
        outputs = {
            f"{name} {k}": array
            for name in request.render.outputs
            for k, array in enumerate(self.on_device(name))
        }
        tried = self._graphs.tried
        if follow is None:
            graphs = [tried(lambda stream: self._plain(request, stream), logits | outputs)]
        else:
            graphs = [tried(lambda stream: self._up_to_logits(request, stream), logits)]
            self._smooth(follow)
            graphs.append(tried(lambda stream: self._from_logits(request, stream), outputs))
        self._graphs.keep(request, graphs)

    def download(self, array: DeviceArray) -> NDArray[Any]:
        """A fresh NumPy copy of an array, after all that was enqueued before."""
        return self.device.download(array, self.stream)

    def _plain(self, request: Request, stream: Any) -> None:
        """Every step by itself, in order."""
        self._up_to_logits(request, stream)
        self._from_logits(request, stream)

    def _up_to_logits(self, request: Request, stream: Any) -> None:
        """Upload, preprocessing and network."""
        plan, launcher = self.plan, self.device.programs.launcher(stream)
        self._marks.clear()
        self._upload(request.source, stream)
        frame = self.frame.picture
        plan.preprocess.run(launcher, frame.plane, self._tensor.pointer, chroma=frame.chroma)
        self._mark("preprocess")
        self._network.run([self._tensor], self.logits, stream=int(stream.handle))
        self._mark("network")

    def _upload(self, source: Source, stream: Any) -> None:
        if source == "host" and self.frame.upload_staged(stream):
            self._mark("upload")

    def _from_logits(self, request: Request, stream: Any) -> None:
        """Tail and download."""
        launcher = self.device.programs.launcher(stream)
        if request.render.outputs:
            self._launch_tail(request.render, launcher)
            self._mark("tail")
        if request.to_host and not self._shared:
            self._download_outputs(request.render, stream)
            self._mark("download")

    @property
    def launcher(self) -> Launcher:
        """Launches kernels on this slot's stream."""
        return self.device.programs.launcher(self.stream)

    def _launch_tail(self, render: Render, launcher: Launcher) -> None:
        targets = {name: self.on_device(name) for name in render.outputs}
        self.plan.launch_tail(
            launcher, render, logits=self.logits[self.plan.head].pointer,
            scratch=self._scratch.pointer, frame=self.frame.picture, targets=targets,
            spare=self._spare_of(render), cleaning=self._cleaning,
        )  # fmt: skip

    def _spare_of(self, render: Render) -> int:
        """Address of the memory that an effect needs; allocated the first time, not in a graph."""
        size = self.plan.spare_bytes(render)
        if size == 0:
            return 0
        if render.look not in self._spare:
            self._spare[render.look] = self.device.empty((size,), np.uint8)
        return self._spare[render.look].pointer

    def _download_outputs(self, render: Render, stream: Any) -> None:
        for name in render.outputs:
            for host, array in zip(self.on_host(name), self.on_device(name), strict=True):
                self.device.copy(host, array, stream)

    def on_device(self, name: str) -> tuple[DeviceArray, ...]:
        """An output on the GPU, where the kernels write it."""
        if name not in self._written:
            shapes = self.plan.shapes_of(name)
            if self._shared:
                self._written[name] = tuple(host.mapped() for host in self.on_host(name))
            else:
                self._written[name] = tuple(self.device.pitched(s, d) for s, d in shapes)
        return self._written[name]

    def on_host(self, name: str) -> tuple[HostArray, ...]:
        """An output in the memory to which it is copied for the CPU."""
        if name not in self._hosted:
            shapes = self.plan.shapes_of(name)
            self._hosted[name] = tuple(self.device.pinned(s, d) for s, d in shapes)
        return self._hosted[name]

    def _mark(self, stage: str) -> None:
        if self._timed:
            self._marks.append((stage, self.stream.record(None, {"timing_enabled": True})))

    def wait(self) -> None:
        """Block until the frame is done, letting the CPU do other things.

        Raises:
            DeviceError: A kernel or a copy failed.
        """
        self.device.make_current()
        with translated("a frame failed on the GPU", gpu=self.device.gpu):
            self._done.sync()

    def _stages(self) -> list[tuple[str, Any, Any]]:
        """GPU work by stage, where the slot is timed, with the events at its begin and end."""
        ends = self._marks or [("gpu", self._done)]
        begins = [self._started, *(event for _, event in ends[:-1])]
        return [(stage, begin, end) for (stage, end), begin in zip(ends, begins, strict=True)]

    def stages_ms(self) -> dict[str, float]:
        """Milliseconds of GPU work, in all or by stage; after `wait`."""
        return {stage: float(end - begin) for stage, begin, end in self._stages()}

    def spans_ms(self, since: Any) -> list[tuple[str, float, float]]:
        """Begin and end of the same in milliseconds after an earlier event."""
        return [(stage, float(b - since), float(e - since)) for stage, b, e in self._stages()]

    def join(self, stream: Any) -> None:
        """Make another stream wait for this frame."""
        stream.wait(self._done)

    def extra(
        self, render: Render, region: Region | None = None
    ) -> dict[str, tuple[NDArray[Any], ...]]:
        """Outputs that were not asked for before, in fresh memory; blocks until they are there.

        With a region they are of that part of the frame, counts too.
        """
        self.device.make_current()
        size = region.size if region else None
        with translated("the tail failed on the GPU", gpu=self.device.gpu):
            effect = render.effect
            targets = {
                name: tuple(
                    self.device.pitched(s, d) for s, d in self.plan.shapes_of(name, size, effect)
                )
                for name in render.outputs
            }
            needed = self.plan.spare_bytes(render)
            spare = self.device.empty((needed,), np.uint8) if needed else None
            self.plan.launch_tail(
                self.launcher, render, logits=self.logits[self.plan.head].pointer,
                scratch=self._scratch.pointer, frame=self.frame.picture, targets=targets,
                region=region, spare=spare.pointer if spare else 0, cleaning=self._cleaning,
            )  # fmt: skip
            return {name: tuple(map(self.download, arrays)) for name, arrays in targets.items()}

    def close(self) -> None:
        """Free the graphs and buffers; the frame must be done."""
        self._graphs.close()
        self._written.clear()
        self._spare.clear()
        self._fields.clear()
        self._hosted.clear()
        self.frame.close()
