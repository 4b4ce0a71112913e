"""Machine code that is mapped and called without Numba computes what Numba computes."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segedge.cpu.kernels import frame
from segedge.cpu.kernels.compiled import Kernel, njit
from segedge.cpu.kernels.image import IS_KNOWN, Image, LinkError, Mapped, link
from segedge.cpu.small_frame import run_small_frame

pytestmark = pytest.mark.skipif(not IS_KNOWN, reason="machine code of this machine is not linked")

_FRAME = """
import sys
{blocked}
from segedge.cpu.small_frame import run_small_frame
run_small_frame()
print([name for name in ("numba", "llvmlite", "scipy") if sys.modules.get(name)])
"""


class Inner(NamedTuple):
    values: Any
    shift: int


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
    assert combine(out, outer, single) == values.size
    expected = values.astype(float) * factor + shift + float(single)
    np.testing.assert_array_equal(out[::2, ::3], -expected if negative else expected)
    assert np.count_nonzero(out) == np.count_nonzero(expected)
    assert all(isinstance(one, Mapped) for one in combine._mapped.values())


def test_what_every_frame_needs_is_mapped() -> None:
    run_small_frame()
    for name in ("argmax_grid", "render_cells", "resample"):
        kernel = getattr(frame, name)
        assert isinstance(kernel, Kernel)
        assert kernel._mapped
        assert None not in kernel._mapped.values()


def test_kept_kernels_need_no_numba(tmp_path: Path) -> None:
    """A frame runs in a process that could not import it."""

    def run(blocked: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", _FRAME.format(blocked=blocked)],
            env={**os.environ, "SEGEDGE_CACHE_DIR": str(tmp_path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "numba" in run("")
    assert run("sys.modules['numba'] = sys.modules['llvmlite'] = None").strip() == "[]"


def test_what_makes_arrays_is_left_to_numba() -> None:
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
    image = Image(b"\x90" * 16, 8, [(0, 8)], [(8, "memset")], "q")
    assert Image.from_bytes(image.to_bytes()) == image


def _object(kind: int, *, section: str = ".text", flags: int = 6, symbol: str = "other") -> bytes:
    """An object file with one section, ``main`` at its start, and one reference to a symbol."""
    names = ["", section, ".rela", ".symtab", ".strtab"]
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in [*names[1:], "main", symbol])

    def at(name: str) -> int:
        return strings.index(b"\0" + name.encode() + b"\0") + 1

    code, relocation = bytes(16), struct.pack("<QQq", 8, 2 << 32 | kind, 0)
    symbols = bytes(24) + struct.pack("<IBBHQQ", at("main"), 18, 0, 1, 0, 16)
    symbols += struct.pack("<IBBHQQ", at(symbol), 16, 0, 0, 0, 0)
    bodies = [b"", code, relocation, symbols, strings]
    kinds = [(0, 0, 0, 0), (1, flags, 0, 0), (4, 0, 3, 1), (2, 0, 4, 1), (3, 0, 0, 0)]
    data, headers = bytes(64), b""
    for name, body, (type_, flag, linked, info) in zip(names, bodies, kinds, strict=True):
        headers += struct.pack(
            "<IIQQQQIIQQ", at(name) if name else 0, type_, flag, 0, len(data), len(body), linked,
            info, 1, 0,
        )  # fmt: skip
        data += body
    header = bytearray(data[:64])
    header[0x28:0x30] = struct.pack("<Q", len(data))
    header[0x3C:0x40] = struct.pack("<HH", len(names), 4)
    return bytes(header) + data[64:] + headers


def test_addresses_are_linked() -> None:
    other = _object(1, symbol="memset").replace(b"main", b"deep")
    image = link([_object(1, symbol="deep"), other], "main")
    assert (image.entry, image.own, image.foreign) == (0, [(8, 16)], [(24, "memset")])
    assert link([_object(1, symbol="memset")], "main").foreign == [(8, "memset")]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (_object(1, symbol="PyErr_NoSuchThing"), "no function PyErr_NoSuchThing"),
        (_object(9, symbol="memset"), "relocation 9 of memset"),
        (_object(1, section=".data", flags=3), ".data is written"),
    ],
)
def test_what_is_not_known_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(LinkError, match=said):
        link([data], "main")
    with pytest.raises(LinkError, match="no function start"):
        link([_object(1, symbol="memset")], "start")
