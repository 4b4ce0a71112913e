"""Machine code as bytes that are mapped and called: no compiler, no linker, no library.

What LLVM makes for a process on x86-64 asks for little: all that it refers to is an address of
eight bytes, in itself or of a function of the C library. Objects are put one behind the other once,
when they are kept; a later process maps the bytes, writes the addresses and calls.

Format of object files: System V ABI, ELF-64, with the supplement for AMD64.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import platform
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

IS_KNOWN = sys.platform == "linux" and platform.machine() == "x86_64"
"""Whether machine code of this machine can be linked here; elsewhere Numba keeps it in its way."""
_HEADER = struct.Struct("<I")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_SYMBOLS, _RELOCATIONS, _ZEROS = 2, 4, 8
_WRITABLE, _LOADED = 0x1, 0x2
_UNDEFINED, _ABSOLUTE, _COMMON = 0, 0xFFF1, 0xFFF2
_ADDRESS, _RELATIVE, _CALL = 1, 2, 4
"""R_X86_64_64, R_X86_64_PC32, R_X86_64_PLT32."""
_STANDS_FOR = {"NRT_MemInfo_call_dtor": "abort"}
"""Numba frees an array that nobody refers to any more; arrays of a kernel belong to the caller."""


class LinkError(Exception):
    """Machine code asks for what is not known here."""


@dataclass
class Image:
    """Code and constants, and where the addresses go that are known when they are mapped."""

    code: bytes
    entry: int
    """Offset of the function that is called, of one address: of its arguments, eight bytes each."""
    own: list[tuple[int, int]]
    """Offset of an address, and what it points to: an offset, too."""
    foreign: list[tuple[int, str]]
    """Offset of an address, and the function of the C library."""
    result: str = ""
    """How a result is read from the first argument's place (`struct`); empty: there is none."""

    def to_bytes(self) -> bytes:
        """What `from_bytes` reads."""
        header = json.dumps([self.entry, self.own, self.foreign, self.result]).encode()
        return _HEADER.pack(len(header)) + header + self.code

    @classmethod
    def from_bytes(cls, data: bytes) -> Image:
        """The image of a file that is whole."""
        (size,) = _HEADER.unpack_from(data)
        start = _HEADER.size + size
        entry, own, foreign, result = json.loads(data[_HEADER.size : start])
        own, foreign = [(at, to) for at, to in own], [(at, name) for at, name in foreign]
        return cls(data[start:], entry, own, foreign, result)


class Mapped:
    """An image in memory, ready to be called by several threads at once."""

    def __init__(self, image: Image) -> None:
        """Map it; OSError where the system lets no process make code."""
        self._memory = mmap.mmap(
            -1, len(image.code), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
            prot=mmap.PROT_READ | mmap.PROT_WRITE,
        )  # fmt: skip
        self._memory.write(image.code)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for place, target in image.own:
            struct.pack_into("<Q", self._memory, place, start + target)
        for place, name in image.foreign:
            struct.pack_into("<Q", self._memory, place, _address(name))
        protect = _library("").mprotect
        protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        if protect(start, len(image.code), mmap.PROT_READ | mmap.PROT_EXEC) != 0:
            raise OSError("memory cannot be made executable")
        self.result = image.result
        self.call = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(start + image.entry)
        """Takes the arguments' address; other threads run meanwhile. 0: all is well."""


def link(objects: Sequence[bytes], entry: str, *, result: str = "") -> Image:
    """One image of object files that refer to each other, called at a function of theirs.

    Raises:
        LinkError: They ask for more than their own addresses and functions of the C library.
    """
    linker = _Linker()
    parts = [_Object(data) for data in objects]
    for part in parts:
        linker.place(part)
    for part in parts:
        linker.connect(part)
    if entry not in linker.symbols:
        raise LinkError(f"no function {entry}")
    return Image(bytes(linker.code), linker.symbols[entry], linker.own, linker.foreign, result)


@dataclass(frozen=True)
class _Section:
    name: str
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int


@dataclass(frozen=True)
class _Symbol:
    name: str
    section: int
    value: int
    size: int


class _Object:
    """The sections and symbols of an object file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.places: dict[int, int] = {}
        """Number of a loaded section to its offset in the image."""
        (start,) = struct.unpack_from("<Q", data, 0x28)
        count, names = struct.unpack_from("<HH", data, 0x3C)
        raw = [_SECTION.unpack_from(data, start + i * _SECTION.size) for i in range(count)]
        self.sections = [
            _Section(self._text(raw[names][4] + s[0]), s[1], s[2], s[4], s[5], s[6], s[7], s[8])
            for s in raw
        ]
        tables = [section for section in self.sections if section.kind == _SYMBOLS]
        self.symbols = [symbol for table in tables for symbol in self._symbols(table)]

    def relocations(self) -> list[tuple[int, int, _Symbol, int]]:
        """Offset in the image, kind, symbol and addend of what loaded sections refer to."""
        found = []
        for section in self.sections:
            if section.kind != _RELOCATIONS or section.info not in self.places:
                continue
            for at in range(section.offset, section.offset + section.size, _RELOCATION.size):
                offset, info, addend = _RELOCATION.unpack_from(self.data, at)
                place = self.places[section.info] + offset
                found.append((place, info & 0xFFFFFFFF, self.symbols[info >> 32], addend))
        return found

    def _symbols(self, table: _Section) -> list[_Symbol]:
        strings = self.sections[table.link].offset
        found = []
        for at in range(table.offset, table.offset + table.size, _SYMBOL.size):
            name, _, _, section, value, size = _SYMBOL.unpack_from(self.data, at)
            found.append(_Symbol(self._text(strings + name), section, value, size))
        return found

    def _text(self, offset: int) -> str:
        return self.data[offset : self.data.index(b"\0", offset)].decode()


@dataclass
class _Linker:
    code: bytearray = field(default_factory=bytearray)
    symbols: dict[str, int] = field(default_factory=dict)
    """Name to offset; of functions that several objects have, the first one's."""
    own: list[tuple[int, int]] = field(default_factory=list)
    foreign: list[tuple[int, str]] = field(default_factory=list)

    def place(self, part: _Object) -> None:
        for number, section in enumerate(part.sections):
            # Unwinding tables are for exceptions of C++, which kernels do not have.
            if not section.flags & _LOADED or section.size == 0 or "eh_frame" in section.name:
                continue
            if section.flags & _WRITABLE and ".data.rel.ro" not in section.name:
                raise LinkError(f"{section.name} is written")
            end = section.offset + section.size
            zeros = section.kind == _ZEROS
            part.places[number] = self._append(
                bytes(section.size) if zeros else part.data[section.offset : end], section.align
            )
        for symbol in part.symbols:
            if not symbol.name or symbol.name in self.symbols:
                continue
            if symbol.section == _COMMON:  # of Numba's environments, which nobody reads here
                self.symbols[symbol.name] = self._append(bytes(symbol.size), 8)
            elif symbol.section in part.places:
                self.symbols[symbol.name] = part.places[symbol.section] + symbol.value

    def connect(self, part: _Object) -> None:
        for place, kind, symbol, addend in part.relocations():
            if symbol.name:
                target = self.symbols.get(symbol.name)
            else:
                target = part.places[symbol.section] + symbol.value
            if kind == _ADDRESS and target is not None:
                self.own.append((place, target + addend))
            elif kind == _ADDRESS and addend == 0:
                name = _STANDS_FOR.get(symbol.name, symbol.name)
                _address(name)
                self.foreign.append((place, name))
            elif kind in (_RELATIVE, _CALL) and target is not None:
                struct.pack_into("<i", self.code, place, target + addend - place)
            else:
                raise LinkError(f"relocation {kind} of {symbol.name}")

    def _append(self, data: bytes, align: int) -> int:
        self.code += bytes(-len(self.code) % max(align, 1))
        self.code += data
        return len(self.code) - len(data)


@cache
def _library(name: str) -> ctypes.CDLL:
    return ctypes.CDLL(name or None)


@cache
def _address(name: str) -> int:
    """Where a function of the C library is; LinkError: there is none of this name."""
    for library in ("", "libm.so.6"):
        try:
            function = getattr(_library(library), name)
        except (AttributeError, OSError):
            continue
        return ctypes.cast(function, ctypes.c_void_p).value or 0
    raise LinkError(f"no function {name}")
