"""What `segedge run` finds out beyond the labels: its options, its analyses and its drawings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segedge.errors import UsageError

if TYPE_CHECKING:
    from segedge.analyse.ground import Ground
    from segedge.analyse.road import RoadOptions
    from segedge.analyse.zones import Zone, ZoneRule
    from segedge.frames.protocols import Analysis, Sink, SourceInfo
    from segedge.options.effect import Effect

_PANEL = "Road and zones"

RoadFlag = Annotated[
    bool,
    typer.Option("--road", help="Drivable area and nearest obstacles.", rich_help_panel=_PANEL),
]
Drivable = Annotated[
    str, typer.Option(help="Classes to drive on: road,parking.", rich_help_panel=_PANEL)
]
Obstacles = Annotated[
    str, typer.Option(help="Classes to stop at: car,person.", rich_help_panel=_PANEL)
]
Bonnet = Annotated[
    float,
    typer.Option(
        help="Share of the height that the car's own bonnet hides.", rich_help_panel=_PANEL
    ),
]
LeastObstacle = Annotated[
    int,
    typer.Option(help="Obstacle pixels that must stand upon each other.", rich_help_panel=_PANEL),
]
RoadStep = Annotated[
    int,
    typer.Option(help="Rows and columns between those that are told.", rich_help_panel=_PANEL),
]
GroundFile = Annotated[
    Path | None,
    typer.Option("--ground", help="JSON homography: adds metres.", rich_help_panel=_PANEL),
]
Zones = Annotated[
    list[str] | None,
    typer.Option(
        "--zone",
        help="NAME=x,y x,y x,y: pixels, or 0 to 1; or a JSON file. Repeatable.",
        rich_help_panel=_PANEL,
    ),
]
ZoneClasses = Annotated[
    str, typer.Option(help="Classes that occupy a zone: car,person.", rich_help_panel=_PANEL)
]
ZoneEnter = Annotated[
    float,
    typer.Option(help="Share of a zone at which it is occupied.", rich_help_panel=_PANEL),
]
ZoneLeave = Annotated[
    float | None,
    typer.Option(
        help="Share below which it is free again; None: half of the above.",
        rich_help_panel=_PANEL,
    ),
]
ZoneHold = Annotated[
    float,
    typer.Option(help="Seconds that a change must last to count.", rich_help_panel=_PANEL),
]
Draw = Annotated[
    bool, typer.Option("--draw", help="Show them in the overlays.", rich_help_panel=_PANEL)
]


@dataclass(frozen=True)
class AnalyseOptions:
    """Road, zones and ground, read and checked."""

    road: RoadOptions | None = None
    """What to look for; None: no road."""
    step_px: int = 16
    """Rows and columns between those that lines tell of."""
    zones: tuple[Zone, ...] = ()
    """The zones."""
    rule: ZoneRule | None = None
    """When they are occupied."""
    ground: Ground | None = None
    """Metres."""
    draw: bool = False
    """Whether overlays show it all."""

    def __post_init__(self) -> None:
        if self.step_px < 1:
            raise UsageError(
                f"a step has at least 1 pixel, found {self.step_px}", fix="--road-step 16"
            )
        if self.draw and not self.is_on:
            raise UsageError("--draw has nothing to draw", fix="add --road or --zone")
        if self.ground is not None and self.road is None:
            raise UsageError("--ground measures the road", fix="add --road")

    @property
    def is_on(self) -> bool:
        """Whether anything is asked for."""
        return self.road is not None or bool(self.zones)

    def check(
        self,
        classes: Sequence[str],
        infos: Sequence[SourceInfo],
        outputs: Sequence[str],
        effect: Effect,
    ) -> None:
        """Refuse what cannot be, before the run.

        Raises:
            UsageError: The model lacks a class, a zone is outside a source's images, no output
                would show anything, or the pictures are none to draw upon.
        """
        if not self.is_on:
            return
        if self.draw and effect.traits.alpha:
            raise UsageError(
                f"--draw needs pictures without opacity, {effect.name} has some",
                fix="leave --draw out, or --effect replace --background '#00ff00'",
            )
        from segedge.analyse.roles import moving_names
        from segedge.video.formats import JSON_SUFFIXES

        lines = any(name == "-" or Path(name).suffix.lower() in JSON_SUFFIXES for name in outputs)
        if not lines and not self.draw:
            raise UsageError(
                "--road and --zone need an output that tells of them",
                fix="-o facts.jsonl, or --draw to see them in the overlays",
            )
        if self.road is not None:
            self.road.check(classes)
        for zone in self.zones:
            moving_names(classes, zone.classes or (self.rule.classes if self.rule else ()))
            for info in infos:
                if info.size is not None:
                    zone.spans(*info.size)

    def analyses(self) -> list[Analysis]:
        """Fresh ones, for one sink."""
        from segedge.analyse.facts import RoadAnalysis, ZoneAnalysis

        made: list[Analysis] = []
        if self.road is not None:
            made.append(RoadAnalysis(self.road, ground=self.ground, step_px=self.step_px))
        if self.zones:
            made.append(ZoneAnalysis(self.zones, self.rule))
        return made

    def drawn(self, sink: Sink) -> Sink:
        """The sink, or where it shows overlays and they are to be drawn upon one that does it."""
        if not self.draw or "overlay" not in sink.needs:
            return sink
        from segedge.analyse.draw import DrawnSink, Painter, RoadPainter, ZonePainter
        from segedge.analyse.facts import ZoneWatch

        painters: list[Painter] = []
        if self.road is not None:
            painters.append(RoadPainter(self.road, ground=self.ground))
        if self.zones:
            painters.append(ZonePainter(ZoneWatch(self.zones, self.rule)))
        return DrawnSink(sink, painters)


def read_analyse_options(
    *,
    road: bool,
    drivable: str,
    obstacles: str,
    bonnet: float,
    least_obstacle: int,
    road_step: int,
    ground: Path | None,
    zones: Sequence[str],
    zone_classes: str,
    zone_enter: float,
    zone_leave: float | None,
    zone_hold: float,
    draw: bool,
) -> AnalyseOptions:
    """The options as they were typed, files read.

    Raises:
        UsageError: One of them cannot be meant.
    """
    if not (road or zones or ground or draw):
        if drivable or obstacles:
            raise UsageError("--drivable and --obstacles tell of the road", fix="add --road")
        if zone_classes:
            raise UsageError("--zone-classes tells of zones", fix="add --zone")
        return AnalyseOptions()
    from segedge.analyse.ground import read_ground
    from segedge.analyse.road import RoadOptions
    from segedge.analyse.zones import ZoneRule, zones_of

    wanted = RoadOptions(_names(drivable), _names(obstacles), bonnet, least_obstacle)
    leave = zone_enter / 2 if zone_leave is None else zone_leave
    return AnalyseOptions(
        road=wanted if road else None,
        step_px=road_step,
        zones=tuple(zones_of(zones)),
        rule=ZoneRule(_names(zone_classes), zone_enter, leave, zone_hold),
        ground=None if ground is None else read_ground(ground),
        draw=draw,
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
