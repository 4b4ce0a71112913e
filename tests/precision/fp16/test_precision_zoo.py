"""Every network of the zoo goes to fp16 and builds with TensorRT-RTX, where that is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from precision_helpers import (
    FLOAT,
    FLOAT16,
    build_rtx,
    casts,
    emulated,
    keep_fp32,
    node_types,
    open_model,
    prepare,
    proto_of,
    require_sound,
    retype,
    run_model,
    to_fp16,
    types_of,
)

from segedge.precision.fp16.rules import WIDE_OPS
from tests.networks import NETWORKS, STATIC_ONLY, deformable, size_of, smooth_images

Zoo = Callable[..., Any]
DYNAMIC = [name for name in NETWORKS if name not in STATIC_ONLY and not name.endswith("corners")]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_in_fp16_is_valid_and_labels_the_same_pixels(halved: Zoo, name: str) -> None:
    model, half, report = halved(name)
    require_sound(half)
    assert types_of(half)["image"] == types_of(half)["logits"] == FLOAT
    assert (
        set(np.unique(run_model(model, smooth_images(1, *size_of(name))).argmax(1))).__len__() > 2
    )
    parity = report.check.parity
    assert (parity.images, parity.kind) == (2, "images")
    assert parity.agreement >= 0.99
    assert parity.ambiguous < 0.05
    assert report.overflow is None
    assert not report.check.nonfinite


@pytest.mark.parametrize("name", NETWORKS)
def test_most_of_a_network_is_fp16_and_its_norms_are_not(halved: Zoo, name: str) -> None:
    _, half, report = halved(name)
    types = node_types(half)
    assert {n.op_type for n in half.graph.node if types[n.name] == FLOAT16} & {"Conv"}
    for node in half.graph.node:
        if node.op_type in WIDE_OPS:
            assert types[node.name] == FLOAT, node.name
        if node.op_type == "Conv":
            assert types[node.name] == FLOAT16, node.name
    assert len(report.converted) > 10 * len(report.kept) or name in ("norms", "segformer")
    assert report.casts == tuple(cast.name for cast in casts(half))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_rtx_builds_it(halved: Zoo, name: str, precision: str) -> None:
    model, half, _ = halved(name)
    assert build_rtx(half if precision == "fp16" else model) == ""


@pytest.mark.parametrize("name", DYNAMIC)
def test_a_dynamic_size_stays_dynamic_and_builds(halved: Zoo, name: str) -> None:
    model, half, report = halved(name, "size")
    require_sound(half)
    assert report.check.parity.agreement >= 0.99
    height, width = size_of(name)
    session = open_model(half)
    larger = smooth_images(1, height * 2, width)
    assert session.run(None, {"image": larger})[0].shape[-2:] == (height * 2, width)
    profile = [(1, 3, h, width) for h in (height, height, 2 * height)]
    assert build_rtx(model, profile) == ""
    assert build_rtx(half, profile) == ""


def test_a_dynamic_batch_builds(halved: Zoo) -> None:
    _, half, _ = halved("deeplab", "batch")
    require_sound(half)
    assert build_rtx(half, [(n, 3, *size_of("deeplab")) for n in (1, 2, 4)]) == ""


def test_an_unsupported_operator_is_refused_by_its_name() -> None:
    assert "DeformConv" in build_rtx(deformable())


@pytest.mark.parametrize("name", ["pidnet_s", "segformer"])
def test_all_in_fp32_is_the_network_itself(zoo: Zoo, name: str) -> None:
    model = zoo(name)
    graph = prepare(model)
    same = retype(graph, wide={node.name for node in graph.nodes}, keep_io=True)
    assert not casts(same)
    image = smooth_images(1, *size_of(name))
    np.testing.assert_array_equal(run_model(same, image), run_model(model, image))


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_choice_of_fp32_layers_gives_a_sound_graph(zoo: Zoo, data: st.DataObject) -> None:
    model = zoo(data.draw(st.sampled_from(["norms", "bisenetv2"])), None)
    graph = prepare(model)
    names = [node.name for node in graph.nodes]
    wide = data.draw(st.sets(st.sampled_from(names)))
    half = retype(graph, wide=wide, keep_io=data.draw(st.booleans()))
    require_sound(half)
    types = node_types(half)
    assert all(types[name] == (FLOAT if name in wide else FLOAT16) for name in names)
    image = smooth_images(1, 128, 256)
    difference = np.abs(run_model(emulated(half), image) - run_model(model, image))
    assert difference.max() < 0.5


def test_single_layers_go_back_to_fp32(halved: Zoo) -> None:
    _, half, report = halved("pidnet_s")
    grouped = next(
        n for n in half.graph.node if any(a.name == "group" and a.i > 1 for a in n.attribute)
    )
    chosen = [grouped.name, report.converted[5]]
    back = keep_fp32(half, chosen)
    require_sound(back)
    before, after = node_types(half), node_types(back)
    changed = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    assert changed == set(chosen)
    assert build_rtx(back) == ""
    assert keep_fp32(half, []).graph.node == proto_of(prepare(half).model).graph.node


def test_metadata_and_producer_survive(zoo: Zoo) -> None:
    model = zoo("unet")
    onnx.helper.set_model_props(model, {"some.key": "some text"})
    half, _ = to_fp16(model)
    assert [(p.key, p.value) for p in half.metadata_props] == [("some.key", "some text")]
    assert half.producer_name == model.producer_name
