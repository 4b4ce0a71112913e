"""What a harvest costs a frame: scores, and for the few that are kept the files.

Frames are CamVid images enlarged to 1024x2048, each a little different, with logits 19 x 64 x 128
of noise around the same scene: a harvest cannot tell them from real ones, and no network blurs
the figures. `score` is what every frame costs, `keep` what one that is kept takes as a whole;
`write` is every frame, kept or not.

    python benchmarks/harvest.py [--rounds 3] [--frames 300] [--save]
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import harness
import numpy as np
from harness import Samples, Stopwatch
from tail_cpu import FRAME, scene

from segedge.backends.fake import FakeBackend
from segedge.card.card import ModelCard
from segedge.card.labels import label_set
from segedge.frames.frame import Frame
from segedge.harvest.grid import grid_of
from segedge.harvest.harvest import Harvest
from segedge.harvest.hashing import difference_hash
from segedge.harvest.options import HarvestOptions
from segedge.harvest.scores import Baseline, Scorer
from segedge.segment.segmenter import Segmenter

CITY = label_set("cityscapes")
CARD = ModelCard(CITY.names, CITY.palette_rgb, 512, 1024, stride=8)
SHAPE = (1, 19, 64, 128)
INCLUDES = {
    "score": "the four reasons and the hash of one frame, from its logits",
    "keep": "a frame that is kept: its score, its labels, and both files",
    "write": "any frame given to the sink, kept or not",
    "close": "the end of the run: the archive of all labels",
    "kept_share": "frames that were kept, for a while at least",
}
UNITS = {"kept_share": "1"}


def worker(count: int) -> Samples:
    """One run."""
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
        scores, writes, keeps = [], [], []
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
            writes.append(watch.lap())
            if len(list((Path(folder) / "h/images").iterdir())) > before:
                keeps.append(writes[-1])
        watch.lap()
        sink.close()
        closed = watch.lap()
    shares = [len(keeps) / count]
    return {
        "score": scores, "keep": keeps, "write": writes, "close": [closed], "kept_share": shares
    }  # fmt: skip


def main() -> None:
    """Measure, print, write the file if asked."""
    parser = harness.parser_of(__doc__, rounds=3, seconds=1.0)
    parser.add_argument("--frames", type=harness.positive(int), default=300)
    options = harness.parsed(parser)
    count = 30 if options.quick else options.frames
    if options.variant:
        print(json.dumps(worker(count)))
        return
    run = harness.Run.begin(options)
    turns = run.in_turn(__file__, ("harvest",), also={"frames": count})
    print(f"{FRAME}, {count} frames\n")
    for quantity, told in INCLUDES.items():
        found = turns.median("harvest", quantity)
        text = "-" if found is None else f"{found:8.2f} {UNITS.get(quantity, 'ms'):3}"
        print(f"{quantity:11}{text}  {told}")
    settings = {"size": str(FRAME), "frames": count}
    run.write("harvest", INCLUDES, turns.figures(UNITS), settings, skipped=turns.skipped)


if __name__ == "__main__":
    main()
