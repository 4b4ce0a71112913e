"""A process that compiles the kernels of a model's frames into the cache, and ends.

Its standard input says the card in a line, and is closed when the parent ends: then it ends, too.
"""

from __future__ import annotations

import os
import sys
import threading


def main() -> None:
    """Compile; what fails is written to standard error."""
    card_json = sys.stdin.readline().strip()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from segedge.card.card import ModelCard
    from segedge.cpu.small_frame import run_small_frame

    run_small_frame(ModelCard.from_json(card_json) if card_json else None)
    sys.stderr.flush()
    os._exit(0)  # a thread reads still


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
