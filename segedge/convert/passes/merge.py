"""Duplicates merged: equal constants and equal subexpressions become one."""

from __future__ import annotations

from segedge.convert.passes.base import Pass
from segedge.convert.passes.graph import Model, common_passes, drop_dead


def _merge(model: Model) -> None:
    passes = common_passes()
    for each in (
        passes.LiftConstantsToInitializersPass(),
        passes.IdentityEliminationPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.DeduplicateInitializersPass(),
        passes.TopologicalSortPass(),
    ):
        each(model)
    drop_dead(model)


MERGE = Pass("merge duplicates", _merge)
