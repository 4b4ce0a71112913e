"""`njit` whose machine code is kept in segedge's cache folder, one file a kernel and signature.

Numba is imported when something is compiled: a process whose kernels were kept by an earlier one
maps them (`segedge.cpu.kernels.image`) and needs neither Numba nor LLVM. What other functions of
Numba the kernels' files name is wrapped here, so that importing them takes no time either.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from array import array
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from segedge.cpu.kernels.image import IS_KNOWN, Image, LinkError, Mapped
from segedge.cpu.kernels.kept import file_of, keep_code, kept_code
from segedge.cpu.kernels.tables import Table
from segedge.errors import UsageError


class Deferred:
    """What Numba makes of a function, made when something is compiled that names it."""

    def __init__(self, make: Callable[[], Any], name: str = "") -> None:
        """``make`` imports Numba."""
        self._make = make
        self.__name__ = name

    @cached_property
    def made(self) -> Any:
        """What Numba made."""
        return self._make()

    @property
    def _numba_type_(self) -> Any:
        """Numba asks for it where a kernel's code names this."""
        from numba.core.registry import cpu_target

        made = self.made
        cpu_target.typing_context.refresh()  # what was made just now is registered, not yet known
        cpu_target.target_context.refresh()
        return cpu_target.typing_context.resolve_value_type(made)

    def __call__(self, *args: Any) -> Any:
        """As Numba would call it."""
        return self.made(*args)


class Kernel(Deferred):
    """A function whose machine code is kept."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        """A function without a closure, and Numba's options for it."""
        super().__init__(partial(_dispatcher, function, options, cache=True), function.__name__)
        self.__doc__, self.__module__ = function.__doc__, function.__module__
        self._function, self._options = function, options
        self._mapped: dict[tuple[Any, ...], Mapped | None] = {}
        self._lock = threading.Lock()

    def __call__(self, *args: Any) -> Any:
        """Run it; the first call for new types loads or compiles it."""
        kinds: list[Any] = []
        block = array("q", (0,))
        for arg in args:
            if not (IS_KNOWN and _flatten(arg, kinds, block)):
                return self.made(*args)
        key = tuple(kinds)
        mapped = self._mapped.get(key, _UNKNOWN)
        if mapped is _UNKNOWN:
            with self._lock:
                if key not in self._mapped:
                    self._mapped[key] = self._find(key, len(block), args)
                mapped = self._mapped[key]
        if mapped is None:
            return self.made(*args)
        if mapped.call(block.buffer_info()[0]) != 0:
            raise RuntimeError(f"{self.__name__} failed")
        return struct.unpack_from(mapped.result, block)[0] if mapped.result else None

    def _find(self, key: tuple[Any, ...], count: int, args: tuple[Any, ...]) -> Mapped | None:
        """Kept code, or new one; None: it can only be called as Numba calls it."""
        file = file_of(self._function, " ".join(map(_text, key)))
        data = kept_code(file, _is_whole)
        if data is None:
            data = self._compile(count, args)
            keep_code(file, data)
        with suppress(OSError):  # this system lets nobody make code, Numba neither: it will say so
            return Mapped(Image.from_bytes(data)) if data else None
        return None

    def _compile(self, count: int, args: tuple[Any, ...]) -> bytes:
        """Machine code; none where it needs Numba to run: it returns arrays, say."""
        _check_compiles()
        from segedge.cpu.kernels.emit import image_of

        try:
            image: Image = image_of(self._function, self._options, args, count)
        except LinkError:
            return b""
        return image.to_bytes()


def njit(*, cache: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit`; ``cache`` keeps the machine code."""

    def decorate(function: Callable[..., Any]) -> Any:
        if cache:
            return Kernel(function, options)
        return Deferred(partial(_dispatcher, function, options), function.__name__)

    return decorate


def _dispatcher(
    function: Callable[..., Any], options: dict[str, Any], *, cache: bool = False
) -> Any:
    import numba

    _check_compiles()
    dispatcher = numba.njit(**options)(function)
    if cache:
        from segedge.cpu.kernels.pickled import KernelCache

        dispatcher._cache = KernelCache(function)
    return dispatcher


def _check_compiles() -> None:
    """Refuse a Numba that hands functions back as they are: these ask for machine code."""
    from numba import config

    if config.DISABLE_JIT:
        raise UsageError(
            "kernels cannot be compiled: NUMBA_DISABLE_JIT is set",
            fix="unset it; kernels that were compiled before (segedge warm) run in spite of it",
        )


def _make_carray() -> Any:
    from numba import carray

    return carray


carray = Deferred(_make_carray, "carray")
"""`numba.carray`."""


def _is_whole(data: bytes) -> bool:
    """Whether it is an image, or says that there can be none; a cache stops no run."""
    try:
        return not data or bool(Image.from_bytes(data).code)
    except (ValueError, TypeError, struct.error):
        return False


def _flatten(value: Any, kinds: list[Any], words: array[int]) -> bool:
    """Append what an argument is, and its numbers as a kernel's machine code takes them.

    That is Numba's order: of an array its owner (none: it outlives the call), count, bytes an
    element, address, shape and strides; of a tuple that of its parts. False: no kind known here.
    """
    kind = type(value)
    if kind is int:
        kinds.append("i")
        words.append(value)
    elif kind is np.ndarray:
        told = value.flags.num & _TOLD_FLAGS
        kinds.append((value.dtype, value.ndim, told & ~_IN_COLUMNS if told & _IN_ROWS else told))
        words.extend(
            (0, 0, value.size, value.itemsize, _address_of(value), *value.shape, *value.strides)
        )
    elif isinstance(value, Table):
        return _flatten_table(value, kinds, words)
    elif isinstance(value, tuple):
        kinds.append((kind, len(value)))
        return all(_flatten(part, kinds, words) for part in value)
    elif kind is bool:
        kinds.append("b")
        words.append(value)
    elif kind is float:
        kinds.append("f")
        words.frombytes(struct.pack("<d", value))
    elif isinstance(value, np.generic) and value.dtype.kind in "biuf":
        kinds.append(value.dtype.str)
        words.frombytes(value.tobytes().ljust(8, b"\0"))
    else:
        return False
    return True


def _flatten_table(value: Table, kinds: list[Any], words: array[int]) -> bool:
    """`_flatten` for what is handed over again and again: done once."""
    if value.packed is None:
        own: list[Any] = []
        block = array("q")
        if not all(_flatten(part, own, block) for part in cast("tuple[Any, ...]", value)):
            return False
        kind = (type(value), *own)
        if kind not in _names:
            _names[kind] = " ".join(map(_text, ((type(value), len(own)), *own)))
        value.packed = _names[kind], block
    kinds.append(value.packed[0])
    words.extend(value.packed[1])
    return True


def _text(kind: Any) -> str:
    """What a kind is in any process; of a named tuple its fields, too: kernels ask by name."""
    if isinstance(kind, tuple) and isinstance(kind[0], type):
        return f"{kind[0].__name__} {getattr(kind[0], '_fields', kind[1])}"
    return str(kind)


def _quick_address(array: NDArray[Any]) -> int:
    """Where an array's data begin: the first field of NumPy's object, behind Python's own."""
    return _word_at(id(array) + object.__basicsize__).value


def _plain_address(array: NDArray[Any]) -> int:
    return int(array.ctypes.data)  # half of what a call costs, eight times as long


_word_at = ctypes.c_size_t.from_address
_SAMPLE = np.zeros(1)
_address_of = (
    _quick_address if _quick_address(_SAMPLE) == _plain_address(_SAMPLE) else _plain_address
)
_UNKNOWN: Any = object()
_names: dict[tuple[Any, ...], str] = {}
"""What tables are, by type and parts: one text is quicker to look up than what it says."""
_IN_ROWS, _IN_COLUMNS = 0x1, 0x2
_TOLD_FLAGS = _IN_ROWS | _IN_COLUMNS | 0x100 | 0x400
"""Of an array: contiguous in rows, in columns (of both, rows are what Numba goes by), aligned,
writable."""
