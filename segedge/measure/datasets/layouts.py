"""Where data sets keep their images and labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segedge.card.labels import LabelSet, Rgb, label_set, read_classes
from segedge.errors import SourceError, unknown_name_error
from segedge.machine.files import refused
from segedge.machine.text_file import read_lines
from segedge.measure.datasets.camvid_colors import CAMVID_COLORS
from segedge.measure.datasets.cvat import BACKGROUND, LABEL_MAP, read_label_map, split_list
from segedge.video.formats import IMAGE_SUFFIXES
from segedge.video.sources.images import natural_key

LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".pgm")
_LOSSY = (".jpg", ".jpeg")
CLASS_NAMES = "classes.txt"
"""Names the classes of a plain data set, where it lies in its folder."""


@dataclass(frozen=True)
class Listing:
    """The files of a data set."""

    layout: Layout
    root: Path
    pairs: tuple[tuple[Path, Path], ...]
    """(image, label file), in natural order."""
    missing: tuple[Path, ...]
    """Images without a label file."""
    labels: LabelSet | None = None
    """What the label files hold; None: the model's own classes."""
    label_of: Callable[[Path], Sequence[Path]] = lambda image: ()
    """Where the label file of an image may lie."""

    def lossy_label(self, image: Path) -> Path | None:
        """The JPEG that lies where an image's label file is looked for."""
        places = {path.with_suffix(end) for path in self.label_of(image) for end in _LOSSY}
        return next((path for path in sorted(places) if path.is_file()), None)


Found = tuple[Sequence[Path], Callable[[Path], Sequence[Path]]] | None
"""Images, and where the label file of one may lie: the first that exists counts."""


@dataclass(frozen=True)
class Layout:
    """One way to lay a data set out, and what its label files hold."""

    name: str
    expected: str
    """What it looks like."""
    find: Callable[[Path, str], Found]
    """Folder and split to the images and their labels; None where it is not laid out so."""
    label_set: str | None = None
    """What the label files hold; None: what `CLASS_NAMES` says, else the model's own classes."""
    colors: Mapping[Rgb, str] = field(default_factory=dict)
    """Further colours of label files to class names; a name of no class does not count."""
    has_ids: Callable[[Path], bool] = lambda label_path: label_path.stem.endswith("_labelIds")
    """Whether a label file holds raw ids, which the label set maps to labels."""
    ignored_ids: tuple[int, ...] = ()
    """Raw ids that do not count and that the label set does not know."""
    classes_file: str = CLASS_NAMES
    """Where a folder names the classes of its label files."""
    read_classes: Callable[[Path], LabelSet] = read_classes
    palettes: bool = False
    """Whether palettes of label files say which class is meant, not the indices into them."""
    optional: tuple[str, ...] = ()
    """Classes that the model need not have: they do not count then."""

    def listing(self, folder: Path, split: str) -> Listing | None:
        """Pair images with the first of their label files that exists; None: another layout."""
        found = self.find(folder, split)
        if found is None:
            return None
        pairs: list[tuple[Path, Path]] = []
        missing = []
        images, label_of = found
        there = _Folders()
        for image in images:
            label = next(filter(None, map(there.find, label_of(image))), None)
            if label is None:
                missing.append(image)
            else:
                pairs.append((image, label))
        return Listing(self, folder, tuple(pairs), tuple(missing), self._labels(folder), label_of)

    def _labels(self, folder: Path) -> LabelSet | None:
        names = folder / self.classes_file
        if self.label_set is not None:
            return label_set(self.label_set)
        return self.read_classes(names) if names.is_file() else None


class _Folders:
    """Files by name, whatever the letter case of their ending; each folder is listed once."""

    def __init__(self) -> None:
        self._files: dict[Path, dict[str, Path]] = {}

    def find(self, path: Path) -> Path | None:
        folder = path.parent
        if folder not in self._files:
            entries = sorted(folder.iterdir()) if folder.is_dir() else []
            self._files[folder] = {_key(entry): entry for entry in reversed(entries)}
            self._files[folder].update({entry.name: entry for entry in entries})
        files = self._files[folder]
        return files.get(path.name) or files.get(_key(path))


def _key(path: Path) -> str:
    return path.stem + path.suffix.lower()


def _cityscapes(folder: Path, split: str) -> Found:
    images, labels = folder / "leftImg8bit" / split, folder / "gtFine" / split
    if not (images.is_dir() and labels.is_dir()):
        return None

    def label_of(image: Path) -> Sequence[Path]:
        stem = image.stem.removesuffix("_leftImg8bit")
        place = labels / image.parent.relative_to(images)
        kinds = ("labelIds", "labelTrainIds", "color")
        return [place / f"{stem}_gtFine_{kind}.png" for kind in kinds]

    return _images(images, deep=True), label_of


def _camvid(folder: Path, split: str) -> Found:
    return _first_pair(
        [
            (folder / split, folder / f"{split}annot"),
            (folder / "701_StillsRaw_full", folder / "LabeledApproved_full"),
        ],
        [".png", "_L.png"],
    )


def _voc(folder: Path, split: str) -> Found:
    names = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not (names.is_file() and (folder / "JPEGImages").is_dir()):
        return None
    return _listed(names, folder / "JPEGImages", folder / "SegmentationClass")


def _cvat(folder: Path, split: str) -> Found:
    masks, names = folder / "SegmentationClass", split_list(folder, split)
    if names is None or not (masks.is_dir() and (folder / LABEL_MAP).is_file()):
        return None
    places = [folder / name for name in ("JPEGImages", "images")]
    return _listed(names, next((p for p in places if p.is_dir()), places[0]), masks)


def _listed(names: Path, images: Path, masks: Path) -> Found:
    """The images that a file names, a stem a line."""
    with refused(f"cannot read {names}", SourceError):
        stems = [line.text for line in read_lines(names)]
    there = _Folders()
    found = []
    for stem in stems:
        ends = (there.find(images / f"{stem}{end}") for end in IMAGE_SUFFIXES)
        found.append(next(filter(None, ends), images / f"{stem}.jpg"))

    def label_of(image: Path) -> Sequence[Path]:
        place = masks / image.parent.relative_to(images)
        return [place / f"{image.stem}.png"]

    return found, label_of


def _ade20k(folder: Path, split: str) -> Found:
    part = {"val": "validation", "train": "training"}.get(split, split)
    return _first_pair([(folder / "images" / part, folder / "annotations" / part)], [".png"])


def _plain(folder: Path, split: str) -> Found:
    places = [
        (folder / "images", folder / "labels"),
        (folder / split / "images", folder / split / "labels"),
        (folder / "images" / split, folder / "labels" / split),
    ]
    # images/val/ beside labels/val/: the outer folders hold no image themselves.
    places.sort(key=lambda place: not (place[0].is_dir() and _images(place[0])))
    return _first_pair(places, LABEL_SUFFIXES)


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            "cityscapes",
            "leftImg8bit/SPLIT/CITY/*_leftImg8bit.png, gtFine/SPLIT/CITY/*_gtFine_labelIds.png",
            _cityscapes,
            "cityscapes",
            ignored_ids=(255,),  # the licence plate's id is -1
        ),
        Layout(
            "camvid",
            "SPLIT/ and SPLITannot/, or 701_StillsRaw_full/ and LabeledApproved_full/*_L.png",
            _camvid,
            "camvid",
            CAMVID_COLORS,
        ),
        Layout(
            "cvat",
            "labelmap.txt, ImageSets/Segmentation/*.txt, JPEGImages/, SegmentationClass/",
            _cvat,
            classes_file=LABEL_MAP,
            read_classes=read_label_map,
            palettes=True,
            optional=(BACKGROUND,),
        ),
        Layout(
            "voc",
            "ImageSets/Segmentation/SPLIT.txt, JPEGImages/, SegmentationClass/",
            _voc,
            "voc",
            {(224, 224, 192): ""},  # the development kit's outlines of objects do not count
        ),
        Layout(
            "ade20k",
            "images/{training,validation}/, annotations/{training,validation}/",
            _ade20k,
            "ade20k",
            has_ids=lambda label_path: True,
        ),
        Layout(
            "plain",
            "images/ and labels/ with the same file names (or SPLIT/images/, SPLIT/labels/)",
            _plain,
        ),
    )
}
"""Name to layout, in the order in which ``auto`` tries them."""


def _first_pair(places: Sequence[tuple[Path, Path]], ends: Sequence[str]) -> Found:
    """The first two folders that exist: a label file has its image's stem and one of the ends."""
    found = next(((i, t) for i, t in places if i.is_dir() and t.is_dir()), None)
    if found is None:
        return None
    images, labels = found
    return _images(images), lambda image: [labels / (image.stem + end) for end in ends]


def list_layout(folder: Path, *, layout: str = "auto", split: str = "val") -> Listing:
    """The files of a data set; see `datasets.open_dataset`."""
    if layout != "auto" and layout not in LAYOUTS:
        raise unknown_name_error("layout", layout, ("auto", *LAYOUTS))
    if not folder.is_dir():
        found = "a file, no folder" if folder.exists() else "no such folder"
        raise SourceError(
            f"no data set at {folder}",
            facts={"found": found, **_neighbours(folder)},
            fix="give the folder that holds " + LAYOUTS["plain"].expected,
        )
    tried = list(LAYOUTS.values()) if layout == "auto" else [LAYOUTS[layout]]
    for one in tried:
        listing = one.listing(folder, split)
        if listing is not None:
            return listing
    raise _no_layout(folder, tried, split)


def _images(folder: Path, *, deep: bool = False) -> list[Path]:
    found = folder.rglob("*") if deep else folder.iterdir()
    return sorted(
        (p for p in found if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")),
        key=natural_key,
    )


def _no_layout(folder: Path, tried: Sequence[Layout], split: str) -> SourceError:
    inside = sorted(p.name + ("/" if p.is_dir() else "") for p in folder.iterdir())
    shown = ", ".join(inside[:8]) + (f" and {len(inside) - 8} more" if len(inside) > 8 else "")
    facts = {"found": shown or "an empty folder"}
    facts.update({one.name: re.sub("SPLIT", split, one.expected) for one in tried})
    return SourceError(
        f"{folder} looks like no data set that segedge knows",
        facts=facts | _neighbours(folder, split),
        fix="give the folder that holds these, or another --split",
    )


def _neighbours(folder: Path, split: str = "val") -> dict[str, str]:
    """Folders nearby that do look like a data set."""
    parent = folder if folder.is_dir() else next((p for p in folder.parents if p.is_dir()), folder)
    near = [p for p in sorted(parent.iterdir()) if p.is_dir()][:50] if parent.is_dir() else []
    fitting = [
        f"{place} ({layout.name})"
        for place in (*near, parent.absolute().parent)
        for layout in LAYOUTS.values()
        if layout.listing(place, split) is not None
    ]
    return {"near": ", ".join(fitting[:3])} if fitting else {}
