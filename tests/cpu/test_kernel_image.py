"""Machine code that is mapped and called without Numba computes what Numba computes."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segedge.card.card import ModelCard
from segedge.cpu.kernels import frame
from segedge.cpu.kernels.compiled import Kernel, njit
from segedge.cpu.kernels.image import IS_KNOWN, Image, LinkError, Mapped, link
from segedge.cpu.kernels.tables import table
from segedge.cpu.small_frame import run_small_frame
from tests.processes import ended

pytestmark = pytest.mark.skipif(not IS_KNOWN, reason="machine code of this machine is not linked")

_FRAME = """
import sys
{blocked}
from segedge.cpu.small_frame import run_small_frame
run_small_frame()
print([name for name in ("numba", "llvmlite", "scipy") if sys.modules.get(name)])
"""


@table
class Inner(NamedTuple):
    values: Any
    shift: int


@table
class Outer(NamedTuple):
    inner: Inner
    factor: float
    is_negative: bool
    steps: tuple[int, int]


@njit(cache=True, nogil=True)
def combine(out: Any, outer: Any, single: Any) -> Any:
    values = outer.inner.values
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            value = values[i, j] * outer.factor + outer.inner.shift + single
            out[i * outer.steps[0], j * outer.steps[1]] = -value if outer.is_negative else value
    return values.size


@settings(max_examples=60, deadline=None)  # a kernel is compiled for each new type
@given(
    st.sampled_from(
        [("uint8", "C"), ("int32", "sliced"), ("bool", "F"), ("float32", "read only"), ("<f8", "C")]
    ),
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
    st.integers(-(2**62), 2**62),
    st.floats(-1e3, 1e3),
    st.booleans(),
    st.sampled_from([np.float32(0.1), np.int8(-3), 7, 0.25]),
)
def test_arguments_of_every_kind_arrive(
    kind: tuple[str, str], shape: tuple[int, int], shift: int, factor: float, negative: bool,
    single: Any,
) -> None:  # fmt: skip
    dtype, layout = kind
    numbers = np.arange(4 * shape[0] * shape[1]).reshape(2 * shape[0], 2 * shape[1]) % 100
    values = np.asfortranarray(numbers.astype(dtype)) if layout == "F" else numbers.astype(dtype)
    values = values[::2, 1::2] if layout == "sliced" else values
    values.flags.writeable = layout != "read only"
    out = np.zeros((2 * values.shape[0], 3 * values.shape[1]))
    outer = Outer(Inner(values, shift), factor, negative, (2, 3))
    expected = values.astype(float) * factor + shift + float(single)
    for _ in range(2):  # the second time as packed before
        out[:] = 0
        assert combine(out, outer, single) == values.size
        np.testing.assert_array_equal(out[::2, ::3], -expected if negative else expected)
        assert np.count_nonzero(out) == np.count_nonzero(expected)
    assert all(isinstance(one, Mapped) for one in combine._mapped.values())


def test_arrays_that_are_contiguous_both_ways_need_no_kernel_of_their_own() -> None:
    """One row, one column, nothing: Numba takes them for contiguous in rows."""

    @njit(cache=True)
    def total(values: Any) -> Any:
        result = 0.0
        for i in range(values.shape[0]):
            for j in range(values.shape[1]):
                result += values[i, j]
        return result

    for shape in ((3, 4), (1, 4), (3, 1), (1, 1), (0, 4), (3, 0)):
        assert total(np.ones(shape)) == shape[0] * shape[1]
    assert len(total._mapped) == 1
    assert total(np.ones((3, 4)).T) == 12
    assert len(total._mapped) == 2


@pytest.mark.parametrize("packed", [False, True])
def test_named_tuples_of_one_name_are_told_apart_by_their_fields(packed: bool) -> None:
    """Within a process, and by the file that a later process finds."""

    def pair(first: str, second: str) -> Any:
        kind = NamedTuple("Pair", [(first, int), (second, int)])
        return table(kind) if packed else kind

    for numbers in (pair("low", "high")(1, 2), pair("high", "low")(2, 1)):
        assert lower_of(numbers) == 1


@njit(cache=True)
def lower_of(numbers: Any) -> Any:
    return numbers.low


def test_tables_are_packed_once_and_each_for_itself() -> None:
    """New arrays come in a new table; the text by which its kernel is found stays."""
    first, second = (Inner(np.full((2, 3), value), value) for value in (1, 2))
    sums = [total_of(first), total_of(second), total_of(first), total_of(Inner(first.values, 5))]
    assert sums == [6 + 1, 12 + 2, 6 + 1, 6 + 5]
    assert first.packed[0] == second.packed[0]
    assert len(total_of._mapped) == 1


@njit(cache=True)
def total_of(inner: Any) -> Any:
    total = inner.shift
    for i in range(inner.values.shape[0]):
        for j in range(inner.values.shape[1]):
            total += inner.values[i, j]
    return total


def test_what_every_frame_needs_is_mapped() -> None:
    card = ModelCard(("dark", "bright"), ((0, 0, 0), (255, 255, 255)), 32, 64, stride=8)
    for wanted in (card, card.replace(resize="pillow-bilinear"), card.replace(head="labels")):
        run_small_frame(wanted)
    used = ["argmax_grid", "mix_levels", "render_cells", "render_lookup", "resample"]
    for name in [*used, "resample_rows"]:
        kernel = getattr(frame, name)
        assert isinstance(kernel, Kernel)
        assert kernel._mapped
        assert None not in kernel._mapped.values()


def test_kept_kernels_need_no_numba(tmp_path: Path) -> None:
    """A frame runs in a process that could not import it."""

    def run(blocked: str) -> str:
        done = ended(
            [sys.executable, "-c", _FRAME.format(blocked=blocked)],
            env={**os.environ, "SEGEDGE_CACHE_DIR": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "numba" in run("")
    assert run("sys.modules['numba'] = sys.modules['llvmlite'] = None").strip() == "[]"


@njit(cache=True)
def keep_largest(values: Any, out: Any, turns: int) -> None:
    for _ in range(turns):
        scratch = np.empty(values.size, values.dtype)
        scratch[:] = values
        for i in range(1, scratch.size):
            scratch[i] = max(scratch[i], scratch[i - 1])
        out[:] = scratch * 2


def test_what_makes_arrays_of_its_own_needs_no_numba() -> None:
    for size in (0, 1, 7, 4096):
        values = np.random.default_rng(size).integers(0, 99, size)
        out = np.zeros_like(values)
        keep_largest(values, out, 3)
        np.testing.assert_array_equal(out, 2 * np.maximum.accumulate(values) if size else out)
    assert all(isinstance(one, Mapped) for one in keep_largest._mapped.values())


def test_its_arrays_are_freed() -> None:
    values, out = np.zeros(1 << 20), np.zeros(1 << 20)
    keep_largest(values, out, 1)
    before = resident_mb()
    keep_largest(values, out, 50)
    assert resident_mb() < before + 8 * 10


def resident_mb() -> float:
    words = Path("/proc/self/statm").read_text().split()
    return int(words[1]) * resource.getpagesize() / 1e6


def test_what_returns_arrays_is_left_to_numba() -> None:
    @njit(cache=True)
    def doubled(values: Any) -> Any:
        return np.concatenate((values, values))

    given = np.arange(3)
    np.testing.assert_array_equal(doubled(given), [0, 1, 2, 0, 1, 2])
    assert list(doubled._mapped.values()) == [None]


def test_a_kernel_that_fails_says_which() -> None:
    @njit(cache=True)
    def inverse(number: int) -> float:
        return 1 / number

    assert inverse(4) == 0.25
    with pytest.raises(RuntimeError, match="inverse failed"):
        inverse(0)


def test_an_image_is_what_it_was() -> None:
    image = Image(b"\x90" * 16, 8, [(0, 8)], [(8, "memset")], [(0, 8, 16)], "q")
    assert Image.from_bytes(image.to_bytes()) == image


_X86, _ARM = 62, 183


def _object(
    kind: int, *, machine: int = _X86, section: str = ".text", flags: int = 6, name: str = "main",
    symbol: str = "other", word: int = 0, addend: int = 0,
) -> bytes:  # fmt: skip
    """An object file of 16 bytes, a function at their start; at 8 ``word`` refers to a symbol."""
    sections = ["", section, ".rela", ".symtab", ".strtab"]
    strings = b"\0" + b"".join(text.encode() + b"\0" for text in [*sections[1:], name, symbol])

    def at(text: str) -> int:
        return strings.index(b"\0" + text.encode() + b"\0") + 1

    code = struct.pack("<8xI4x", word)
    relocation = struct.pack("<QQq", 8, 2 << 32 | kind, addend)
    symbols = bytes(24) + struct.pack("<IBBHQQ", at(name), 18, 0, 1, 0, 16)
    symbols += struct.pack("<IBBHQQ", at(symbol), 16, 0, 0, 0, 0)
    bodies = [b"", code, relocation, symbols, strings]
    kinds = [(0, 0, 0, 0), (1, flags, 0, 0), (4, 0, 3, 1), (2, 0, 4, 1), (3, 0, 0, 0)]
    data, headers = bytes(64), b""
    for title, body, (type_, flag, linked, info) in zip(sections, bodies, kinds, strict=True):
        headers += struct.pack(
            "<IIQQQQIIQQ", at(title) if title else 0, type_, flag, 0, len(data), len(body), linked,
            info, 1, 0,
        )  # fmt: skip
        data += body
    header = bytearray(data[:64])
    header[0x12:0x14] = struct.pack("<H", machine)
    header[0x28:0x30] = struct.pack("<Q", len(data))
    header[0x3C:0x40] = struct.pack("<HH", len(sections), 4)
    return bytes(header) + data[64:] + headers


@pytest.mark.parametrize(("machine", "kind"), [(_X86, 1), (_ARM, 257)])
def test_addresses_are_linked(machine: int, kind: int) -> None:
    def refer(name: str, symbol: str) -> bytes:
        return _object(kind, machine=machine, name=name, symbol=symbol)

    image = link([refer("main", "deep"), refer("deep", "memset")], "main")
    assert (image.entry, image.own, image.foreign) == (0, [(8, 16)], [(24, "memset")])
    assert link([refer("main", "memset")], "main").foreign == [(8, "memset")]


@pytest.mark.parametrize(
    ("machine", "kind", "word", "addend", "forward", "backward"),
    [
        (_X86, 2, 0, -4, 16 - 4 - 8, 2**32 - 4 - 24),
        (_X86, 4, 0, -4, 16 - 4 - 8, 2**32 - 4 - 24),
        (_ARM, 261, 0, 12, 16 + 12 - 8, 2**32 + 12 - 24),
        (_ARM, 282, 0x14000000, 0, 0x14000002, 0x17FFFFFA),  # b .+8, b .-24
        (_ARM, 283, 0x94000000, 0, 0x94000002, 0x97FFFFFA),  # bl .+8, bl .-24
        (_ARM, 283, 0x94000000, 4, 0x94000003, 0x97FFFFFB),  # bl .+12, bl .-20
    ],
)
def test_distances_are_linked(
    machine: int, kind: int, word: int, addend: int, forward: int, backward: int
) -> None:
    def refer(name: str, symbol: str) -> bytes:
        return _object(kind, machine=machine, name=name, symbol=symbol, word=word, addend=addend)

    image = link([refer("main", "deep"), refer("deep", "main")], "main")
    assert (image.own, image.foreign, image.moves) == ([], [], [])
    assert struct.unpack("<8xI12xI4x", image.code) == (forward, backward)


def test_calls_of_what_is_far_go_through_one_stub() -> None:
    """``bl`` reaches 128 MB; the C library may lie anywhere."""

    def call(symbol: str) -> bytes:
        return _object(283, machine=_ARM, symbol=symbol, word=0x94000000)

    image = link([call("memset"), call("memset"), call("abort")], "main")
    stub = struct.pack("<IIQ", 0x58000050, 0xD61F0200, 0)  # ldr x16, .+8; br x16; address
    assert image.code[48:] == stub + stub
    assert image.foreign == [(56, "memset"), (72, "abort")]
    calls = [struct.unpack_from("<I", image.code, at)[0] & 0x3FFFFFF for at in (8, 24, 40)]
    assert [4 * steps + at for steps, at in zip(calls, (8, 24, 40), strict=True)] == [48, 48, 64]


def test_instructions_that_move_an_address_get_it_where_it_is_mapped() -> None:
    # movz x9, #0; movk x9, #0, lsl #16; lsl #32; lsl #48
    moves = [(264, 0xD2800009), (266, 0xF2A00009), (268, 0xF2C00009), (269, 0xF2E00009)]
    parts = [_object(k, machine=_ARM, symbol="main", word=word, addend=6) for k, word in moves]
    mapped = Mapped(link(parts, "main"))
    start = ctypes.addressof(ctypes.c_char.from_buffer(mapped._memory))
    address = 0
    for number, (_, word) in enumerate(moves):
        (patched,) = struct.unpack_from("<I", mapped._memory, 16 * number + 8)
        assert patched & ~(0xFFFF << 5) == word
        address |= (patched >> 5 & 0xFFFF) << 16 * number
    assert address == start + 6


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (_object(1, symbol="PyErr_NoSuchThing"), "no function PyErr_NoSuchThing"),
        (_object(9, symbol="memset"), "relocation 9 of memset"),
        (_object(4, symbol="memset"), "relocation 4 of memset"),
        (_object(257, symbol="memset"), "relocation 257 of memset"),
        (_object(1, machine=_ARM, symbol="memset"), "relocation 1 of memset"),
        (_object(283, machine=_ARM, symbol="memset", addend=4), "relocation 283 of memset"),
        (_object(264, machine=_ARM, symbol="memset"), "relocation 264 of memset"),
        (_object(283, machine=_ARM, symbol="PyErr_NoSuchThing"), "no function PyErr_NoSuchThing"),
        (_object(1, section=".data", flags=3), ".data is written"),
    ],
)
def test_what_is_not_known_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(LinkError, match=said):
        link([data], "main")
    with pytest.raises(LinkError, match="no function start"):
        link([_object(1, symbol="memset")], "start")
