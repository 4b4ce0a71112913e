"""What a network gains from unlabelled images of another camera, on real scenes.

The Fast-SCNN of ../shared/models (its `.pt2` has its BatchNorm) on CamVid val of ../shared/data: 25
images of the first half, in a new look, adapt it; the second half in that look scores it. `chosen`
is what `segedge adapt` does without labels, `best` the share that labels would have chosen. Looks
are made by `LOOKS`, the same for every run. `counts` says how many images are enough, `mixes` what
becomes of images with other classes in them, `sequences` takes CamVid's three recordings for each
other, in four looks, `moods` the demo network and its own generator (export/street).

    python benchmarks/adapt.py [--only looks,counts,mixes,sequences,moods] [--save]
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import harness
import numpy as np
from document import Figure
from numpy.typing import NDArray

from segedge.adaptation.choose import Candidates, best_of
from segedge.adaptation.expected import known_statistics
from segedge.adaptation.frames import Frames
from segedge.adaptation.options import SHARES
from segedge.card.geometry import Size
from segedge.card.modelfile import read_metadata, require_card
from segedge.card.statistics import STATISTICS
from segedge.convert.export import export
from segedge.convert.options import ExportOptions
from segedge.graph.kit import load_model
from segedge.measure.datasets.datasets import Dataset, open_dataset

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
CAMVID, STREET = SHARED / "data" / "camvid", ROOT / "export" / "street"
Image = NDArray[np.uint8]
Pair = tuple[str, Image, Image]
"""Name, BGR image and labels."""
Rows = dict[str, dict[str, float]]
Tried = dict[str, list[list[float]]]
"""Row to its trials, from which another rule could choose."""
VOID = 11
INCLUDES = {
    "before": "mIoU of the file as it was",
    "all the way": "mIoU with all of the way gone",
    "best": "mIoU at the best of all shares, by labels",
    "chosen": "mIoU of what is taken without labels; the file as it was where that is refused",
    "share": "the share that is taken without labels; 0: refused",
}


def _noise(index: int, sigma: float, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.random.default_rng([index, int(sigma)]).normal(0, sigma, shape)


def _jpeg(image: NDArray[np.float64]) -> NDArray[np.float64]:
    data = cv2.imencode(".jpg", image.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 10])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.float64)


LOOKS: dict[str, Callable[[NDArray[np.float64], int], NDArray[np.float64]]] = {
    "as trained": lambda x, i: x,
    "night: gamma 2.2, x0.6, noise 8": lambda x, i: (
        153.0 * (x / 255.0) ** 2.2 + _noise(i, 8, x.shape)
    ),
    "fog: x0.45 + 127": lambda x, i: 0.45 * x + 127.0,
    "noise: sigma 20": lambda x, i: x + _noise(i, 20, x.shape),
    "defocus: Gauss 2.5 px": lambda x, i: cv2.GaussianBlur(x, (0, 0), 2.5),
    "colour cast: B x0.6, G x0.9, R x1.15": lambda x, i: x * (0.6, 0.9, 1.15),
    "low contrast: x0.4 about 128": lambda x, i: 0.4 * (x - 128.0) + 128.0,
    "JPEG quality 10": lambda x, i: _jpeg(x),
    "overexposed: x1.8": lambda x, i: 1.8 * x,
    "underexposed: x0.35": lambda x, i: 0.35 * x,
}

SOME_LOOKS = tuple(LOOKS)[:4]


def seen(look: str, pairs: Iterable[Pair]) -> list[Pair]:
    """The same scenes in another look, rounded to 8 bits as a camera does."""
    return [
        (name, np.clip(np.rint(LOOKS[look](x.astype(np.float64), i)), 0, 255).astype(np.uint8), y)
        for i, (name, x, y) in enumerate(pairs)
    ]


def read_pairs(split: str, prefix: str = "") -> list[Pair]:
    """CamVid's images and labels, in the order of recording."""
    found = []
    for path in sorted((CAMVID / split / "images").glob(f"{prefix}*")):
        labels = CAMVID / split / "labels" / f"{path.stem}.png"
        found.append((path.stem, cv2.imread(str(path)), cv2.imread(str(labels), -1)))
    return found


class Subject:
    """A file that is adapted again and again."""

    def __init__(self, path: Path, void: int, tried: Tried) -> None:
        self.path, self.void, self.tried = path, void, tried
        self.card = require_card(path)
        self.model = load_model(path)
        found = known_statistics(self.model, STATISTICS.read(read_metadata(path)))
        assert found is not None
        self.statistics = found

    def rows(self, images: Iterable[Image], scored: Mapping[str, Sequence[Pair]]) -> Rows:
        """Figures of one adaptation, in points of mIoU, for each set that it is scored on."""
        with Frames(self.card) as frames:
            for image in images:
                frames.add(image)
            candidates = Candidates.of(self.model, self.card, self.statistics, frames)
            trials = candidates.try_shares(SHARES, frames)
        taken = best_of(trials, asked=None)
        rows = {}
        for name, pairs in scored.items():
            with tempfile.TemporaryDirectory() as folder:
                found = candidates.with_miou(trials, self.dataset(Path(folder), pairs))
            scores = {trial.share: 100 * (trial.miou or 0.0) for trial in found}
            rows[name] = {
                "before": scores[0.0], "all the way": scores[1.0], "best": max(scores.values()),
                "chosen": scores[taken.share], "share": taken.share,
            }  # fmt: skip
            self.tried[name] = [
                [round(value, 5) for value in (t.share, t.information, t.confidence, t.miou or 0.0)]
                for t in found
            ]
        return rows

    def dataset(self, folder: Path, pairs: Sequence[Pair]) -> Dataset:
        """Labelled images as a data set on disk."""
        for part in ("images", "labels"):
            (folder / part).mkdir()
        for name, image, labels in pairs:
            cv2.imwrite(str(folder / "images" / f"{name}.png"), image)
            cv2.imwrite(str(folder / "labels" / f"{name}.png"), labels)
        return open_dataset(
            folder, card_classes=self.card.classes, ignore_index=self.void, layout="plain"
        )


def evenly(items: Sequence[Any], count: int) -> list[Any]:
    """So many of them, spread evenly."""
    picks = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[pick] for pick in picks]


def images_of(pairs: Iterable[Pair]) -> list[Image]:
    """Without names and labels."""
    return [image for _, image, _ in pairs]


def looks(subject: Subject, first: list[Pair], second: list[Pair]) -> Rows:
    """Every look, by 25 images of the first half."""
    rows: Rows = {}
    for look in LOOKS:
        rows |= subject.rows(images_of(seen(look, evenly(first, 25))), {look: seen(look, second)})
    return rows


def counts(subject: Subject, first: list[Pair], second: list[Pair]) -> Rows:
    """Fewer and more images of three looks; of one image the same one judges."""
    train = read_pairs("train", "0016E5")
    rows: Rows = {}
    for look in SOME_LOOKS:
        scored = seen(look, second)
        for count in (1, 4, 16, 64):
            images = images_of(seen(look, evenly(first if count < 64 else train, count)))
            images = images * 4 if count == 1 else images
            rows |= subject.rows(images, {f"{look}, {count}": scored})
    return rows


def mixes(subject: Subject, first: list[Pair], second: list[Pair]) -> Rows:
    """Images that show the upper or the lower part of the scenes alone, scored on whole ones."""
    parts = {"upper 40 %": slice(0, 144), "lower 40 %": slice(216, 360)}
    rows: Rows = {}
    for look in SOME_LOOKS:
        scored = seen(look, second)
        for name, part in parts.items():
            images = [image[part] for image in images_of(seen(look, evenly(first, 25)))]
            rows |= subject.rows(images, {f"{look}, {name}": scored})
    return rows


def sequences(subject: Subject, first: list[Pair], second: list[Pair]) -> Rows:
    """Adapted to the first half of one recording, scored on the second half of another."""
    found = {name: read_pairs("train", name) for name in ("0001TP", "0006R0", "0016E5")}
    adapting = {name: evenly(pairs[: len(pairs) // 2], 25) for name, pairs in found.items()}
    scoring = {name: evenly(pairs[len(pairs) // 2 :], 25) for name, pairs in found.items()}
    rows: Rows = {}
    for look in SOME_LOOKS:
        scored = {name: seen(look, pairs) for name, pairs in scoring.items()}
        for one, pairs in adapting.items():
            named = {f"{look}, {one} to {other}": scored[other] for other in scored}
            rows |= subject.rows(images_of(seen(look, pairs)), named)
    return rows


def moods(tried: Tried) -> Rows:
    """The demo network on scenes of each mood of its generator, and in looks it never saw."""
    sys.path.insert(0, str(STREET))
    scene = importlib.import_module("scenes").Scene
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "street.onnx"
        export(
            f"{STREET / 'network.py'}:street_net", path,
            options=ExportOptions(
                checkpoint=STREET / "street.pth", size=Size(384, 768),
                classes=str(STREET / "classes.txt"),
            ),
        )  # fmt: skip
        subject = Subject(path, 255, tried)
        rows: Rows = {}

        def rendered(mood: str, first: int, count: int) -> list[Pair]:
            made = [scene(first + n, mood=mood).render(2.0, 384, 768) for n in range(count)]
            return [(f"{first + n}", image, labels) for n, (image, labels) in enumerate(made)]

        for mood in ("day", "overcast", "evening", "dusk"):
            images, scored = rendered(mood, 700_000, 12), rendered(mood, 800_000, 12)
            for look in SOME_LOOKS if mood == "day" else SOME_LOOKS[:1]:
                named = {f"{mood}, {look}": seen(look, scored)}
                rows |= subject.rows(images_of(seen(look, images)), named)
    return rows


CAMVID_PARTS = {"looks": looks, "counts": counts, "mixes": mixes, "sequences": sequences}


def print_rows(rows: Rows) -> None:
    """One table."""
    print(f"{'':44}" + "".join(f"{name:>13}" for name in INCLUDES))
    for name, row in rows.items():
        print(f"{name:44}" + "".join(f"{row[key]:13.2f}" for key in INCLUDES), flush=True)


def main() -> None:
    """Measure, print, save."""
    parser = harness.saving_parser(__doc__)
    parser.add_argument("--only", default=",".join((*CAMVID_PARTS, "moods")))
    options = parser.parse_args()
    run = harness.Run.begin(options)
    wanted = options.only.split(",")
    figures: list[Figure] = []
    tried: dict[str, Tried] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fastscnn.onnx"
        if set(wanted) & set(CAMVID_PARTS):
            export(
                SHARED / "models" / "fastscnn_camvid.pt2", path,
                options=ExportOptions(classes="camvid", verify=CAMVID / "val" / "images"),
            )  # fmt: skip
        for part in wanted:
            started = time.monotonic()
            tried[part] = {}
            if part == "moods":
                rows = moods(tried[part])
            else:
                pairs = read_pairs("val")
                half = (len(pairs) - 1) // 2
                subject = Subject(path, VOID, tried[part])
                rows = CAMVID_PARTS[part](subject, pairs[:half], pairs[half:])
            print(f"\n{part}: {time.monotonic() - started:.0f} s")
            print_rows(rows)
            figures += [
                Figure.of(
                    f"{part}: {name}", key, [[value]], unit="" if key == "share" else "points"
                )
                for name, row in rows.items()
                for key, value in row.items()
            ]
    told = "part to row to [share, information, confidence, mIoU] of each trial"
    run.write(
        "adapt", INCLUDES, figures, {"parts": wanted, "images": 25},
        details={"tried": tried, "as": told},
    )  # fmt: skip


if __name__ == "__main__":
    main()
