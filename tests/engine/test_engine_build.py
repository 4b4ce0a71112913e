"""Real engines, built on the CPU: precisions, shapes, options, refusals."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from segedge.card.familiar import FAMILIAR, Familiar
from segedge.card.geometry import Size
from segedge.card.modelfile import with_metadata
from segedge.engine.builder import builder as engine_module
from segedge.engine.builder.builder import NoKernelError, TimingCache, build_plan
from segedge.engine.file import write_engine
from segedge.engine.flavour import Flavour
from segedge.engine.options import BatchRange, BuildOptions, SizeRange
from segedge.engine.source import read_source
from segedge.errors import BackendError, DeviceError, ModelError, SegedgeError, UsageError
from segedge.segment.load import familiar_of
from tests.engine.graphs import (
    CARD,
    conv_model,
    deform_model,
    model_of,
    nonzero_model,
    quantized_model,
    save,
    shared_model,
)


@pytest.mark.parametrize("name", ["fastscnn_camvid.onnx", "fastscnn_camvid_512x1024.onnx"])
def test_trained_network_in_fp32(rtx: Flavour, name: str) -> None:
    built = build_plan(shared_model(name), flavour=rtx)
    facts = built.facts
    assert facts.precision == "fp32"
    assert facts.inputs[0].shape[:2] == (1, 3)
    assert facts.outputs[0].name == "logits"
    assert facts.plan_bytes == len(built.plan) > 1_000_000
    assert len(facts.engine_layers) > 40
    assert {layer.precision for layer in facts.engine_layers} == {"fp32"}


def test_trained_network_in_fp16(rtx: Flavour) -> None:
    model = shared_model("fastscnn_camvid.onnx")
    built = build_plan(model, flavour=rtx, options=BuildOptions(precision="fp16"))
    precisions = [layer.precision for layer in built.facts.engine_layers]
    assert built.facts.precision == "fp16"
    assert precisions.count("fp16") > 30
    assert precisions.count("fp32") < 10
    assert built.facts.inputs[0].dtype == "float32"
    assert "layers in fp16" in built.facts.warnings[0]


def test_quantised_graph_is_int8_without_being_asked(rtx: Flavour, tmp_path: Path) -> None:
    built = build_plan(save(quantized_model(), tmp_path / "q.onnx"), flavour=rtx)
    assert built.facts.precision == "int8"
    assert built.facts.outputs[0].dtype == "float32"


def test_fp16_keeps_named_nodes(rtx: Flavour, model: Path) -> None:
    options = BuildOptions(precision="fp16", keep_fp32=("head",))
    built = build_plan(model, flavour=rtx, options=options)
    kept = {layer.name: layer.precision for layer in built.facts.network_layers}
    assert kept["head"] == "fp32"
    assert kept["stem"] == "fp16"


def test_card_travels_with_the_engine(rtx: Flavour, model: Path) -> None:
    assert build_plan(model, flavour=rtx).facts.card == CARD


def test_what_a_network_knows_travels_with_the_engine(
    rtx: Flavour, model: Path, tmp_path: Path
) -> None:
    """So that drift is told where the engine is run by its own name."""
    known = Familiar("exported", 2, 0.9, 0.01, (0.1,) * 10, (0.5, 0.5), (90.0,) * 3, (40.0,) * 3)
    given = tmp_path / "known.onnx"
    given.write_bytes(with_metadata(model.read_bytes(), FAMILIAR.metadata(known)))
    for source, expected in ((given, known), (model, None)):
        built = build_plan(source, flavour=rtx)
        write_engine(tmp_path / "a.engine", built.plan, built.facts)
        assert familiar_of(tmp_path / "a.engine") == familiar_of(source) == expected


@pytest.mark.parametrize(
    ("shape", "options", "expected", "profile"),
    [
        ((1, 3, 32, 64), BuildOptions(), (1, 3, 32, 64), 0),
        (("n", 3, "h", "w"), BuildOptions(), (1, 3, 32, 64), 0),
        (("n", 3, "h", "w"), BuildOptions(size=SizeRange.parse("64x64")), (1, 3, 64, 64), 0),
        (("n", 3, 32, 64), BuildOptions(batch=BatchRange(1, 2, 4)), (None, 3, 32, 64), 3),
        (
            ("n", 3, "h", "w"),
            BuildOptions(size=SizeRange.parse("32x32:32x64:64x128")),
            (1, 3, None, None),
            3,
        ),
        (
            ("n", 3, "h", 64),
            BuildOptions(size=SizeRange(Size(32, 64), Size(64, 64), Size(96, 64))),
            (1, 3, None, 64),
            3,
        ),
    ],
)
def test_shapes(
    rtx: Flavour, tmp_path: Path, shape: Any, options: BuildOptions, expected: Any, profile: int
) -> None:
    """Dynamic axes are fixed by the card unless a range is asked for."""
    path = save(conv_model(shape), tmp_path / "m.onnx", card=CARD)
    facts = build_plan(path, flavour=rtx, options=options).facts
    assert facts.inputs[0].shape == expected
    assert len(facts.inputs[0].profile) == profile
    dynamic = tuple(axis is None for axis in expected)
    assert tuple(axis is None for axis in facts.outputs[0].shape) == dynamic


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((1, 3, 32, 64), BuildOptions(size=SizeRange.parse("64x64")), ["fixed", "32x64", "64x64"]),
        ((1, 3, 32, 64), BuildOptions(batch=BatchRange(1, 2, 4)), ["batch", "1:2:4"]),
        (("n", 3, "h", "w"), BuildOptions(), ["no card", "--size"]),
        (("n", "c", 32, 64), BuildOptions(), ["channels"]),
    ],
)
def test_shapes_that_do_not_fit(
    rtx: Flavour, tmp_path: Path, shape: Any, options: BuildOptions, words: list[str]
) -> None:
    path = save(conv_model(shape), tmp_path / "m.onnx")
    with pytest.raises(UsageError) as caught:
        build_plan(path, flavour=rtx, options=options)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (nonzero_model, ["NonZero", "find_things", "onnxruntime"]),
        (deform_model, ["DeformConv", "dcn"]),
        (lambda: quantized_model(bias=True), ["int32 biases", "QuantizeBias", "dq_bias"]),
    ],
)
def test_refused_operators(
    rtx: Flavour, tmp_path: Path, graph: Callable[[], onnx.ModelProto], words: list[str]
) -> None:
    path = save(graph(), tmp_path / "m.onnx")
    with pytest.raises(ModelError) as caught:
        build_plan(path, flavour=rtx)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_unknown_operator_of_another_domain(rtx: Flavour, tmp_path: Path) -> None:
    node = onnx.helper.make_node("Frobnicate", ["image"], ["y"], name="frob", domain="my")
    graph = model_of([node], inputs={"image": (4, 4)}, outputs={"y": (4, 4)}, domains=("my",))
    with pytest.raises(ModelError, match="no operator Frobnicate"):
        build_plan(save(graph, tmp_path / "m.onnx"), flavour=rtx)


def test_files_that_are_no_models(rtx: Flavour, tmp_path: Path, model: Path) -> None:
    short = tmp_path / "short.onnx"
    short.write_bytes(model.read_bytes()[:-200])
    for path in (short, tmp_path / "absent.onnx"):
        with pytest.raises(ModelError):
            build_plan(path, flavour=rtx)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (BuildOptions(precision="int8"), ["QuantizeLinear", "int8"]),
        (BuildOptions(targets=("sm87",)), ["sm87", "sm_86"]),
        (BuildOptions(dla_core=0), ["DLA"]),
        (BuildOptions(version_compatible=True), ["--version-compatible"]),
        (BuildOptions(hardware_compatible=True), ["--hardware-compatible"]),
        (BuildOptions(precision="fp16", keep_fp32=("nothing*",)), ["nothing*"]),
    ],
)
def test_refused_options(
    rtx: Flavour, model: Path, options: BuildOptions, words: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        build_plan(model, flavour=rtx, options=options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_fp32_is_refused_for_a_quantised_graph(rtx: Flavour, tmp_path: Path) -> None:
    path = save(quantized_model(), tmp_path / "q.onnx")
    with pytest.raises(UsageError, match="int8 already"):
        build_plan(path, flavour=rtx, options=BuildOptions(precision="fp32"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: BuildOptions(precision="fp8"),  # type: ignore[arg-type]
        lambda: BuildOptions(optimization_level=9),
        lambda: BuildOptions(workspace_bytes=10),
        lambda: BatchRange(2, 1, 4),
        lambda: BatchRange.parse("1:2"),
        lambda: BatchRange.parse("many"),
        lambda: SizeRange.parse("64x64:32x32:128x128"),
        lambda: SizeRange.parse("1:2:3:4"),
    ],
)
def test_options_that_cannot_be_meant(make: Callable[[], object]) -> None:
    with pytest.raises(UsageError):
        make()


def test_all_the_options_together(rtx: Flavour, model: Path) -> None:
    options = BuildOptions(
        workspace_bytes=256 << 20, optimization_level=1, tf32=False, targets=("SM_89", "86")
    )
    facts = build_plan(model, flavour=rtx, options=options).facts
    assert facts.targets == ("sm_86", "sm_89")
    assert facts.options["tf32"] is False


def test_a_missing_half_kernel_puts_the_node_back_to_fp32(
    rtx: Flavour, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strongly typed fp16 can lack kernels: the node goes back, and the facts say so."""
    real, tries = engine_module._Build.run, []

    def run(self: Any, prepared: Any) -> Any:
        tries.append(prepared)
        if len(tries) == 1:
            raise NoKernelError(("head",), BackendError("no kernel"))
        return real(self, prepared)

    monkeypatch.setattr(engine_module._Build, "run", run)
    built = build_plan(model, flavour=rtx, options=BuildOptions(precision="fp16"))
    assert "no fp16 kernel, kept in fp32: head" in built.facts.warnings
    precisions = {layer.name: layer.precision for layer in built.facts.network_layers}
    assert precisions["head"] == "fp32"


def test_a_kernel_that_stays_missing_is_an_error(
    rtx: Flavour, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(self: Any, prepared: Any) -> Any:
        raise NoKernelError(("head",), BackendError("no kernel for head"))

    monkeypatch.setattr(engine_module._Build, "run", run)
    with pytest.raises(BackendError, match="no kernel for head"):
        build_plan(model, flavour=rtx, options=BuildOptions(precision="fp16"))


def test_the_other_flavour_needs_a_gpu_to_build(rtx: Flavour, model: Path) -> None:
    pretended = Flavour("tensorrt", rtx.module, (10, 13, 3))
    with pytest.raises(DeviceError) as caught:
        build_plan(model, flavour=pretended)
    assert isinstance(caught.value, SegedgeError)
    assert caught.value.facts["found"]


class _TimingConfig:
    """A builder configuration that refuses damaged timings, as TensorRT does."""

    def __init__(self) -> None:
        self.used: Any = None

    def create_timing_cache(self, data: bytes) -> Any:
        return None if data == b"damaged" else types.SimpleNamespace(serialize=lambda: b"new")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        self.used = cache
        return not ignore_mismatch

    def get_timing_cache(self) -> Any:
        return self.used


@pytest.mark.parametrize("kept", [b"", b"good", b"damaged"])
def test_timings_are_used_and_kept_anew_where_they_are_damaged(
    rtx: Flavour, model: Path, kept: bytes
) -> None:
    """TensorRT proper times kernels; its calls are pretended here."""
    written: list[bytes] = []
    timing = TimingCache(lambda: kept, written.append)
    pretended = Flavour("tensorrt", rtx.module, (10, 13, 3))
    build = engine_module._Build(read_source(model), pretended, BuildOptions(), None, None, timing)
    config = _TimingConfig()
    build._keep_timing(config, build._start_timing(config))
    assert written == [b"new"]
    without = dataclasses.replace(build, options=BuildOptions(timing_cache=False))
    assert without._start_timing(config) is None
    assert dataclasses.replace(build, flavour=rtx)._start_timing(config) is None
