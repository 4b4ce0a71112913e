"""Which sizes and batches are measured, in which modes, and which cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.measure.bench.results import Mode


@dataclass(frozen=True)
class Setting:
    """One process of a contender measures one of these; the batch is that of ``network``."""

    network: Size
    frame: Size
    batch: int
    modes: tuple[Mode, ...]

    def beside(self, first: Setting) -> str:
        """What distinguishes it from the first one, in words."""
        parts = [f"batch {self.batch}"] if self.batch > 1 else []
        parts += [f"network {self.network}"] if self.network != first.network else []
        parts += [f"frame {self.frame}"] if self.frame != first.frame else []
        return " " + ", ".join(parts) if parts else ""


def settings(
    card: ModelCard, modes: Sequence[Mode], *, networks: Sequence[Size], frames: Sequence[Size],
    batches: Sequence[int],
) -> tuple[list[Setting], dict[str, str]]:  # fmt: skip
    """Every size and batch once, and why some are left out.

    The network does not see the frame's size, and a frame is segmented alone, so there is no
    product of everything with everything: batches are measured with the first frame size. Without
    networks the card's size, without frames twice the network's.
    """
    found, skipped = [], {}
    for network in dict.fromkeys(networks or [card.input_size]):
        if network != card.input_size and "size" not in card.dynamic:
            skipped[f"network {network}"] = (
                f"the network's input is fixed at {card.input_size} "
                "(fix: segedge export ... --dynamic size)"
            )
            continue
        sizes = list(dict.fromkeys(frames)) or [Size(2 * network.height, 2 * network.width)]
        # The first batch and the first frame share a process and its start.
        allowed = [batch for batch in dict.fromkeys(batches) if _takes(card, batch)]
        around: list[Mode] = [mode for mode in modes if mode != "network"]
        alone: list[Mode] = ["network"] if "network" in modes else []
        steps = max(len(sizes) if around else 0, len(allowed) if alone else 0)
        for n in range(steps):
            chosen = [*(alone if n < len(allowed) else []), *(around if n < len(sizes) else [])]
            # The video has a size of its own: once is enough.
            chosen = [mode for mode in chosen if mode != "video" or n == 0]
            batch = allowed[n] if n < len(allowed) else 1
            frame = sizes[n] if n < len(sizes) else sizes[0]
            if chosen:
                found.append(Setting(network, frame, batch, tuple(chosen)))
    for batch in batches:
        if not _takes(card, batch) and "network" in modes:
            skipped[f"batch {batch}"] = (
                "the batch of the network's input is fixed at 1 "
                "(fix: segedge export ... --dynamic batch)"
            )
    return found, skipped


def _takes(card: ModelCard, batch: int) -> bool:
    return batch == 1 or "batch" in card.dynamic
