"""Which code a frame's stages run now: compiled kernels, or their twins in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

Code = Callable[[], ModuleType]
"""Asked at every frame; both answers have the same functions and give the same bits."""


def kernels() -> ModuleType:
    """The kernels, which are loaded or compiled with their first call."""
    from segedge.cpu.kernels import frame

    return frame


def plain() -> ModuleType:
    """NumPy alone: for a few frames, which are done before Numba is loaded."""
    from segedge.cpu import plain

    return plain


def is_plain(code: ModuleType) -> bool:
    """Whether it is NumPy's, which is not imported for the question."""
    return code.__name__ == f"{__package__}.plain"
