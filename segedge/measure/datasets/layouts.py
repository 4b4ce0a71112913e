"""Where data sets keep their images and labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from segedge.card.labels import LabelSet, Rgb, label_set, read_classes
from segedge.errors import SourceError, unknown_name_error
from segedge.measure.datasets.camvid_colors import CAMVID_COLORS
from segedge.video.formats import IMAGE_SUFFIXES
from segedge.video.sources.images import natural_key

LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".pgm")
CLASS_NAMES = "classes.txt"
"""Names the classes of a plain data set, where it lies in its folder."""
EXPECTED = {
    "cityscapes": "leftImg8bit/SPLIT/CITY/*_leftImg8bit.png, "
    "gtFine/SPLIT/CITY/*_gtFine_labelIds.png",
    "camvid": "SPLIT/ and SPLITannot/, or 701_StillsRaw_full/ and LabeledApproved_full/*_L.png",
    "voc": "ImageSets/Segmentation/SPLIT.txt, JPEGImages/, SegmentationClass/",
    "ade20k": "images/{training,validation}/, annotations/{training,validation}/",
    "plain": "images/ and labels/ with the same file names (or SPLIT/images/, SPLIT/labels/)",
}
"""Layout to what it looks like."""
LAYOUTS = tuple(EXPECTED)


@dataclass(frozen=True)
class Listing:
    """The files of a data set."""

    layout: str
    root: Path
    pairs: tuple[tuple[Path, Path], ...]
    """(image, label file), in natural order."""
    missing: tuple[Path, ...]
    """Images without a label file."""
    labels: LabelSet | None = None
    """What the label files hold; None: the model's own classes."""
    colors: Mapping[Rgb, str] = field(default_factory=dict)
    """Further colours of label files to class names; a name of no class does not count."""

    @property
    def expected(self) -> str:
        """What the layout looks like."""
        return EXPECTED[self.layout]

    def has_ids(self, label_path: Path) -> bool:
        """Whether a label file holds raw ids, which the label set maps to labels."""
        return self.layout == "ade20k" or label_path.stem.endswith("_labelIds")


def list_layout(folder: Path, *, layout: str = "auto", split: str = "val") -> Listing:
    """The files of a data set; see `datasets.open_dataset`."""
    if layout != "auto" and layout not in LAYOUTS:
        raise unknown_name_error("layout", layout, ("auto", *LAYOUTS))
    if not folder.is_dir():
        found = "a file, no folder" if folder.exists() else "no such folder"
        raise SourceError(
            f"no data set at {folder}",
            facts={"found": found, **_neighbours(folder)},
            fix="give the folder that holds " + EXPECTED["plain"],
        )
    names = LAYOUTS if layout == "auto" else (layout,)
    for name in names:
        listing = _FINDERS[name](folder, split)
        if listing is not None:
            return listing
    raise _no_layout(folder, names, split)


def _cityscapes(folder: Path, split: str) -> Listing | None:
    images, labels = folder / "leftImg8bit" / split, folder / "gtFine" / split
    if not (images.is_dir() and labels.is_dir()):
        return None

    def label_of(image: Path) -> Sequence[Path]:
        stem = image.stem.removesuffix("_leftImg8bit")
        place = labels / image.parent.relative_to(images)
        kinds = ("labelIds", "labelTrainIds", "color")
        return [place / f"{stem}_gtFine_{kind}.png" for kind in kinds]

    return _listing("cityscapes", folder, _images(images, deep=True), label_of, "cityscapes")


def _camvid(folder: Path, split: str) -> Listing | None:
    places = [
        (folder / split, folder / f"{split}annot"),
        (folder / "701_StillsRaw_full", folder / "LabeledApproved_full"),
    ]
    for images, labels in places:
        if images.is_dir() and labels.is_dir():
            break
    else:
        return None

    def label_of(image: Path) -> Sequence[Path]:
        return [labels / f"{image.stem}{end}.png" for end in ("", "_L")]

    return _listing("camvid", folder, _images(images), label_of, "camvid", CAMVID_COLORS)


def _voc(folder: Path, split: str) -> Listing | None:
    names = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not (names.is_file() and (folder / "JPEGImages").is_dir()):
        return None
    stems = [line.strip() for line in names.read_text(encoding="utf-8").splitlines()]
    images = [folder / "JPEGImages" / f"{stem}.jpg" for stem in stems if stem]

    def label_of(image: Path) -> Sequence[Path]:
        return [folder / "SegmentationClass" / f"{image.stem}.png"]

    # The development kit paints outlines of objects in this colour; they do not count.
    return _listing("voc", folder, images, label_of, "voc", {(224, 224, 192): ""})


def _ade20k(folder: Path, split: str) -> Listing | None:
    part = {"val": "validation", "train": "training"}.get(split, split)
    images, labels = folder / "images" / part, folder / "annotations" / part
    if not (images.is_dir() and labels.is_dir()):
        return None

    def label_of(image: Path) -> Sequence[Path]:
        return [labels / f"{image.stem}.png"]

    return _listing("ade20k", folder, _images(images), label_of, "ade20k")


def _plain(folder: Path, split: str) -> Listing | None:
    places = [
        (folder / "images", folder / "labels"),
        (folder / split / "images", folder / split / "labels"),
        (folder / "images" / split, folder / "labels" / split),
    ]
    found = [(i, t) for i, t in places if i.is_dir() and t.is_dir()]
    # images/val/ beside labels/val/: the outer folders hold no image themselves.
    chosen = next((place for place in found if _images(place[0])), found[0] if found else None)
    if chosen is None:
        return None
    images, labels = chosen

    def label_of(image: Path) -> Sequence[Path]:
        return [labels / f"{image.stem}{suffix}" for suffix in LABEL_SUFFIXES]

    listing = _listing("plain", folder, _images(images), label_of)
    names = folder / CLASS_NAMES
    return replace(listing, labels=read_classes(names)) if names.is_file() else listing


_FINDERS: dict[str, Callable[[Path, str], Listing | None]] = {
    "cityscapes": _cityscapes,
    "camvid": _camvid,
    "voc": _voc,
    "ade20k": _ade20k,
    "plain": _plain,
}


def _listing(
    layout: str,
    root: Path,
    images: Sequence[Path],
    label_of: Callable[[Path], Sequence[Path]],
    labels: str | None = None,
    colors: Mapping[Rgb, str] | None = None,
) -> Listing:
    """Pair images with the first of their label files that exists."""
    pairs, missing = [], []
    for image in images:
        label = next((path for path in label_of(image) if path.is_file()), None)
        if label is None:
            missing.append(image)
        else:
            pairs.append((image, label))
    known = label_set(labels) if labels else None
    return Listing(layout, root, tuple(pairs), tuple(missing), known, colors or {})


def _images(folder: Path, *, deep: bool = False) -> list[Path]:
    found = folder.rglob("*") if deep else folder.iterdir()
    return sorted(
        (p for p in found if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")),
        key=natural_key,
    )


def _no_layout(folder: Path, names: Sequence[str], split: str) -> SourceError:
    inside = sorted(p.name + ("/" if p.is_dir() else "") for p in folder.iterdir())
    shown = ", ".join(inside[:8]) + (f" and {len(inside) - 8} more" if len(inside) > 8 else "")
    facts = {"found": shown or "an empty folder"}
    facts.update({name: re.sub("SPLIT", split, EXPECTED[name]) for name in names})
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
        f"{place} ({name})"
        for place in (*near, parent.absolute().parent)
        for name in LAYOUTS
        if _FINDERS[name](place, split) is not None
    ]
    return {"near": ", ".join(fitting[:3])} if fitting else {}
