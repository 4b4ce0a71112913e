"""Compiling kernels: every architecture without a GPU, resources, the disk cache, errors.

``python tests/cuda/test_program.py`` prints the table of registers, spills and shared memory.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

from segedge.backends.fake_cuda import FakeCudaBackend
from segedge.card.card import RESIZE_RULES, ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.card.labels import distinct_palette
from segedge.cuda.effects import DeviceLook, Effects
from segedge.cuda.motion import Carrier, Key
from segedge.cuda.preprocess import Preprocess
from segedge.cuda.regions import Clean
from segedge.cuda.runtime import program
from segedge.cuda.runtime.program import Arguments, Extent, Kernel, Plane, Resources
from segedge.cuda.smoothing import Smooth
from segedge.cuda.tail import Picture, Tail
from segedge.errors import DeviceError
from segedge.options.cleaning import Cleaning
from segedge.options.effect import Effect
from segedge.options.smoothing import Smoothing, Step
from tests.built import built
from tests.processes import ended

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_110", "sm_120")
SHARED_LIMIT = 48 * 1024
"""Bytes of static shared memory that every GPU grants a block."""
REGISTER_LIMIT = 128
"""Two blocks of 256 threads on a multiprocessor with 65536 registers."""


def needs_nvrtc() -> str:
    try:
        program._compiler_version()
    except Exception as error:
        return f"NVRTC is not installed: {str(error).splitlines()[0]}"
    return ""


pytestmark = pytest.mark.skipif(bool(needs_nvrtc()), reason=needs_nvrtc() or "-")


class Recorder:
    """A launcher that only remembers the kernels."""

    def __init__(self) -> None:
        self.kernels: list[Kernel] = []

    def __call__(self, kernel: Kernel, grid: Extent, block: Extent, given: Arguments) -> None:
        if kernel not in self.kernels:
            self.kernels.append(kernel)


def a_card(classes: int = 19, **fields: object) -> ModelCard:
    names = tuple(f"c{i}" for i in range(classes))
    return ModelCard(names, distinct_palette(classes), 512, 1024, stride=8).replace(**fields)


@cache
def kernels() -> tuple[Kernel, ...]:
    """Every function in the configurations that differ in what they need."""
    recorder = Recorder()
    _record_preprocess(recorder)
    _record_tail(recorder)
    _record_effects(recorder)
    _record_smoothing(recorder)
    _record_regions(recorder)
    _record_motion(recorder)
    fakes = (FakeCudaBackend(a_card(), None, dtype=d).kernel for d in ("float32", "float16"))
    return (*recorder.kernels, *fakes)


def _record_motion(recorder: Recorder) -> None:
    geometry, grid = Geometry.fit(Size(1024, 2048), Size(512, 1024), "stretch"), Size(64, 128)
    for dtype, layout in (("float32", "nchw"), ("float16", "nhwc")):
        carrier = Carrier(a_card(logits_layout=layout), geometry, grid, dtype=dtype)
        key = Key(16, 16, 16, Size(80, 160), 1.0)
        carrier.run(recorder, [key, key], 16)


def _record_preprocess(recorder: Recorder) -> None:
    twice = Geometry.fit(Size(1024, 2048), Size(512, 1024), "stretch")
    other = Geometry.fit(Size(1080, 1920), Size(512, 1024), "letterbox")
    plane, odd = Plane(0, 8192), Plane(1, 5761)
    for dtype in ("float32", "float16"):
        Preprocess(a_card(), twice, dtype=dtype).run(recorder, plane, 0)
    for resize in RESIZE_RULES:
        for pixels in ("bgr", "nv12"):
            uv = plane if pixels == "nv12" else None
            make = Preprocess(a_card(resize=resize), other, pixel_format=pixels, dtype="float16")
            make.run(recorder, plane, 0, chroma=uv)
    for pixels in ("bgra", "gray"):
        Preprocess(a_card(), other, pixel_format=pixels).run(recorder, plane, 0)
    Preprocess(a_card(input_layout="nhwc"), other).run(recorder, odd, 0)


def _record_tail(recorder: Recorder) -> None:
    geometry, grid = Geometry.fit(Size(1024, 2048), Size(512, 1024), "stretch"), Size(64, 128)
    bgr = {"frame": Picture(Plane(0, 6144)), "overlay": Picture(Plane(0, 6144)), "blend": 1}
    planes = Picture(Plane(0, 2048), Plane(0, 2048))
    nv12 = {"frame": planes, "overlay": planes, "blend": 1}
    labels, confidence = {"labels": Plane(0, 4096)}, {"confidence": Plane(0, 8192)}
    everything = {**labels, **bgr, **confidence, "class_pixels": 1}
    for dtype in ("float32", "float16"):
        tail = Tail(a_card(), geometry, grid, dtype=dtype)
        tail.run(recorder, 0, 0, **labels)
        tail.run(recorder, 0, 0, **labels, **bgr, class_pixels=1)
    for outputs in (nv12, confidence, everything, {**everything, "confidence_kind": "margin"}):
        tail.run(recorder, 0, 0, **outputs)
    many = Tail(a_card(150, logits_layout="nhwc"), geometry, grid)
    many.run(recorder, 0, 0, **everything)
    Tail(a_card(1000), geometry, grid).run(recorder, 0, 0, **labels, **bgr, class_pixels=1)
    sigmoid = Tail(a_card(2, activation="sigmoid"), geometry, grid)
    sigmoid.run(recorder, 0, 0, labels=Plane(1, 2049), frame=Picture(Plane(1, 6145)),
                   overlay=Picture(Plane(1, 6145)), blend=1)  # fmt: skip
    same = Geometry.fit(Size(512, 1024), Size(512, 1024), "stretch")
    Tail(a_card(), same, Size(512, 1024)).run(recorder, 0, 0, **labels)
    given = Tail(a_card(head="labels"), geometry, grid, dtype="int64")
    given.run(recorder, 0, 0, **labels, class_pixels=1)


def _record_effects(recorder: Recorder) -> None:
    geometry, grid = Geometry.fit(Size(1024, 2048), Size(512, 1024), "stretch"), Size(64, 128)
    plane = Plane(0, 8192)
    names = ("cutout", "blur", "outline", "heat")
    effects = [Effect(name) for name in names]
    effects += [Effect("replace", "#000000"), Effect("heat", heat="entropy")]
    for card, dtype in ((a_card(), "float32"), (a_card(150, logits_layout="nhwc"), "float16")):
        drawing = Effects(card, geometry, grid, dtype=dtype)
        for effect in effects:
            look = DeviceLook(effect, True, 128, 0, 0, 0, plane)
            drawing.run(
                recorder, look, 0, 0, frame=plane, out=plane, labels=plane,
                confidence=plane,
            )  # fmt: skip
        drawing.copy_frame(recorder, plane, plane)
    given = Effects(a_card(head="labels"), geometry, grid, dtype="int64", label_dtype="uint16")
    given.run(
        recorder, DeviceLook(Effect("cutout"), True, 0, 0, 0, 0, plane), 0, 0,
        frame=plane, out=plane, labels=plane,
    )  # fmt: skip


def _record_smoothing(recorder: Recorder) -> None:
    grid, network = Size(64, 128), Size(512, 1024)
    past = dict.fromkeys(("logits", "guide", "last_guide", "labels", "counts"), 0)
    cards = [a_card(), a_card(2, activation="sigmoid"), a_card(150, logits_layout="nhwc")]
    for card in cards:
        for dtype, flicker in (("float32", False), ("float16", True)):
            smooth = Smooth(
                card, grid, network, smoothing=Smoothing(flicker=flicker), dtype=dtype,
                tensor_dtype=dtype,
            )  # fmt: skip
            smooth.run(recorder, 0, 0, 0, past=past, step=Step(0.9, False))


def _record_regions(recorder: Recorder) -> None:
    names = tuple(f"c{k}" for k in range(19))
    clean = Clean(Cleaning(9, majority=3, fill_holes=9), names, Size(64, 128))
    clean.run(recorder, 0, 0, 0, wanted=0)


def measured(arch: str, given: Sequence[Kernel]) -> Iterator[tuple[Kernel, Resources]]:
    """What each takes; a source that holds several is compiled once."""
    sources: dict[str, list[Kernel]] = {}
    for kernel in given:
        sources.setdefault(kernel.source, []).append(kernel)
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda group: _resources(group, arch), sources.values())
        for group, rows in zip(sources.values(), found, strict=True):
            yield from zip(group, rows, strict=True)


def _resources(group: Sequence[Kernel], arch: str) -> list[Resources]:
    def make(path: Path) -> None:
        found = program.resources(group, arch)
        path.write_text(json.dumps([dataclasses.asdict(one) for one in found]))

    names = [kernel.name for kernel in group]
    key = [version("cuda-core"), program._compiler_version(), arch, group[0].source, *names]
    rows = json.loads(built(f"{names[0]}-{arch}.json", make, key=key).read_text())
    return [Resources(**row) for row in rows]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_kernel_compiles_without_spilling(arch: str, record_property: object):
    for kernel, found in measured(arch, kernels()):
        record_property(title(kernel), str(found))
        assert found.spill_bytes == 0, f"{title(kernel)} spills: {found}"
        assert found.stack_bytes == 0, f"{title(kernel)} uses local memory: {found}"
        assert found.registers <= REGISTER_LIMIT, f"{title(kernel)}: {found}"
        assert found.shared_bytes <= SHARED_LIMIT, f"{title(kernel)}: {found}"


def test_the_most_classes_fit_shared_memory():
    recorder, geometry = Recorder(), Geometry.fit(Size(64, 64), Size(64, 64), "stretch")
    tail = Tail(a_card(8192), geometry, Size(8, 8))
    tail.run(recorder, 0, 0, labels=Plane(0, 128), class_pixels=1)
    for _, found in measured("sm_75", recorder.kernels):
        assert found.shared_bytes <= SHARED_LIMIT


def test_the_second_time_comes_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kernel = kernels()[0]
    code = program.compile_for(kernel, "sm_87", folder=tmp_path)
    assert code[:4] == b"\x7fELF"
    (entry,) = tmp_path.glob("*.cubin")
    monkeypatch.setattr(program, "_compile", lambda *a: pytest.fail("compiled again"))
    assert program.compile_for(kernel, "sm_87", folder=tmp_path) == code
    monkeypatch.undo()
    entry.write_bytes(entry.read_bytes()[:-1])  # damaged: compiled again
    assert program.compile_for(kernel, "sm_87", folder=tmp_path) == code
    assert program.compile_for(kernel, "sm_90", folder=tmp_path) != code
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".cubin", ".cubin"]


def test_the_key_holds_source_macros_target_and_compiler(monkeypatch: pytest.MonkeyPatch):
    kernel = Kernel.of("f", ("common.cu",), size=1)
    keys = {
        program._key(kernel, "sm_75"),
        program._key(kernel, "sm_80"),
        program._key(Kernel.of("f", ("common.cu",), size=2), "sm_75"),
        program._key(Kernel.of("f", ("common.cu", "logits.cu"), size=1), "sm_75"),
    }
    monkeypatch.setattr(program, "_compiler_version", lambda: "99.0")
    keys.add(program._key(kernel, "sm_75"))
    assert len(keys) == 5


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("in the way")
    assert program.compile_for(kernels()[0], "sm_87", folder=file / "kernels")


def test_an_error_names_the_line_and_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(program, "_read", lambda file: "__device__ int f() { return missing; }\n")
    with pytest.raises(DeviceError, match="kernel nonsense does not compile") as caught:
        program.compile_for(Kernel.of("nonsense", ("x.cu",)), "sm_87", folder=tmp_path)
    assert 'identifier "missing" is undefined' in caught.value.facts["first error"]
    assert "missing" in Path(caught.value.facts["log"]).read_text()


def test_an_unknown_architecture_is_one_clear_error(tmp_path: Path):
    with pytest.raises(DeviceError, match="does not compile") as caught:
        program.compile_for(kernels()[0], "sm_13", folder=tmp_path)
    assert caught.value.facts["target"] == "sm_13"


def test_importing_the_kernels_loads_no_cuda():
    code = (
        "import sys, segedge.cuda.runtime.program, segedge.cuda.preprocess, segedge.cuda.tail\n"
        "print(sorted({'cuda', 'cuda.core'} & set(sys.modules)))"
    )
    done = ended([sys.executable, "-c", code], code=0)
    assert done.stdout.strip() == "[]"


def title(kernel: Kernel) -> str:
    """The function and the macros that tell its configurations apart."""
    shown = ("FORMAT", "RULE", "HALF", "NHWC", "ALIGNED", "CLASSES", "SOURCE", "TYPE_LABELS",
             "OVERLAY", "CONFIDENCE", "COUNT")  # fmt: skip
    macros = [f"{name.lower()}={value}" for name, value in kernel.defines if name in shown]
    return f"{kernel.name} {' '.join(macros)}"


def print_table() -> None:
    rows = {arch: dict(measured(arch, kernels())) for arch in ARCHITECTURES}
    print("registers (+ spilled bytes), shared bytes\n")
    print("| kernel |", " | ".join(ARCHITECTURES), "| shared |")
    print("|---|", "---|" * (len(ARCHITECTURES) + 1), sep="")
    for kernel in kernels():
        found = [rows[arch][kernel] for arch in ARCHITECTURES]
        cells = [f"{r.registers}" + f" + {r.spill_bytes}" * bool(r.spill_bytes) for r in found]
        print(f"| {title(kernel)} |", " | ".join(cells), f"| {found[0].shared_bytes} |")


if __name__ == "__main__":
    print_table()
