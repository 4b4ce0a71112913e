"""Ways to spoil an input: its bytes, or what stands in the places of JSON."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

NASTY: list[Any] = [
    None, True, False, 0, -1, 1, 255, 256, 65536, 10**9, -(10**9), 2**63, 10**30, 10**400, 1e-320,
    1e308,
    float("nan"), float("inf"), -float("inf"), "", "0", "\0", "é" * 300, "../../x", [], [[]], {},
    [0, 0, 0], [1e9] * 3, {"": None},
]  # fmt: skip
"""What stands where something else is meant."""


@st.composite
def spoilt_bytes(draw: st.DrawFn, whole: bytes) -> bytes:
    """Cut, flipped, overwritten, repeated, or grown: a few such steps one after the other."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, min(64, len(data) - start)))
        step = draw(st.sampled_from(["cut", "drop", "flip", "write", "repeat"]))
        if step == "cut":
            del data[start:]
        elif step == "drop":
            del data[start : start + length]
        elif step == "flip" and start < len(data):
            data[start] ^= 1 << draw(st.integers(0, 7))
        elif step == "write":
            data[start : start + length] = draw(st.binary(max_size=16))
        else:
            data[start:start] = data[start : start + length] * draw(st.integers(1, 4))
    return bytes(data)


@st.composite
def spoilt_json(draw: st.DrawFn, whole: Any) -> bytes:
    """One to three places taken out, or filled with what nobody means; now and then no JSON."""
    value = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        if draw(st.integers(0, 4)) == 0:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(draw(st.sampled_from(NASTY)))
    text = json.dumps(value).encode()
    kind = draw(st.sampled_from(["json"] * 8 + ["bytes", "deep"]))
    if kind == "deep":
        return b"[" * 20_000
    return draw(spoilt_bytes(text)) if kind == "bytes" else text


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder and key below a value."""
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])
