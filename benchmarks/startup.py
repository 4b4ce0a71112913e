"""How long until something is there: whole processes, from their start to their end.

    python benchmarks/startup.py [--save] [--model MODEL.onnx] [--only NAME ...]

The interpreter alone, `import segedge`, `segedge --help`, opening a model on each CPU backend, the
first overlay with Numba's kernels in their cache and without, the first frame of a file to a file,
and an engine of TensorRT-RTX, which is built without a GPU. Each several times, in turn. Files have
been read before, so that the disk is not in it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import harness
from document import Figure
from frames.scenes import ROOT, SHARED, STREET, make_fast_scnn, make_street

from segedge.backends.registry import statuses
from segedge.card.geometry import Size
from segedge.engine.flavour import flavour_statuses

INCLUDES = {
    "process": "start of the process to its end, interpreter, imports and exit included",
}
WANTED_SECONDS = {"segedge --help": 0.3, "first frame of a file to a file": 1.5}
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
    fresh: str | None = None
    """Environment variable that names a cache folder, new and empty for each run."""
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
        found[f"first overlay, {ready[0]}, no Numba cache"] = Start(
            python(FIRST, model=str(model), backend=ready[0], image=image),
            fresh="SEGEDGE_CACHE_DIR",
        )
        words = ("run", model, video, "--frames", 1, "-o", folder / "out.mp4")
        out = (folder / "out.mp4",)
        found["first frame of a file to a file"] = Start(segedge_command(*words), remove=out)
    if any(status.name == "tensorrt_rtx" and status.can_build for status in flavour_statuses()):
        words = ("build", model, "--flavour", "tensorrt_rtx", "-o", folder / "net.engine")
        found["build, TensorRT-RTX"] = Start(
            segedge_command(*words), fresh="SEGEDGE_CACHE_DIR",
            remove=(folder / "net.engine", folder / "net.engine.json"),
        )  # fmt: skip
    return found


def clip() -> Path:
    """A video of the shared data, else the bundled one."""
    shared = SHARED / "data/video/car-detection.mp4"
    return shared if shared.is_file() else STREET / "street.mp4"


def run_once(start: Start) -> float:
    """Seconds of one run.

    Raises:
        RuntimeError: It failed; with its last line.
    """
    for path in start.remove:
        path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as cache:
        extra = {start.fresh: cache} if start.fresh else {}
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **start.environment, **extra}
        started = time.perf_counter()
        done = subprocess.run(
            start.command, env=environment, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RuntimeError(f"it ended with code {done.returncode}: {last[0][:300]}")
    return seconds


def measure(
    found: Mapping[str, Start], *, rounds: int
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Seconds of each start in each round, after one run that fills the caches; what failed."""
    seconds: dict[str, list[float]] = {name: [] for name in found}
    failed: dict[str, str] = {}
    for turn in range(rounds + 1):
        for name in [name for name in found if name not in failed]:
            print(f"round {turn}/{rounds}  {name}", file=sys.stderr, flush=True)
            try:
                taken = run_once(found[name])
            except RuntimeError as error:
                failed[name] = str(error)
                print(f"  {name} skipped: {error}", file=sys.stderr)
                continue
            if turn:
                seconds[name].append(taken)
    return {name: values for name, values in seconds.items() if name not in failed}, failed


def main() -> int:
    """Measure, print, save."""
    parser = harness.parser_of(__doc__, rounds=7, seconds=1.0)
    parser.add_argument("--model", type=Path, help="with its card; default: as in peers.py")
    parser.add_argument("--only", action="append", metavar="NAME", help="repeatable")
    options = harness.parsed(parser)
    run = harness.Run.begin(options)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        title = prepare(folder, options)
        table = starts(folder, folder / "cut.onnx")
        unknown = [name for name in options.only or () if name not in table]
        if unknown:
            parser.error(f"--only {unknown[0]}: here are {', '.join(table)}")
        chosen = {name: table[name] for name in options.only or table}
        seconds, failed = measure(chosen, rounds=options.rounds)
    figures = [Figure.of(n, "process", [[v] for v in values], unit="s") for n, values in
               seconds.items()]  # fmt: skip
    print_table(figures)
    wanted = [
        {"start": f.variant, "wanted_s": most, "found_s": f.median, "met": f.median <= most}
        for f in figures
        if (most := WANTED_SECONDS.get(f.variant)) is not None
    ]
    details = {"wanted": wanted}
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
        return make_street(folder, network=Size(64, 128), frame=Size(128, 256))
    return make_fast_scnn(folder)


def print_table(figures: list[Figure]) -> None:
    """A row a start."""
    print(f"\n{'':44}{'seconds':>9}  within")
    for figure in figures:
        most = WANTED_SECONDS.get(figure.variant)
        told = "" if most is None else f"   wanted {most:g}: "
        told += "" if most is None else ("met" if figure.median <= most else "not met")
        print(f"{figure.variant:44}{figure.median:9.3f}  {figure.span}{told}")


if __name__ == "__main__":
    sys.exit(main())
