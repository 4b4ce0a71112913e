"""What a harvest costs a frame: scores, and for the few that are kept the files.

Frames are CamVid images enlarged to 1024x2048, each a little different, with logits 19 x 64 x 128
of noise around the same scene: a harvest cannot tell them from real ones, and no network blurs
the figures. `score` is what every frame costs, `keep` what a kept one does on top; `run` is the
time a frame of a whole run with everything, at the share of frames that was kept.

    python benchmarks/harvest.py [--rounds 3] [--frames 300] [--save]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from harness import Stopwatch, run_in_turn, write_results
from tail_cpu import FRAME, scene

from segedge.backends.fake import FakeBackend
from segedge.card import ModelCard
from segedge.frame import Frame
from segedge.harvest.grid import grid_of
from segedge.harvest.harvest import Harvest
from segedge.harvest.hashing import difference_hash
from segedge.harvest.options import HarvestOptions
from segedge.harvest.scores import Baseline, Scorer
from segedge.labels import label_set
from segedge.segmenter import Segmenter

CITY = label_set("cityscapes")
CARD = ModelCard(CITY.names, CITY.palette_rgb, 512, 1024, stride=8)
SHAPE = (1, 19, 64, 128)


def worker(count: int) -> dict[str, float]:
    """Medians of one process."""
    image = scene()[0]
    rng = np.random.default_rng(0)
    base = np.repeat(rng.normal(0, 4, (1, 19, 8, 16)), 8, axis=2).repeat(8, axis=3)
    logits = base.astype(np.float32)

    def network(tensor: np.ndarray) -> np.ndarray:
        return logits + rng.normal(0, 0.2 + rng.random(), SHAPE).astype(np.float32)

    with (
        tempfile.TemporaryDirectory() as folder,
        Segmenter(CARD, FakeBackend(CARD, network=network)) as segmenter,
    ):
        harvest = Harvest(HarvestOptions(Path(folder) / "h"), CARD)
        sink, scorer, baseline = harvest.sink("bench"), Scorer(), Baseline.unknown(19)
        scores, runs, keeps = [], [], []
        for index in range(count):
            frame = Frame(np.roll(image, 16 * index, axis=1), index, "bench.mp4", index / 25)
            result = segmenter(frame)
            watch = Stopwatch()
            scorer(grid_of(frame, result), baseline, moving=True)
            difference_hash(frame)
            scores.append(watch.lap())
            before = len(list((Path(folder) / "h/images").iterdir()))
            watch.lap()
            sink.write(frame, result)
            runs.append(watch.lap())
            if len(list((Path(folder) / "h/images").iterdir())) > before:
                keeps.append(runs[-1])
        watch.lap()
        sink.close()
        closed = watch.lap()
    return {
        "score": statistics.median(scores),
        "keep": statistics.median(keeps) if keeps else 0.0,
        "run": statistics.fmean(runs),
        "kept_share": len(keeps) / count,
        "close": closed,
    }


def main() -> None:
    """Measure, print, write the file if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--save", action="store_true", help="write results/harvest.json")
    parser.add_argument("--variant", choices=("harvest",), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(worker(options.frames)))
        return
    arguments = ["--frames", str(options.frames)]
    rows = run_in_turn(Path(__file__), ("harvest",), rounds=options.rounds, arguments=arguments)
    for row in rows.values():
        print(f"score    {row['score']:7.2f} ms of every frame")
        print(f"keep     {row['keep']:7.2f} ms of a frame that is kept, its score included")
        print(f"run      {row['run']:7.2f} ms a frame, {100 * row['kept_share']:.1f} % kept")
        print(f"close    {row['close']:7.2f} ms once")
    if options.save and rows:
        path = write_results("harvest", {"size": str(FRAME), "figures": rows})
        print(f"wrote {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
