"""Duplicates merged: equal constants and equal subexpressions become one."""

from __future__ import annotations

from segedge.convert.passes.base import Pass
from segedge.graph.kit import Model, drop_dead, run_passes


def _merge(model: Model) -> None:
    run_passes(
        model, "LiftConstantsToInitializers", "IdentityElimination",
        "CommonSubexpressionElimination", "DeduplicateInitializers", "TopologicalSort",
    )  # fmt: skip
    drop_dead(model)


MERGE = Pass("merge duplicates", _merge)
