"""How long until something is there: whole processes, from their start to their end.

    python benchmarks/startup.py [--save] [--model MODEL.onnx] [--only NAME ...] [--against FOLDER]

The interpreter alone, `import segedge`, `segedge --help`, opening a model on each CPU backend, the
first overlay with the kernels in their cache and without, an image and frames of a file to a file,
and an engine of TensorRT-RTX, which is built without a GPU; seconds, and the most memory that a
process held. Each several times, in turn, on request with another checkout's. Files have been read
before, so that the disk is not in it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import harness
from document import Figure
from frames.scenes import ROOT, SHARED, STREET, make_fast_scnn, make_tiny_street

from segedge.backends.registry import statuses
from segedge.engine.flavour import flavour_statuses

INCLUDES = {
    "process": "start of the process to its end, interpreter, imports and exit included",
    "peak": "the most memory that it held, files that it maps included; not its children's",
}
WANTED_SECONDS = {"segedge --help": 0.3, "first frame of a file to a file": 1.5}
CACHES = ("SEGEDGE_CACHE_DIR", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR")
"""The others for checkouts from before there was the first."""
# A process counts as its own what the one that started it held in that moment: a small one does it.
LAUNCH = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.run(sys.argv[2:], stdout=subprocess.DEVNULL).returncode
seconds = time.perf_counter() - started
kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
open(sys.argv[1], "w").write(json.dumps([code, seconds, kilobytes / 1024]))
"""
BEFORE = ", before"
"""Behind the names of the other checkout's starts."""
OPEN = "import segedge; segedge.load({model!r}, backend={backend!r})"
FIRST = (
    "import cv2, segedge; "
    "segedge.load({model!r}, backend={backend!r})(cv2.imread({image!r}), outputs=('overlay',))"
    ".overlay()"
)


@dataclass(frozen=True)
class Start:
    """A command whose whole run is timed."""

    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    """Environment variables that name a cache folder, new and empty for each run."""
    remove: tuple[Path, ...] = ()
    """What an earlier run left, taken away before each run."""


def python(code: str, **values: Any) -> tuple[str, ...]:
    """A command that runs code with values in it."""
    return (sys.executable, "-c", code.format(**values))


def segedge_command(*words: object) -> tuple[str, ...]:
    """The command line."""
    return (sys.executable, "-m", "segedge", *map(str, words))


def starts(folder: Path, model: Path) -> dict[str, Start]:
    """Name to what is run; all of them can run here."""
    image, video = str(folder / "frame-0.png"), clip()
    ready = [s.name for s in statuses() if s.ready and s.name in ("onnxruntime", "openvino")]
    found = {
        "python alone": Start(python("pass")),
        "import segedge": Start(python("import segedge")),
        "segedge --help": Start(segedge_command("--help")),
    }
    for name in ready:
        values = {"model": str(model), "backend": name, "image": image}
        found[f"open, {name}"] = Start(python(OPEN, **values))
        found[f"first overlay, {name}"] = Start(python(FIRST, **values))
    if ready:
        found[f"first overlay, {ready[0]}, nothing kept"] = Start(
            python(FIRST, model=str(model), backend=ready[0], image=image),
            fresh=CACHES,
        )
        picture = segedge_command("run", model, image, "-o", folder / "out.png")
        of_image = (folder / "out.png",)
        found["run, an image, nothing kept"] = Start(picture, fresh=CACHES, remove=of_image)
        found["run, an image"] = Start(picture, remove=of_image)
        words = ("run", model, video, "--frames", 1, "-o", folder / "out.mp4")
        out = (folder / "out.mp4",)
        found["first frame of a file to a file"] = Start(segedge_command(*words), remove=out)
        words = ("run", model, video, "--frames", 100, "-o", folder / "out.mp4")
        found["100 frames of a file to a file"] = Start(segedge_command(*words), remove=out)
    if any(status.name == "tensorrt_rtx" and status.can_build for status in flavour_statuses()):
        words = ("build", model, "--flavour", "tensorrt_rtx", "-o", folder / "net.engine")
        found["build, TensorRT-RTX"] = Start(
            segedge_command(*words), fresh=CACHES,
            remove=(folder / "net.engine", folder / "net.engine.json"),
        )  # fmt: skip
    return found


def clip() -> Path:
    """A video of the shared data, else the bundled one."""
    shared = SHARED / "data/video/car-detection.mp4"
    return shared if shared.is_file() else STREET / "street.mp4"


def run_once(start: Start, root: Path) -> tuple[float, float]:
    """Seconds and megabytes of one run of a checkout.

    Raises:
        RuntimeError: It failed; with its last line.
    """
    for path in start.remove:
        path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(root), **start.environment}
        environment |= {name: f"{folder}/cache" for name in start.fresh}
        Path(folder, "cache").mkdir()
        told = Path(folder, "told")
        done = subprocess.run(
            [sys.executable, "-S", "-c", LAUNCH, told, *start.command],
            # Elsewhere than in a checkout: -m looks for the package in the working folder first.
            cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        code, seconds, megabytes = json.loads(told.read_text())
    if code != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RuntimeError(f"it ended with code {code}: {last[0][:300]}")
    return seconds, megabytes


def measure(
    found: Mapping[str, Start], checkouts: Mapping[str, Path], *, rounds: int
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, str]]:
    """Each start in each round, after one run that fills the caches; what failed."""
    taken: dict[str, list[tuple[float, float]]] = {}
    failed: dict[str, str] = {}
    for turn in range(rounds + 1):
        for name, start in found.items():
            for suffix, root in checkouts.items():
                label = f"{name}{suffix}"
                if label in failed:
                    continue
                print(f"round {turn}/{rounds}  {label}", file=sys.stderr, flush=True)
                try:
                    one = run_once(start, root)
                except RuntimeError as error:
                    failed[label] = str(error)
                    print(f"  {label} skipped: {error}", file=sys.stderr)
                    continue
                if turn:
                    taken.setdefault(label, []).append(one)
    return {name: rows for name, rows in taken.items() if name not in failed}, failed


def main() -> int:
    """Measure, print, save."""
    parser = harness.parser_of(__doc__, rounds=7, seconds=1.0)
    parser.add_argument("--model", type=Path, help="with its card; default: as in peers.py")
    parser.add_argument("--only", action="append", metavar="NAME", help="repeatable")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout, in turn")
    options = harness.parsed(parser)
    checkouts = {"": ROOT} | ({BEFORE: options.against.absolute()} if options.against else {})
    run = harness.Run.begin(options)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        title = prepare(folder, options)
        table = starts(folder, folder / "cut.onnx")
        unknown = [name for name in options.only or () if name not in table]
        if unknown:
            parser.error(f"--only {unknown[0]}: here are {', '.join(table)}")
        chosen = {name: table[name] for name in options.only or table}
        taken, failed = measure(chosen, checkouts, rounds=options.rounds)
    seconds = [
        Figure.of(name, "process", [[one] for one, _ in rows], unit="s")
        for name, rows in taken.items()
    ]
    peaks = [
        Figure.of(name, "peak", [[peak] for _, peak in rows], unit="MB")
        for name, rows in taken.items()
    ]
    print_table(seconds, peaks)
    figures = [*seconds, *peaks]
    wanted = [
        {"start": f.variant, "wanted_s": most, "found_s": f.median, "met": f.median <= most}
        for f in seconds
        if (most := WANTED_SECONDS.get(f.variant)) is not None
    ]
    details = {"wanted": wanted, "ratios": ratios(seconds, peaks)}
    settings = {"model": title, "clip": clip().name, "rounds": options.rounds}
    run.write("startup", INCLUDES, figures, settings, details=details, skipped=failed)
    return 0


def prepare(folder: Path, options: Any) -> str:
    """A model with its card as ``cut.onnx``, and an image."""
    if options.model:
        from frames.scenes import HD, write_frames

        shutil.copy(options.model, folder / "cut.onnx")
        write_frames(folder, HD)
        return str(options.model.name)
    if options.quick:
        return make_tiny_street(folder)
    return make_fast_scnn(folder)


def ratios(*groups: list[Figure]) -> list[dict[str, Any]]:
    """Medians of this checkout as a share of the other one's."""
    found = []
    for group in groups:
        medians = {figure.variant: figure.median for figure in group}
        for figure in group:
            before = medians.get(f"{figure.variant}{BEFORE}")
            if before:
                share = round(figure.median / before, 3)
                found.append({"start": figure.variant, "unit": figure.unit, "ratio": share})
    return found


def print_table(seconds: list[Figure], peaks: list[Figure]) -> None:
    """A row a start."""
    print(f"\n{'':48}{'seconds':>9}  {'within':16}{'MB':>6}")
    for figure, peak in zip(seconds, peaks, strict=True):
        most = WANTED_SECONDS.get(figure.variant)
        told = "" if most is None else f"   wanted {most:g}: "
        told += "" if most is None else ("met" if figure.median <= most else "not met")
        print(f"{figure.variant:48}{figure.median:9.3f}  {figure.span:16}{peak.median:6.0f}{told}")
    for row in ratios(seconds, peaks):
        print(f"{row['start']:48}{row['ratio']:9.2f} of before ({row['unit']})")


if __name__ == "__main__":
    sys.exit(main())
