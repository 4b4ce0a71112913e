"""The harvest of `segedge run`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from segedge.errors import UsageError

if TYPE_CHECKING:
    from segedge.harvest.options import HarvestOptions


@dataclass(frozen=True)
class HarvestGroup:
    """What to keep for labelling."""

    panel: ClassVar[str] = "Harvest"
    harvest: Annotated[
        Path | None, "Keep the frames the network is least sure of, with its labels."
    ] = None
    harvest_budget: Annotated[str | None, "Most that the folder may take: 500MB."] = None
    harvest_top: Annotated[
        float | None, "Share of the most unusual frames that are candidates: 0.1."
    ] = None
    harvest_distance: Annotated[
        int | None, "Bits of 64 that may differ in one and the same picture: 4."
    ] = None
    harvest_baseline: Annotated[
        Path | None, "JSON of the usual class shares; None: learned in the run."
    ] = None

    @cached_property
    def value(self) -> HarvestOptions | None:
        """None: no harvest."""
        budget, top, distance = self.harvest_budget, self.harvest_top, self.harvest_distance
        if self.harvest is None:
            for name, given in vars(self).items():
                if given is not None:
                    option = f"--{name.replace('_', '-')}"
                    raise UsageError(f"{option} is for a harvest", fix="add --harvest FOLDER")
            return None
        from segedge.harvest.options import HarvestOptions, parse_bytes

        usual = HarvestOptions(self.harvest)
        return HarvestOptions(
            self.harvest,
            budget_bytes=usual.budget_bytes if budget is None else parse_bytes(budget),
            top_share=usual.top_share if top is None else top,
            distance=usual.distance if distance is None else distance,
            baseline=self.harvest_baseline,
        )
