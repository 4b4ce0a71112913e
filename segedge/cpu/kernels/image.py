"""Machine code as bytes that are mapped and called: no compiler, no linker, no library.

What LLVM makes for its own process asks for little: all that it refers to are addresses, in itself
or of functions of the C library. On x86-64 they are eight bytes each; on AArch64 four instructions
move 16 bits of one each, and calls go to what is near: to a stub, for functions that are not.
Objects are put one behind the other once, when they are kept; a later process maps the bytes,
writes the addresses and calls.

Format of object files: System V ABI, ELF-64, with the supplement for AMD64, and ELF for the Arm
64-bit Architecture.
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

_IS_ARM = platform.machine() == "aarch64"
_HAS_64_BITS = sys.maxsize > 2**32  # a Raspberry Pi may run Python of 32 bits on a kernel of 64
IS_KNOWN = sys.platform == "linux" and _HAS_64_BITS and (_IS_ARM or platform.machine() == "x86_64")
"""Whether machine code of this machine can be linked here; elsewhere Numba keeps it in its way."""
_HEADER = _WORD = struct.Struct("<I")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_SYMBOLS, _RELOCATIONS, _ZEROS = 2, 4, 8
_WRITABLE, _LOADED = 0x1, 0x2
_UNDEFINED, _ABSOLUTE, _COMMON = 0, 0xFFF1, 0xFFF2
_ADDRESS, _DISTANCE, _BRANCH, _MOVE = "address", "distance", "branch", "move"
"""What a relocation writes: eight bytes; four bytes from its place on; a number of instructions
from its place on, into a branch; 16 bits of an address, into an instruction that moves them."""
_RELOCATES = {
    62: {1: (_ADDRESS, 0), 2: (_DISTANCE, 0), 4: (_DISTANCE, 0)},
    183: {
        257: (_ADDRESS, 0), 261: (_DISTANCE, 0), 282: (_BRANCH, 0), 283: (_BRANCH, 0),
        264: (_MOVE, 0), 266: (_MOVE, 16), 268: (_MOVE, 32), 269: (_MOVE, 48),
    },
}  # fmt: skip
"""Machine and kind of a relocation to what it writes, and of a move the bits that it leaves out.

R_X86_64_64, PC32 and PLT32; R_AARCH64_ABS64, PREL32, JUMP26, CALL26, MOVW_UABS_G0_NC to G2_NC, G3.
"""
_BRANCH_BITS, _MOVE_BITS, _MOVE_AT = (1 << 26) - 1, 0xFFFF, 5
_STUB = struct.pack("<IIQ", 0x58000050, 0xD61F0200, 0)
"""AArch64: ``ldr x16, .+8``; ``br x16``; the address. A call may change x16."""


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
    moves: list[tuple[int, int, int]] = field(default_factory=list)
    """AArch64: offset of an instruction that moves 16 bits of an address, the offset that it
    points to, and how many bits lie below those."""
    result: str = ""
    """How a result is read from the first argument's place (`struct`); empty: there is none."""

    def to_bytes(self) -> bytes:
        """What `from_bytes` reads."""
        told = [self.entry, self.own, self.foreign, self.moves, self.result]
        header = json.dumps(told).encode()
        return _HEADER.pack(len(header)) + header + self.code

    @classmethod
    def from_bytes(cls, data: bytes) -> Image:
        """The image of a file that is whole."""
        (size,) = _HEADER.unpack_from(data)
        start = _HEADER.size + size
        entry, own, foreign, moves, result = json.loads(data[_HEADER.size : start])
        own, foreign, moves = ([tuple(one) for one in each] for each in (own, foreign, moves))
        return cls(data[start:], entry, own, foreign, moves, result)


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
        for place, target, below in image.moves:
            (move,) = _WORD.unpack_from(self._memory, place)
            bits = (start + target >> below & _MOVE_BITS) << _MOVE_AT
            _WORD.pack_into(self._memory, place, move & ~(_MOVE_BITS << _MOVE_AT) | bits)
        protect = _library("").mprotect
        protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        if protect(start, len(image.code), mmap.PROT_READ | mmap.PROT_EXEC) != 0:
            raise OSError("memory cannot be made executable")
        if _IS_ARM:
            _fetch_anew(start, start + len(image.code))
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
    return Image(
        bytes(linker.code), linker.symbols[entry], linker.own, linker.foreign, linker.moves, result
    )


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
        (self.machine,) = struct.unpack_from("<H", data, 0x12)
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
    moves: list[tuple[int, int, int]] = field(default_factory=list)
    stubs: dict[str, int] = field(default_factory=dict)
    """Function of the C library to the offset of what jumps there."""

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
        known = _RELOCATES.get(part.machine, {})
        for place, kind, symbol, addend in part.relocations():
            if symbol.name:
                target = self.symbols.get(symbol.name)
            else:
                target = part.places[symbol.section] + symbol.value
            written, below = known.get(kind, ("", 0))
            if target is None and written == _BRANCH and addend == 0:
                target = self._stub(symbol.name)
            if written == _ADDRESS and target is None and addend == 0:
                self._point_to_function(place, symbol.name)
            elif target is None or not written:
                raise LinkError(f"relocation {kind} of {symbol.name}")
            else:
                self._write(written, place, target + addend, below)

    def _write(self, written: str, place: int, target: int, below: int) -> None:
        if written == _ADDRESS:
            self.own.append((place, target))
        elif written == _MOVE:
            self.moves.append((place, target, below))
        elif written == _DISTANCE:
            struct.pack_into("<i", self.code, place, target - place)
        else:
            (branch,) = _WORD.unpack_from(self.code, place)
            steps = (target - place >> 2) & _BRANCH_BITS
            _WORD.pack_into(self.code, place, branch & ~_BRANCH_BITS | steps)

    def _stub(self, name: str) -> int:
        if name not in self.stubs:
            self.stubs[name] = self._append(_STUB, 8)
            self._point_to_function(self.stubs[name] + 8, name)
        return self.stubs[name]

    def _point_to_function(self, place: int, name: str) -> None:
        _address(name)
        self.foreign.append((place, name))

    def _append(self, data: bytes, align: int) -> int:
        self.code += bytes(-len(self.code) % max(align, 1))
        self.code += data
        return len(self.code) - len(data)


def _fetch_anew(start: int, end: int) -> None:
    """See to it that no core runs what it fetched from there before; OSError where nothing can."""
    clear = getattr(_library("libgcc_s.so.1"), "__clear_cache", None)
    if clear is None:
        raise OSError("libgcc has no __clear_cache")
    clear.argtypes, clear.restype = [ctypes.c_void_p, ctypes.c_void_p], None
    clear(start, end)


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
