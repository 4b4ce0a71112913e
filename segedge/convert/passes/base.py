"""What a pass over a graph is: a change, what must hold before and after it, and its report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from segedge.convert.options import PassReport
from segedge.errors import ExportError
from segedge.graph.kit import Model


@dataclass(frozen=True)
class Pass:
    """One change to a graph, in place, that keeps what the graph computes.

    After each, whatever it is, the graph has the inputs and the number of outputs that it had. That
    it computes the same is measured by the parity check when all are done.
    """

    name: str
    """What it is called in reports."""
    effect: Callable[[Model], str | None]
    """Changes the graph; says what it did, empty where nothing. None: its removed nodes say it."""
    requires: Callable[[Model], bool] = lambda model: True
    """Whether it can be run on a graph; it is left out where not."""
    ensures: Callable[[Model], bool] = lambda model: True
    """What holds afterwards."""
    idle: str = "nothing to do"
    """What is reported where ``effect`` says that it did nothing."""

    def __call__(self, model: Model) -> PassReport:
        """Run it; ExportError where what must hold afterwards does not."""
        before, ends = len(model.graph), _ends(model)
        done = self.effect(model) if self.requires(model) else None
        if _ends(model) != ends or not self.ensures(model):
            raise ExportError(f"the pass {self.name!r} broke the graph: a bug in segedge")
        if done is not None:
            return PassReport(self.name, changed=bool(done), detail=done or self.idle)
        removed = before - len(model.graph)
        text = f"{removed} of {before} nodes removed"
        return PassReport(self.name, changed=removed != 0, detail=text)


def _ends(model: Model) -> tuple[list[int], int]:
    return [id(value) for value in model.graph.inputs], len(model.graph.outputs)
