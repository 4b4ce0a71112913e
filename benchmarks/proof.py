"""How many faults a file's proof finds, how many sound files it refuses, and what it costs.

`faults` plants one fault after another (in the graph, the card, the backend, the tail, an engine
that is stale, a CUDA kernel on the simulated driver) and asks whether opening would tell: on ONNX
Runtime, and on OpenVINO in bf16 where the CPU has it. `sound` opens different small networks,
resize rules and fits as they are on both, and in float32 on OpenVINO. `cost` measures the demo
network: export with and without a proof, the first opening and later ones, the growth of the file.

    python benchmarks/proof.py [faults] [sound] [cost] [--save]

The networks and the faults are those of the tests (`tests/segment/proved.py`, `planted.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from document import Document, Figure  # noqa: E402
from harness import save, say_machine  # noqa: E402

import segedge  # noqa: E402
from segedge.backends.onnxruntime import OnnxRuntimeBackend  # noqa: E402
from segedge.backends.openvino import openvino_abilities  # noqa: E402
from segedge.backends.registry import open_backend  # noqa: E402
from segedge.card.card import RESIZE_RULES, ModelCard  # noqa: E402
from segedge.card.geometry import FITS, Size  # noqa: E402
from segedge.errors import CardError  # noqa: E402
from segedge.machine.environment import Environment  # noqa: E402
from segedge.segment import common as common_module  # noqa: E402
from segedge.segment.check import Prover  # noqa: E402
from segedge.segment.checked import Checked  # noqa: E402

Verdicts = dict[str, str]
"""Fault or file to what came of it: ``picture``, ``digest``, ``missed``, ``refused``, ``sound``."""
KERNELS = {
    "a kernel that does not interpolate": (
        "preprocess.cu",
        "out.c[k] = fmaf(weight, b.c[k] - a.c[k], a.c[k])",
        "out.c[k] = a.c[k]",
    ),
    "NV12 frames by another matrix": (
        "preprocess.cu",
        "level(fmaf(RED_V, v, y))",
        "level(fmaf(0.9f * RED_V, v, y))",
    ),
    "a tail kernel without its offset": (
        "tail_fill.cu",
        "position_of(scale_x * x + offset_x, g.width);",
        "position_of(scale_x * x, g.width);",
    ),
}
INCLUDES = {
    "export": "segedge.export: torch's exporter, passes, parity on noise, and the proof",
    "load": "segedge.load of a file to a segmenter that can be used",
    "first": "the same, with nothing kept of the file: its pictures are shown",
    "later": "the same, when it has been checked before",
    "picture": "faults that the pictures tell: labels, logits or the tail are not as exported",
    "digest": "faults that only the digest of the weights tells",
    "missed": "faults that nothing tells",
    "sound": "sound files on a backend that pass, with the right weights",
    "refused": "sound files on a backend that do not",
    "frame": "one frame of the network's size, labels",
}
ROUNDS = 2
IN_BF16 = "openvino:bf16"


def in_bf16() -> tuple[str, ...]:
    """The backend that computes in bf16, where this CPU does."""
    return (IN_BF16,) if "BF16" in openvino_abilities() else ()


@dataclass(frozen=True)
class Place:
    """Where faults are planted."""

    backend: str
    folder: Path

    def looked(self, path: Path, card: ModelCard | None = None, wrap: Any = None) -> Checked:
        """What comes of a file, with another card or a broken backend."""
        from tests.segment import proved

        own, proof = proved.card_and_proof(path)
        with contextlib.closing(open_backend(path, self.backend, threads=1).backend) as backend:
            prover = Prover(path, card or own, proof, "", threads=1)
            found = prover.look(self.backend, wrap(backend) if wrap else backend)
        assert found is not None
        return found


def verdict(found: Checked) -> str:
    """What told of a fault."""
    if not found.passed:
        return "picture"
    return "missed" if found.is_sound else "digest"


def faults(folder: Path, backend: str) -> Verdicts:
    """Every planted fault, and whether it was found."""
    from tests.segment import planted, proved

    path, place = proved.exported("varied"), Place(backend, folder)
    found: Verdicts = {}
    for name, edit in planted.GRAPH_FAULTS.items():
        changed = planted.faulty(path, edit, folder / "m.onnx")
        found[f"graph: {name}"] = verdict(place.looked(changed))
    for name, change in planted.CARD_FAULTS.items():
        card = change(proved.card_and_proof(path)[0])
        found[f"card: {name}"] = verdict(place.looked(path, card))
    for name, wrap in _broken(path, folder).items():
        found[name] = verdict(place.looked(path, wrap=wrap))
    for axis, way in enumerate(("row", "column")):
        found[f"tail: a {way} off"] = _shifted("Tail", axis, path, place)
        found[f"preprocessing: a {way} off"] = _shifted("Preprocess", axis, path, place)
    if backend == IN_BF16:
        del found["backend: bf16 that calls itself f32"]
        return found
    return found | kernel_faults()


def _broken(path: Path, folder: Path) -> dict[str, Any]:
    """Faults of a backend, each as what makes a broken one of a sound one."""
    from tests.segment import planted

    broken: dict[str, Any] = {}
    for name, fault in planted.OUTPUT_FAULTS.items():
        broken[f"backend: {name}"] = lambda backend, f=fault: planted.Broken(backend, f)
    for name, fault in planted.INPUT_FAULTS.items():
        broken[f"input: {name}"] = lambda backend, f=fault: planted.Broken(backend, given=f)
    broken["backend: a frame behind"] = planted.FrameBehind
    broken["backend: a stale engine"] = lambda backend: _stale(backend, path, folder)
    return broken


def _stale(backend: Any, path: Path, folder: Path) -> Any:
    """What was built when the last layer's weights were 2 % smaller answers."""
    from tests.segment import planted

    old = planted.faulty(path, planted.scaled_weights(0.98), folder / "old.onnx")
    return planted.Stale(backend, OnnxRuntimeBackend(old, threads=1))


def _shifted(part: str, axis: int, path: Path, place: Place) -> str:
    """A part of the segmenter that is off by a place."""
    sound = getattr(common_module, part)

    class Wrong(sound):  # type: ignore[misc, valid-type]
        def run(self, first: Any, *rest: Any, **named: Any) -> None:
            if part == "Preprocess":
                super().run(np.roll(first, 1, axis=axis), *rest, **named)
                return
            super().run(first, *rest, **named)
            named["labels"][:] = np.roll(named["labels"], 1, axis=axis)

    with mock.patch.object(common_module, part, Wrong):
        return verdict(place.looked(path))


def kernel_faults() -> Verdicts:
    """Wrong CUDA kernels, and the right ones, in a process with the simulated driver."""
    from tests.cuda.driver.simulated import environment

    worker = [sys.executable, __file__, "--kernels"]
    done = subprocess.run(
        worker, env=environment(), capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode:
        print(f"kernels skipped: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return {}
    found: Verdicts = json.loads(done.stdout.splitlines()[-1])
    return found


def _kernels() -> None:
    """The worker: the fake network's file on the simulated GPU, once for each kernel."""
    sys.path.insert(0, str(ROOT / "tests" / "cuda"))
    from shim.launcher import machine_code

    from segedge.backends.fake import FakeBackend
    from segedge.backends.fake_cuda import FakeCudaBackend
    from segedge.card.modelfile import graph_sha256
    from segedge.convert.proof import file_witness, make_proof
    from segedge.cuda.runtime import program
    from segedge.cuda.runtime.device import Device
    from tests.small_model import write_model

    classes = ("night", "dusk", "day", "glare")
    colors = ((0, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 0))
    card = ModelCard(classes, colors, 48, 64, stride=8)
    fake, read, found = FakeBackend(card), program._read, {}

    def compiled(kernel: program.Kernel, *_: object, **__: object) -> bytes:
        return machine_code(kernel)

    with tempfile.TemporaryDirectory() as folder:
        path = write_model(Path(folder) / "m.onnx")
        proof = make_proof(
            file_witness(lambda x: fake.run([x])[0], card), lambda x: fake.run([x])[0], card,
            graph=path, name="fake",
        )  # fmt: skip
        assert proof.graph_sha256 == graph_sha256(path)
        for name, (file, old, new) in {"": ("", "", ""), **KERNELS}.items():

            def wrong(at: str, file: str = file, old: str = old, new: str = new) -> str:
                text = read(at)
                assert at != file or old in text
                return text.replace(old, new) if at == file else text

            with (
                mock.patch.object(program, "_read", wrong),
                mock.patch.object(
                    program, "compile_for", lambda kernel, *_, **__: machine_code(kernel)
                ),
            ):
                backend = FakeCudaBackend(card, Device.open())
                looked_at = Prover(path, card, proof, "", graphs=False).look("fake", backend)
            assert looked_at is not None
            if name:
                found[f"cuda: {name}"] = verdict(looked_at)
            else:
                assert looked_at.is_sound, looked_at.text
    print(json.dumps(found))


def sound(folder: Path) -> Verdicts:
    """Files as they should be, on ONNX Runtime and on OpenVINO, in float32 and in bf16."""
    found: Verdicts = {}
    for path in sound_files(folder):
        from tests.segment import proved

        card, proof = proved.card_and_proof(path)
        for backend in ("onnxruntime", "openvino:f32", *in_bf16()):
            with contextlib.closing(open_backend(path, backend, threads=1).backend) as opened:
                looked_at = Prover(path, card, proof, "", threads=1).look(backend, opened)
            assert looked_at is not None
            found[f"{path.stem} on {backend}"] = "sound" if looked_at.is_sound else looked_at.text
    return found


def sound_files(folder: Path) -> Iterator[Path]:
    """Networks of ten families at fixed and open sizes, the tests' own, and ways to resize."""
    from tests import networks
    from tests.segment import proved

    yield from (proved.exported(name) for name in proved.NETWORKS if name != "any_size")
    for name in networks.NETWORKS:
        yield proved.of_the_zoo(name, None, folder)
        if name not in networks.STATIC_ONLY:
            yield proved.of_the_zoo(name, "size", folder)
    path = proved.exported("varied")
    card, data = proved.card_and_proof(path)[0], path.read_bytes()
    for resize in RESIZE_RULES:
        for fit in FITS:
            changed = card.replace(resize=resize, fit=fit)
            yield proved.with_proof(data, changed, folder / f"varied-{resize}-{fit}.onnx")
    for color in ("rgb", "bgr"):
        for name, mean, std in (("plain", (0, 0, 0), (1, 1, 1)), ("half", (0.5,) * 3, (0.5,) * 3)):
            changed = card.replace(color=color, mean=mean, std=std)
            yield proved.with_proof(data, changed, folder / f"varied-{color}-{name}.onnx")
    wide = card.replace(fit="letterbox", pad_value=0)
    yield proved.with_proof(data, wide, folder / "varied-letterbox-black.onnx")


def cost(folder: Path) -> tuple[list[Figure], dict[str, Any]]:
    """Times of the demo network, and the growth of its file."""
    street = ROOT / "export/street"
    network = f"{street / 'network.py'}:street_net"
    options = segedge.ExportOptions(
        checkpoint=street / "street.pth", size=Size(384, 768), classes=str(street / "classes.txt")
    )
    exports: dict[str, list[float]] = {"with a proof": [], "without": []}
    none = mock.patch("segedge.convert.export.make_proof", side_effect=CardError("left out"))
    for number in range(ROUNDS + 1):
        for name, way in (("with a proof", contextlib.nullcontext()), ("without", none)):
            started = time.perf_counter()
            with way:
                segedge.export(network, folder / f"{name}.onnx", options=options)
            if number:  # the first round imports torch and fills its tables
                exports[name].append(1e3 * (time.perf_counter() - started))
    figures = [Figure.of(name, "export", [values]) for name, values in exports.items()]
    for backend in ("onnxruntime", "openvino:f32", *in_bf16()):
        figures += _openings(folder / "with a proof.onnx", backend)
    sizes = {name: (folder / f"{name}.onnx").stat().st_size for name in exports}
    return figures, {"file bytes": sizes}


def _openings(path: Path, backend: str) -> list[Figure]:
    """Opening unchecked, for the first time and later, in turn; and one frame."""
    times: dict[str, list[float]] = {"load": [], "first": [], "later": [], "frame": []}
    for _ in range(2 + 5):
        with tempfile.TemporaryDirectory() as cache:
            os.environ["SEGEDGE_CACHE_DIR"] = cache
            for name in ("load", "first", "later"):
                started = time.perf_counter()
                segmenter = segedge.load(path, backend=backend, check=name != "load")
                times[name].append(1e3 * (time.perf_counter() - started))
                if name == "later":
                    image = np.zeros((384, 768, 3), np.uint8)
                    segmenter(image)
                    started = time.perf_counter()
                    _ = segmenter(image).labels
                    times["frame"].append(1e3 * (time.perf_counter() - started))
                segmenter.close()
    return [Figure.of(backend, name, [values[2:]]) for name, values in times.items()]


def _counted(variant: str, verdicts: Verdicts) -> list[Figure]:
    counts = Counter(value if value in INCLUDES else "refused" for value in verdicts.values())
    return [Figure.of(variant, name, [[float(n)]], unit="cases") for name, n in counts.items()]


def _told(verdicts: Verdicts, good: tuple[str, ...]) -> str:
    told = sum(value in good for value in verdicts.values())
    for name, value in verdicts.items():
        if value not in good:
            print(f"  {name}: {value}")
    return f"{told} of {len(verdicts)}"


def main() -> None:
    """Run, print, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="faults|sound|cost")
    parser.add_argument("--kernels", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args()
    if options.kernels:
        _kernels()
        return
    parts = options.parts or ["faults", "sound", "cost"]
    environment = Environment.capture()
    say_machine(environment)
    details: dict[str, Any] = {}
    figures: list[Figure] = []
    told: list[Figure] = []
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
        folder = Path(name)
        if "faults" in parts:
            for backend in ("onnxruntime", *in_bf16()):
                title = "faults" if backend != IN_BF16 else "faults in bf16"
                verdicts = details[title] = faults(folder, backend)
                print(f"{title:18}", _told(verdicts, ("picture", "digest")))
                print("  by the pictures ", sum(v == "picture" for v in verdicts.values()))
                told += _counted(title, verdicts)
        if "sound" in parts:
            details["sound"] = sound(folder)
            print("sound not refused ", _told(details["sound"], ("sound",)))
            told += _counted("sound files", details["sound"])
        if "cost" in parts:
            figures, more = cost(folder)
            details |= more
    for figure in figures:
        print(
            f"{figure.variant:14}{figure.quantity:8}{figure.median:9.1f} {figure.unit}",
            figure.span,
        )
    ratio = {f.variant: f.median for f in figures if f.quantity == "export"}
    if ratio:
        times = ratio["with a proof"] / ratio["without"]
        print(f"export with / without {times:.3f}")
        print("file bytes", details["file bytes"])
    if options.save:
        suffix = "" if len(parts) == 3 else "_" + "_".join(parts)
        figures += told
        used = {name: INCLUDES[name] for name in {figure.quantity for figure in figures}}
        save(Document(f"proof{suffix}", used, tuple(figures), {}, details, {}, environment))


if __name__ == "__main__":
    main()
