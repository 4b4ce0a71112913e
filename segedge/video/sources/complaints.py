"""What an image decoder says of damage: OpenCV's JPEG library only prints it.

libjpeg decodes a damaged file to the end, writes a line to C's ``stderr`` and returns a picture in
which half may be grey. So while an image is decoded that stream is one of ours. It hands each line
to the thread that decodes; what others write goes on to the real one. Only the C library's pointer
is turned: Python's own ``sys.stderr`` and file descriptor 2 stay as they are.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SIZE = ctypes.c_ssize_t
_WRITE = ctypes.CFUNCTYPE(_SIZE, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_UNBUFFERED = 2


class _Functions(ctypes.Structure):
    """``cookie_io_functions_t`` of fopencookie(3)."""

    _fields_ = [
        ("read", ctypes.c_void_p),
        ("write", _WRITE),
        ("seek", ctypes.c_void_p),
        ("close", ctypes.c_void_p),
    ]


class _Stream:
    """The stream of ours, and who listens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._heard = threading.local()
        self._functions = _Functions(None, _WRITE(self._write), None, None)
        self._standard: Any = None
        self._own = None
        try:
            library = ctypes.CDLL(None)
            library.fopencookie.restype = ctypes.c_void_p
            library.fopencookie.argtypes = [ctypes.c_void_p, ctypes.c_char_p, _Functions]
            standard = ctypes.c_void_p.in_dll(library, "stderr")
            own = library.fopencookie(None, b"w", self._functions)
            library.setvbuf.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, _SIZE]
            library.setvbuf(own, None, _UNBUFFERED, 0)
        except (AttributeError, OSError, ValueError, TypeError):
            return  # not Linux: what the decoder prints is printed
        self._standard, self._own, self._usual = standard, own, standard.value

    def open(self) -> list[str]:
        """Listen in this thread."""
        heard: list[str] = []
        self._heard.lines = heard
        with self._lock:
            if self._inside == 0 and self._own:
                self._usual, self._standard.value = self._standard.value, self._own
            self._inside += 1
        return heard

    def close(self) -> None:
        """End what `open` began."""
        self._heard.lines = None
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._own:
                self._standard.value = self._usual

    def _write(self, _cookie: int, data: int, count: int) -> int:
        text = ctypes.string_at(data, count)
        lines = getattr(self._heard, "lines", None)
        if lines is None:
            os.write(2, text)
        else:
            lines.append(text.decode("utf-8", "replace"))
        return count


_stream = _Stream()


@contextmanager
def complaints() -> Iterator[list[str]]:
    """What C code prints to ``stderr`` in this thread, in a ``with`` statement."""
    heard = _stream.open()
    try:
        yield heard
    finally:
        _stream.close()
