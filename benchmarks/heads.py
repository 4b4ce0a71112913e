"""Whether the many ways to end a network are exported with the labels that they mean, or refused.

    python benchmarks/heads.py [--only NAME ...] [--source module|onnx ...]

Each is a small random network (`frames/heads.py`), exported as a module and, written by torch's
exporter first, as somebody's ONNX file; its labels by `segedge.load` stand beside those of its own
pipeline in PyTorch, on four images that export does not see. A network that is exported with less
than 99.5 % of its own labels ends the script with exit code 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from frames.heads import HEADS, SIZE, Head, network

import segedge
from segedge.card.geometry import Size
from segedge.convert.noise import smooth_noise
from segedge.errors import SegedgeError

LEAST = 0.995
"""Share of equal labels below which an export should have been refused."""
SEEN = 4
"""Images of noise that export measures on; others are shown here."""
NAMED = ("finest of several", "auxiliary first")
"""Networks whose outputs have names, which a file keeps where its exporter is told them."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Outcome:
    """What came of one network."""

    equal: float = 0.0
    classes: int = 0
    """How many occur in the network's own labels."""
    refused: str = ""
    notes: tuple[str, ...] = ()

    @property
    def is_wrong(self) -> bool:
        """Whether a file was written that gives other labels."""
        return not self.refused and self.equal < LEAST

    def __str__(self) -> str:
        if self.refused:
            return f"refused: {self.refused}"
        noted = f"; {'; '.join(self.notes)}" if self.notes else ""
        return f"{100 * self.equal:.2f} % of the labels, {self.classes} classes{noted}"


def try_head(name: str, source: str) -> Outcome:
    """Export a network and show images to both."""
    import torch

    head, module = HEADS[name], network(name)
    with tempfile.TemporaryDirectory() as temporary:
        given: Any = module
        options = {"size": Size(*SIZE), **head.options}
        if source == "onnx":
            given = Path(temporary) / "theirs.onnx"
            example = torch.zeros(1, 3, *SIZE)
            names = [str(key) for key in module(example)] if name in NAMED else None
            torch.onnx.export(
                module, (example,), given, output_names=names, dynamo=True, external_data=False,
                verbose=False,
            )  # fmt: skip
        try:
            report = segedge.export(
                given, Path(temporary) / "ours.onnx", options=segedge.ExportOptions(**options)
            )
        except SegedgeError as error:
            return Outcome(refused=error.headline)
        return compared(report, head, module)


def compared(report: segedge.ExportReport, head: Head, module: Any) -> Outcome:
    """The file's labels beside the network's own."""
    import torch

    shares, seen = [], set()
    with segedge.load(report.path, backend="onnxruntime") as segmenter:
        for image in islice(smooth_noise(Size(*SIZE), 2 * SEEN), SEEN, None):
            values = (image[..., ::-1] / 255.0 - MEAN) / STD
            tensor = torch.from_numpy(values.transpose(2, 0, 1)[None].astype(np.float32))
            with torch.no_grad():
                own = head.labels(module(tensor)).reshape(SIZE).numpy()
            shares.append(float(np.mean(segmenter(image).labels == own)))
            seen |= set(np.unique(own).tolist())
    return Outcome(min(shares), len(seen), notes=report.notes)


def main(words: Sequence[str] | None = None) -> None:
    """Try them all, print a line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", help=f"any of {'; '.join(HEADS)}")
    parser.add_argument("--source", nargs="*", choices=("module", "onnx"))
    options = parser.parse_args(words)
    wrong = 0
    for name in options.only or HEADS:
        for source in options.source or ("module", "onnx"):
            found = try_head(name, source)
            wrong += found.is_wrong
            print(f"{'WRONG ' if found.is_wrong else ''}{name} ({source}): {found}", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
