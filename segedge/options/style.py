"""OverlayStyle: how the picture of a result looks."""

from __future__ import annotations

from dataclasses import dataclass, field

from segedge.card.card import ModelCard
from segedge.card.labels import names_in
from segedge.errors import UsageError, unknown_name_error
from segedge.options.effect import Effect


@dataclass(frozen=True)
class OverlayStyle:
    """How an overlay looks."""

    opacity: float = 0.5
    """Share of the class colour, 0..1."""
    classes: tuple[str, ...] | None = None
    """Names of the classes that are coloured, or kept as foreground; None: all, and of a
    foreground all but the class called background."""
    legend: bool = False
    """Whether names and shares are drawn into the lower left corner."""
    effect: Effect = field(default_factory=Effect)
    """What the picture shows; the plain overlay by default."""

    def __post_init__(self) -> None:
        if self.classes is not None:
            object.__setattr__(self, "classes", names_in(self.classes))
        if not 0.0 <= self.opacity <= 1.0:
            raise UsageError(
                f"opacity must be within 0..1, found {self.opacity}", fix="--opacity 0.5"
            )
        if self.legend and not self.effect.traits.legend:
            raise UsageError(
                f"no legend on {self.effect.name}: it shows no class colours",
                fix="leave the legend out",
            )

    @property
    def counts_classes(self) -> bool:
        """Whether the picture tells the share of each class, which must be counted for it."""
        return self.legend and self.effect.traits.counts_classes

    def check(self, card: ModelCard) -> None:
        """Raise UsageError on a class that the card does not have, with the nearest one."""
        for name in self.classes or ():
            if name not in card.classes:
                raise unknown_name_error("class", name, card.classes)
        self.effect.check(card, self.classes)

    def labels(self, card: ModelCard) -> tuple[int, ...] | None:
        """Labels of the classes, None for all; UsageError as `check`."""
        self.check(card)
        return None if self.classes is None else tuple(map(card.classes.index, self.classes))
