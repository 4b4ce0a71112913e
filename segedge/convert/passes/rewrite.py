"""The default rules of onnxscript: fused BatchNorm and pads, no-op casts and reshapes."""

from __future__ import annotations

from segedge.convert.passes.base import Pass
from segedge.graph.kit import Model, drop_dead, quiet, shape_of
from segedge.machine.optional import require


def _rewrite(model: Model) -> None:
    rewriter = require("onnxscript.rewriter", purpose="simplify the graph")
    with quiet("onnxscript", "onnx_ir"):
        rewriter.rewrite(model)
    drop_dead(model)


def _has_ranks(model: Model) -> bool:
    return all(shape_of(value) for value in model.graph.inputs)


REWRITE = Pass("rewrite", _rewrite, requires=_has_ranks)
