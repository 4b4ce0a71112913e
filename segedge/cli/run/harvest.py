"""The harvest of `segedge run`: its options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segedge.errors import UsageError

if TYPE_CHECKING:
    from segedge.harvest.options import HarvestOptions

_PANEL = "Harvest"

HarvestFolder = Annotated[
    Path | None,
    typer.Option(
        "--harvest",
        help="Keep the frames the network is least sure of, with its labels.",
        rich_help_panel=_PANEL,
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--harvest-budget", help="Most that the folder may take: 500MB.", rich_help_panel=_PANEL
    ),
]
Top = Annotated[
    float | None,
    typer.Option(
        "--harvest-top",
        help="Share of the most unusual frames that are candidates: 0.1.",
        rich_help_panel=_PANEL,
    ),
]
Distance = Annotated[
    int | None,
    typer.Option(
        "--harvest-distance",
        help="Bits of 64 that may differ in one and the same picture: 4.",
        rich_help_panel=_PANEL,
    ),
]
BaselineFile = Annotated[
    Path | None,
    typer.Option(
        "--harvest-baseline",
        help="JSON of the usual class shares; None: learned in the run.",
        rich_help_panel=_PANEL,
    ),
]


def read_harvest_options(
    folder: Path | None,
    *,
    budget: str | None,
    top: float | None,
    distance: int | None,
    baseline: Path | None,
) -> HarvestOptions | None:
    """The options as they were typed; None: no harvest.

    Raises:
        UsageError: One of them cannot be meant.
    """
    given = {
        "--harvest-budget": budget,
        "--harvest-top": top,
        "--harvest-distance": distance,
        "--harvest-baseline": baseline,
    }
    if folder is None:
        alone = next((name for name, value in given.items() if value is not None), None)
        if alone is not None:
            raise UsageError(f"{alone} is for a harvest", fix="add --harvest FOLDER")
        return None
    from segedge.harvest.options import HarvestOptions, parse_bytes

    usual = HarvestOptions(folder)
    return HarvestOptions(
        folder,
        budget_bytes=usual.budget_bytes if budget is None else parse_bytes(budget),
        top_share=usual.top_share if top is None else top,
        distance=usual.distance if distance is None else distance,
        baseline=baseline,
    )
