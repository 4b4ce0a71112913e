"""Build a TensorRT engine from an ONNX file: parsed, strongly typed, serialised to a plan."""

from __future__ import annotations

import dataclasses
import datetime
import glob
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segedge.engine.builder.errors import build_error, nodes_without_kernel, was_canceled
from segedge.engine.builder.half import Images, Prepared, half_graph
from segedge.engine.builder.inspect import inspect_layers
from segedge.engine.builder.log import LogRecord, build_log, recorded
from segedge.engine.builder.network import (
    NetworkSummary,
    check_precision,
    network_outputs,
    parse_network,
    summarize,
)
from segedge.engine.builder.progress import (
    BuildProgress,
    ProgressCallback,
    progress_monitor,
    stop_on_interrupt,
)
from segedge.engine.builder.shapes import apply_shapes
from segedge.engine.facts import EngineFacts, EngineTensor
from segedge.engine.file import sha256
from segedge.engine.flavour import Flavour
from segedge.engine.layers import EngineLayer
from segedge.engine.options import BuildOptions
from segedge.engine.source import EngineSource, read_buildable
from segedge.engine.versions import (
    checked_targets,
    has_timing_cache,
    set_compatibility,
    set_dla,
    set_targets,
)
from segedge.errors import DeviceError, SegedgeError
from segedge.machine.gpu import Gpu, require_gpu
from segedge.version import __version__

_KERNEL_RETRIES = 8
"""How often a build is tried again with one more node in fp32 where a kernel is missing."""


@dataclass(frozen=True)
class Built:
    """A plan in memory."""

    plan: bytes = field(repr=False)
    facts: EngineFacts


@dataclass(frozen=True)
class TimingCache:
    """Kernel timings between builds: how to read the old ones and keep the new ones."""

    read: Callable[[], bytes]
    write: Callable[[bytes], None]


def build_plan(
    model: str | Path | EngineSource,
    *,
    flavour: Flavour,
    options: BuildOptions | None = None,
    progress: ProgressCallback | None = None,
    images: Images | None = None,
    timing: TimingCache | None = None,
) -> Built:
    """Build an engine in memory; the default is static, portable, in the graph's own precision.

    ``images`` are preprocessed inputs that fp16's ranges are measured on; None is noise. A
    SegedgeError is translated from TensorRT's log; Ctrl-C leaves nothing behind.
    """
    source = model if isinstance(model, EngineSource) else read_buildable(model)
    options = options or BuildOptions()
    build = _Build(source, flavour, options, building_gpu(flavour), progress, timing)
    if options.precision != "fp16":
        return build.run(Prepared(source.data))
    return _build_half(build, images)


def building_gpu(flavour: Flavour) -> Gpu | None:
    """The GPU that takes part in a build; None for a flavour that builds ahead of time."""
    if flavour.builds_ahead:
        return None
    return require_gpu(purpose=f"building with {flavour}", cuda_major=flavour.cuda_major)


def _build_half(build: _Build, images: Images | None) -> Built:
    """Convert to fp16 and build; a node for which there is no half kernel goes back to fp32."""
    keep, started = build.options.keep_fp32, time.monotonic()
    missing: tuple[str, ...] = ()
    for _ in range(_KERNEL_RETRIES):
        if build.progress is not None:
            build.progress(BuildProgress("measuring fp16 ranges", 0.0))
        half = half_graph(build.source, keep_fp32=(*keep, *missing), images=images)
        if missing:
            note = f"no fp16 kernel, kept in fp32: {', '.join(missing)}"
            half = dataclasses.replace(half, notes=(*half.notes, note))
        half = dataclasses.replace(half, seconds=time.monotonic() - started)
        try:
            return build.run(half)
        except NoKernelError as error:
            found = tuple(node for node in error.nodes if glob.escape(node) not in missing)
            if not found:
                raise error.error from None
            missing = (*missing, *map(glob.escape, found))
    raise DeviceError(
        f"{build.flavour} lacks fp16 kernels for {len(missing)} nodes of {build.source.path.name}",
        facts={"nodes": ", ".join(missing)},
        fix="--precision fp32",
    )


class NoKernelError(Exception):
    """A build failed because nodes have no kernel in their type; it is tried again without."""

    def __init__(self, nodes: tuple[str, ...], error: SegedgeError) -> None:
        super().__init__(error.headline)
        self.nodes = nodes
        self.error = error


def _raise_if(stop: threading.Event) -> None:
    """Raise what Ctrl-C asked for, now that no callback of TensorRT's can be hit by it."""
    if stop.is_set():
        raise KeyboardInterrupt


@dataclass(frozen=True)
class _Build:
    """One build: what goes in, and the steps."""

    source: EngineSource
    flavour: Flavour
    options: BuildOptions
    gpu: Gpu | None
    progress: ProgressCallback | None
    timing: TimingCache | None

    def run(self, prepared: Prepared) -> Built:
        """Parse and build a graph."""
        with recorded(self.flavour) as log, stop_on_interrupt() as stop:
            try:
                return self._run(prepared, log, stop)
            except BaseException as error:
                # Else whoever keeps the error keeps builder and network, with all the weights.
                traceback.clear_frames(error.__traceback__)
                raise

    def _run(self, prepared: Prepared, log: LogRecord, stop: threading.Event) -> Built:
        started = time.monotonic()
        trt, name = self.flavour.module, self.source.path.name
        builder = trt.Builder(build_log(self.flavour))
        network = parse_network(
            self.flavour, builder, log, model=prepared.data, name=name, path=str(self.source.path)
        )
        summary = summarize(network, self.options, self.source.card)
        check_precision(self.options.precision, summary.precision, name)
        config = self._config(builder)
        apply_shapes(network, builder, config, summary.shapes)
        outputs = network_outputs(network)
        _raise_if(stop)
        plan = self._serialize(builder, network, config, log, summary, stop)
        _raise_if(stop)
        seconds = prepared.seconds + time.monotonic() - started
        layers = log.layers or self._inspected(plan)
        return Built(plan, self._facts(plan, summary, outputs, layers, prepared, seconds))

    def _inspected(self, plan: bytes) -> tuple[EngineLayer, ...]:
        """Layers by the engine inspector, which needs the GPU and the engine in its memory."""
        return inspect_layers(self.flavour, plan) if self.gpu else ()

    def _config(self, builder: Any) -> Any:
        trt, options, flavour = self.flavour.module, self.options, self.flavour
        config = builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if options.workspace_bytes is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
        if options.optimization_level is not None:
            config.builder_optimization_level = options.optimization_level
        if not options.tf32:
            config.clear_flag(trt.BuilderFlag.TF32)
        if options.dla_core is not None:
            set_dla(flavour, builder, config, options.dla_core)
        set_targets(flavour, config, checked_targets(flavour, options.targets))
        set_compatibility(
            flavour,
            config,
            version=options.version_compatible,
            hardware=options.hardware_compatible,
            user_allocation=options.user_allocation,
        )
        return config

    def _serialize(
        self,
        builder: Any,
        network: Any,
        config: Any,
        log: LogRecord,
        summary: NetworkSummary,
        stop: threading.Event,
    ) -> bytes:
        name = self.source.path.name
        timing = self._start_timing(config)
        monitor = progress_monitor(self.flavour, self.progress, stop)
        config.progress_monitor = monitor
        memory = builder.build_serialized_network(network, config)
        if monitor.failure is not None:
            raise monitor.failure
        if memory is not None:
            self._keep_timing(config, timing)
            return bytes(memory)
        _raise_if(stop)
        if was_canceled(log.errors):
            raise KeyboardInterrupt
        error = build_error(name, self.flavour, log.errors)
        nodes = nodes_without_kernel(log.errors, (layer.name for layer in summary.layers))
        if nodes and self.options.precision == "fp16":
            raise NoKernelError(nodes, error)
        raise error

    def _start_timing(self, config: Any) -> TimingCache | None:
        timing = self.timing
        if timing is None or not self.options.timing_cache or not has_timing_cache(self.flavour):
            return None
        for kept in (timing.read(), b""):  # empty where what was kept is damaged
            timing_cache = config.create_timing_cache(kept)
            if timing_cache is not None and config.set_timing_cache(timing_cache, False):
                return timing
        return None

    def _keep_timing(self, config: Any, timing: TimingCache | None) -> None:
        if timing is not None:
            timing_cache = config.get_timing_cache()
            timing.write(bytes(timing_cache.serialize()))

    def _facts(
        self,
        plan: bytes,
        summary: NetworkSummary,
        outputs: tuple[EngineTensor, ...],
        layers: tuple[EngineLayer, ...],
        prepared: Prepared,
        seconds: float,
    ) -> EngineFacts:
        now = datetime.datetime.now(datetime.timezone.utc)
        return EngineFacts(
            model=self.source.path.name,
            onnx_sha256=self.source.sha256,
            plan_sha256=sha256(plan),
            plan_bytes=len(plan),
            flavour=self.flavour.name,
            version=self.flavour.version_text,
            gpu=self.gpu.name if self.gpu else "",
            capability=self.gpu.sm if self.gpu else "",
            targets=checked_targets(self.flavour, self.options.targets),
            precision=summary.precision,
            options=self.options.to_dict(),
            inputs=summary.inputs,
            outputs=outputs,
            built=now.isoformat(timespec="seconds"),
            build_seconds=round(seconds, 3),
            segedge=__version__,
            origin=self.source.origin,
            warnings=prepared.notes,
            kept_fp32=prepared.kept_fp32,
            network_layers=summary.layers,
            engine_layers=layers,
            card=self.source.card,
            proof=self.source.proof,
            familiar=self.source.familiar,
        )
