"""Making an exported graph small: constants folded, duplicates merged, chatter dropped."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from segedge.convert.options import PassReport
from segedge.convert.passes.graph import Model, drop_dead, graph_nodes, shape_of
from segedge.convert.passes.pooling import fuse_adaptive_pooling
from segedge.machine.optional import require

_OUTPUT_LIMIT = 1 << 20
"""Constants are folded up to so many bytes: tables, not feature maps."""


def simplify(model: Model) -> list[PassReport]:
    """Run all simplifications, in place.

    Each keeps what the graph computes; the parity check measures that afterwards.
    """
    return [
        _counted("fold constants", _fold, model),
        _counted("rewrite", _rewrite, model),
        fuse_adaptive_pooling(model),
        _counted("merge duplicates", _merge, model),
    ]


def infer_shapes(model: Model) -> None:
    """Write the shapes of all inner values into the model, where they can be known."""
    passes = require("onnx_ir.passes.common", purpose="export a network")
    passes.ShapeInferencePass()(model)


def forget_shapes(model: Model) -> None:
    """Drop the shapes of inner values, which are stale once an input's shape has changed."""
    for node in model.graph:
        for value in node.outputs:
            value.shape = None


def _fold(model: Model) -> None:
    optimizer = require("onnxscript.optimizer", purpose="simplify the graph")
    with _quiet("onnxscript", "onnx_ir"):
        optimizer.optimize(model, output_size_limit=_OUTPUT_LIMIT)
    drop_dead(model)


def _rewrite(model: Model) -> None:
    """The default rules of onnxscript: fused BatchNorm and pads, no-op casts and reshapes."""
    if any(len(shape_of(value) or ()) == 0 for value in model.graph.inputs):
        return
    rewriter = require("onnxscript.rewriter", purpose="simplify the graph")
    with _quiet("onnxscript", "onnx_ir"):
        rewriter.rewrite(model)
    drop_dead(model)


def _merge(model: Model) -> None:
    passes = require("onnx_ir.passes.common", purpose="export a network")
    for each in (
        passes.LiftConstantsToInitializersPass(),
        passes.IdentityEliminationPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.DeduplicateInitializersPass(),
        passes.TopologicalSortPass(),
    ):
        each(model)
    drop_dead(model)


def _counted(name: str, step: Callable[[Model], None], model: Model) -> PassReport:
    """Run a step and report how many nodes it removed."""
    before = len(graph_nodes(model))
    step(model)
    removed = before - len(graph_nodes(model))
    return PassReport(name, changed=removed != 0, detail=f"{removed} of {before} nodes removed")


class _quiet:  # noqa: N801 - a context manager, used as a function
    """Keep libraries' loggers silent below errors for a while."""

    def __init__(self, *names: str) -> None:
        self._loggers = [logging.getLogger(name) for name in names]
        self._levels = [logger.level for logger in self._loggers]

    def __enter__(self) -> None:
        """Silence."""
        for logger in self._loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *_: Any) -> None:
        """Restore."""
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)
