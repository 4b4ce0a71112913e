"""Constants folded: what does not depend on the image is computed once, here."""

from __future__ import annotations

from segedge.convert.passes.base import Pass
from segedge.graph.kit import Model, drop_dead, quiet
from segedge.machine.optional import require

_OUTPUT_LIMIT = 1 << 20
"""Constants are folded up to so many bytes: tables, not feature maps."""


def _fold(model: Model) -> None:
    optimizer = require("onnxscript.optimizer", purpose="simplify the graph")
    with quiet("onnxscript", "onnx_ir"):
        optimizer.optimize(model, output_size_limit=_OUTPUT_LIMIT)
    drop_dead(model)


FOLD = Pass("fold constants", _fold)
