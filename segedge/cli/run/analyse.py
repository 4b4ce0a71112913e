"""What `segedge run` finds out beyond the labels: road, zones and ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from segedge.cli.options import parse_words
from segedge.errors import UsageError

if TYPE_CHECKING:
    from segedge.analyse.ground import Ground
    from segedge.analyse.road import RoadOptions
    from segedge.analyse.zones import Zone, ZoneRule
    from segedge.frames.protocols import Analysis, Sink, SourceInfo
    from segedge.options.effect import Effect


@dataclass(frozen=True)
class AnalyseGroup:
    """Road, zones and ground: the options, what they ask for, and what draws it."""

    panel: ClassVar[str] = "Road and zones"
    road: Annotated[bool, "Drivable area and nearest obstacles."] = False
    drivable: Annotated[str, "Classes to drive on: road,parking."] = ""
    obstacles: Annotated[str, "Classes to stop at: car,person."] = ""
    bonnet: Annotated[float, "Share of the height that the car's own bonnet hides."] = 0.0
    least_obstacle: Annotated[int, "Obstacle pixels that must stand upon each other."] = 1
    road_step: Annotated[int, "Rows and columns between those that are told."] = 16
    ground: Annotated[Path | None, "JSON homography: adds metres."] = None
    zone: Annotated[
        list[str] | None, "NAME=x,y x,y x,y: pixels, or 0 to 1; or a JSON file. Repeatable."
    ] = None
    zone_classes: Annotated[str, "Classes that occupy a zone: car,person."] = ""
    zone_enter: Annotated[float, "Share of a zone at which it is occupied."] = 0.05
    zone_leave: Annotated[
        float | None, "Share below which it is free again; None: half of the above."
    ] = None
    zone_hold: Annotated[float, "Seconds that a change must last to count."] = 0.0
    draw: Annotated[bool, "Show them in the overlays."] = False

    def __post_init__(self) -> None:
        if self.draw and not self.is_on:
            raise UsageError("--draw has nothing to draw", fix="add --road or --zone")
        if self.ground is not None and not self.road:
            raise UsageError("--ground measures the road", fix="add --road")
        if (self.drivable or self.obstacles) and not self.is_on:
            raise UsageError("--drivable and --obstacles tell of the road", fix="add --road")
        if self.zone_classes and not self.is_on:
            raise UsageError("--zone-classes tells of zones", fix="add --zone")
        if self.is_on and self.road_step < 1:
            raise UsageError(
                f"a step has at least 1 pixel, found {self.road_step}", fix="--road-step 16"
            )

    @property
    def is_on(self) -> bool:
        """Whether anything is asked for."""
        return self.road or bool(self.zone)

    @cached_property
    def roads(self) -> RoadOptions | None:
        """What to look for; None: no road."""
        if not self.is_on:
            return None
        from segedge.analyse.road import RoadOptions

        drivable, obstacles = parse_words([self.drivable]), parse_words([self.obstacles])
        wanted = RoadOptions(drivable, obstacles, self.bonnet, self.least_obstacle)
        return wanted if self.road else None

    @cached_property
    def zones(self) -> tuple[Zone, ...]:
        """The zones; files are read."""
        if not self.zone:
            return ()
        from segedge.analyse.zones import zones_of

        return tuple(zones_of(self.zone))

    @cached_property
    def rule(self) -> ZoneRule | None:
        """When a zone is occupied; None: nothing is asked for."""
        if not self.is_on:
            return None
        from segedge.analyse.zones import ZoneRule

        leave = self.zone_enter / 2 if self.zone_leave is None else self.zone_leave
        return ZoneRule(parse_words([self.zone_classes]), self.zone_enter, leave, self.zone_hold)

    @cached_property
    def metres(self) -> Ground | None:
        """Where the pixels of the road lie; the file is read."""
        if self.ground is None:
            return None
        from segedge.analyse.ground import read_ground

        return read_ground(self.ground)

    def check(
        self,
        classes: Sequence[str],
        infos: Sequence[SourceInfo],
        outputs: Sequence[str],
        effect: Effect,
    ) -> None:
        """Refuse before the run what a model, a source, the outputs or the pictures cannot do."""
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
        if self.roads is not None:
            self.roads.check(classes)
        for zone in self.zones:
            moving_names(classes, zone.classes or (self.rule.classes if self.rule else ()))
            for info in infos:
                if info.size is not None:
                    zone.spans(*info.size)

    def analyses(self) -> list[Analysis]:
        """Fresh ones, for one sink."""
        from segedge.analyse.facts import RoadAnalysis, ZoneAnalysis

        made: list[Analysis] = []
        if self.roads is not None:
            made.append(RoadAnalysis(self.roads, ground=self.metres, step_px=self.road_step))
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
        if self.roads is not None:
            painters.append(RoadPainter(self.roads, ground=self.metres))
        if self.zones:
            painters.append(ZonePainter(ZoneWatch(self.zones, self.rule)))
        return DrawnSink(sink, painters)
