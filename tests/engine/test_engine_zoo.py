"""The families of networks that people bring: each parses and builds, in fp32 and fp16."""

from __future__ import annotations

from pathlib import Path

import pytest

from segedge.card.geometry import Size
from segedge.engine.builder.builder import build_plan
from segedge.engine.flavour import Flavour
from segedge.engine.options import BuildOptions, SizeRange

networks = pytest.importorskip("tests.networks", reason="the zoo needs torch and onnx")

STATIC = [name for name in networks.NETWORKS if name != "unet"]
"""`unet` is built with a dynamic size below."""


@pytest.mark.parametrize("name", STATIC)
def test_static(rtx: Flavour, tmp_path: Path, name: str) -> None:
    path = networks.export_tiny(name)
    height, width = networks.size_of(name)
    for precision in ("fp32", "fp16"):
        facts = build_plan(path, flavour=rtx, options=BuildOptions(precision=precision)).facts
        assert facts.precision == precision
        assert facts.inputs[0].shape == (1, 3, height, width)
        assert facts.engine_layers


def test_dynamic_size(rtx: Flavour) -> None:
    path = networks.export_tiny("unet", dynamic="size")
    sizes = SizeRange(Size(64, 128), Size(128, 256), Size(256, 512))
    facts = build_plan(path, flavour=rtx, options=BuildOptions(size=sizes)).facts
    assert facts.inputs[0].profile[2] == (1, 3, 256, 512)
    assert facts.outputs[0].shape[2:] == (None, None)
