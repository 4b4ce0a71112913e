"""What an ONNX file says about itself, read without the onnx package.

An ONNX file is a protobuf ``ModelProto``. Only its top-level fields are walked here, over a
memory map: the graph, which is nearly all of the file, is skipped by its length. So a card is read
from a file of any size in microseconds, and the runtime needs no onnx.

Field numbers are those of onnx.proto: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from segedge.card.card import ModelCard
from segedge.card.labels import sets_of
from segedge.errors import CardError, ModelError
from segedge.machine.files import refused

_IR_VERSION, _PRODUCER_NAME, _PRODUCER_VERSION, _GRAPH, _OPSET_IMPORT, _METADATA = 1, 2, 3, 7, 8, 14
_FUNCTIONS = 25
_LAST_KNOWN_FIELD = 64
"""ModelProto uses 1 to 26 today; a larger number at the top means that it is no ONNX file."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIX = "copy or export the file again"

_INPUT, _OUTPUT = 11, 12
"""Of a GraphProto."""

Shape = tuple[int | None, ...]
Buffer = mmap.mmap | bytes | memoryview


@dataclass(frozen=True)
class ModelFacts:
    """The cheap facts of an ONNX file: everything but its graph."""

    path: Path
    """The file."""
    size_bytes: int
    """Size of the file."""
    ir_version: int
    """Version of the ONNX format."""
    producer: str
    """Name and version of the program that wrote it, e.g. ``pytorch 2.13.0``."""
    opsets: dict[str, int]
    """Operator set version of each domain; the default domain is ``ai.onnx``."""
    metadata: dict[str, str]
    """All key-value pairs of ``metadata_props``."""
    graph_bytes: int
    """Size of the graph with the weights inside it."""

    @property
    def opset(self) -> int:
        """Version of the default operator set; 0 where the file names none."""
        return self.opsets.get("ai.onnx", 0)

    @property
    def external_data(self) -> Path | None:
        """See `weights_beside`."""
        return weights_beside(self.path)


def weights_beside(model: Path) -> Path | None:
    """The weights file beside a model that exporters write, where there is one.

    Judged by its usual names (PyTorch's, Optimum's); the graph is not read for it.
    """
    names = (f"{model.name}.data", f"{model.name}_data")
    found = (model.with_name(name) for name in names)
    return next((path for path in found if path.is_file()), None)


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes, in pieces: models may be larger than memory allows."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_metadata(path: str | Path) -> dict[str, str]:
    """The key-value pairs that an ONNX file carries."""
    return read_facts(path).metadata


def read_card(path: str | Path) -> ModelCard | None:
    """The card that an ONNX file carries, or None."""
    return ModelCard.from_metadata(read_metadata(path))


def require_card(path: Path) -> ModelCard:
    """The card that an ONNX file carries; CardError where it carries none."""
    card = read_card(path)
    if card is None:
        raise no_card_error(path)
    return card


def no_card_error(path: Path, *, fix: str | None = None) -> CardError:
    """The refusal of a model of which nobody knows how it is to be run."""
    return CardError(
        f"{path.name} carries no card: its classes and preprocessing are unknown",
        fix=fix or card_command(path),
    )


def card_command(path: Path) -> str:
    """What gives an ONNX file a card, with classes that fit its outputs."""
    channels = None
    with suppress(ModelError):
        channels = output_channels(path)
    fitting = sets_of(channels) if channels else []
    lines = f"{channels} lines, a class each" if channels else "a class a line"
    classes, told = (fitting[0], "") if fitting else ("names.txt", f"   (names.txt: {lines})")
    if len(fitting) > 1:
        told = f"   (or {', '.join(fitting[1:])})"
    return f"segedge export {path} --classes {classes} -o {path.stem}-card.onnx{told}"


def output_channels(path: str | Path) -> int | None:
    """How many classes an ONNX file's maps have by their shapes; None where that is not clear.

    One channel is not: it may hold labels. Nor are maps beside lists of queries: they are masks.
    """
    inputs: list[Shape] = []
    outputs: list[Shape] = []
    file = Path(path)
    with _mapped(file) as data:
        for start, end in _inside(file.name, data, [(0, len(data))], _GRAPH):
            for number, wire, _, first, last in _fields(file.name, data, start, end):
                if number in (_INPUT, _OUTPUT) and wire == _BYTES:
                    shapes = inputs if number == _INPUT else outputs
                    shapes.append(_shape(file.name, data, first, last))
    is_last = any(len(shape) == 4 and shape[1] not in (1, 3, None) for shape in inputs)
    counts = {shape[3 if is_last else 1] for shape in outputs if len(shape) == 4}
    count = counts.pop() if len(counts) == 1 else None
    is_clear = count is not None and count > 1 and all(len(shape) != 3 for shape in outputs)
    return count if is_clear else None


def read_facts(path: str | Path) -> ModelFacts:
    """Everything an ONNX file says outside its graph."""
    file = Path(path)
    with _mapped(file) as data:
        return _walk(file, data, len(data))


@contextmanager
def _mapped(file: Path) -> Iterator[mmap.mmap]:
    """An existing file's bytes, none of which is read before it is looked at."""
    _size_of(file)
    with (
        refused(f"{file.name} cannot be read", ModelError),
        file.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        yield data


def graph_sha256(model: Path | bytes) -> str:
    """Hex digest of the graph with its weights, those beside the file too; not of the metadata."""
    if isinstance(model, bytes):
        return _graph_digest("the model", model, None)
    facts = read_facts(model)
    with (
        model.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        memoryview(data) as view,
    ):
        return _graph_digest(model.name, view, facts.external_data)


def _graph_digest(name: str, data: Buffer, beside: Path | None) -> str:
    digest = hashlib.sha256()
    for number, wire, _, start, end in _fields(name, data, 0, len(data)):
        if number in (_GRAPH, _FUNCTIONS) and wire == _BYTES:
            digest.update(memoryview(data)[start:end])
    if beside is not None:
        digest.update(bytes.fromhex(file_sha256(beside)))
    return digest.hexdigest()


def with_metadata(data: bytes, entries: Mapping[str, str]) -> bytes:
    """An ONNX file's bytes with some metadata set: all else stays as it is, to the byte."""
    kept, before = [], 0
    for number, wire, _, start, end in _fields("the model", data, 0, len(data)):
        is_entry = number == _METADATA and wire == _BYTES
        if not is_entry or _entry("the model", data, start, end)[0] not in entries:
            kept.append(data[before:end])
        before = end
    return b"".join([*kept, *(_field(_METADATA, _pair(*entry)) for entry in entries.items())])


def _pair(key: str, value: str) -> bytes:
    """A StringStringEntryProto."""
    return _field(1, key.encode()) + _field(2, value.encode())


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes in a message."""
    head = bytearray([number << 3 | _BYTES])
    length = len(content)
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes(head) + bytes([length]) + content


def _size_of(file: Path) -> int:
    """Size of an existing, non-empty regular file, else the ModelError that says what it is."""
    if file.is_dir():
        raise ModelError(
            f"{file} is a folder, not an ONNX file", fix="name the .onnx file inside it"
        )
    if not file.exists():
        raise ModelError(f"{file} does not exist", fix="check the path, or make it: segedge export")
    size = file.stat().st_size
    if size == 0:
        raise ModelError(f"{file.name} is empty", facts={"found": "0 bytes"}, fix=_FIX)
    return size


def _walk(file: Path, data: Buffer, size: int) -> ModelFacts:
    """Collect the top-level fields of a ModelProto."""
    texts: dict[int, str] = {}
    opsets: dict[str, int] = {}
    metadata: dict[str, str] = {}
    ir_version = graph_bytes = 0
    if any(bytes(data[:32]).startswith(magic) for magic in _MAGIC):
        raise _not_onnx(file.name, data, "")
    for number, wire, value, start, end in _fields(file.name, data, 0, size):
        if number == _IR_VERSION and wire == _VARINT:
            ir_version = value
        elif number in (_PRODUCER_NAME, _PRODUCER_VERSION) and wire == _BYTES:
            texts[number] = _text(data, start, end)
        elif number == _GRAPH and wire == _BYTES:
            graph_bytes += end - start
        elif number == _OPSET_IMPORT and wire == _BYTES:
            domain, version = _opset(file.name, data, start, end)
            opsets[domain] = version
        elif number == _METADATA and wire == _BYTES:
            key, text = _entry(file.name, data, start, end)
            metadata[key] = text
    if not graph_bytes or not ir_version:
        raise _not_onnx(file.name, data, "it names no graph or no format version")
    producer = " ".join(texts[n] for n in (_PRODUCER_NAME, _PRODUCER_VERSION) if texts.get(n))
    return ModelFacts(file, size, ir_version, producer, opsets, metadata, graph_bytes)


def _opset(name: str, data: Buffer, start: int, end: int) -> tuple[str, int]:
    """One OperatorSetIdProto: domain = 1, version = 2."""
    domain, version = "", 0
    for number, wire, value, first, last in _fields(name, data, start, end):
        if number == 1 and wire == _BYTES:
            domain = _text(data, first, last)
        elif number == 2 and wire == _VARINT:
            version = value
    return domain or "ai.onnx", version


def _entry(name: str, data: Buffer, start: int, end: int) -> tuple[str, str]:
    """One StringStringEntryProto: key = 1, value = 2."""
    parts = {1: "", 2: ""}
    for number, wire, _, first, last in _fields(name, data, start, end):
        if number in parts and wire == _BYTES:
            parts[number] = _text(data, first, last)
    return parts[1], parts[2]


def _shape(name: str, data: Buffer, start: int, end: int) -> Shape:
    """Of one ValueInfoProto: type = 2, tensor_type = 1, shape = 2, dim = 1, dim_value = 1."""
    spans = [(start, end)]
    for number in (2, 1, 2, 1):
        spans = _inside(name, data, spans, number)
    return tuple(
        next(
            (value for n, wire, value, *_ in _fields(name, data, *span) if (n, wire) == (1, 0)),
            None,
        )
        for span in spans
    )


def _inside(
    name: str, data: Buffer, spans: list[tuple[int, int]], wanted: int
) -> list[tuple[int, int]]:
    """Where the messages of this field lie in those messages."""
    return [
        (first, last)
        for span in spans
        for number, wire, _, first, last in _fields(name, data, *span)
        if number == wanted and wire == _BYTES
    ]


def _fields(
    name: str, data: Buffer, position: int, end: int
) -> Iterator[tuple[int, int, int, int, int]]:
    """(number, wire type, varint value, first byte, end) of each field of one message."""
    while position < end:
        tag, position = _varint(name, data, position, end)
        number, wire = tag >> 3, tag & 7
        if not 1 <= number <= _LAST_KNOWN_FIELD:
            raise _not_onnx(name, data, f"field {number} at byte {position}")
        if wire == _VARINT:
            value, position = _varint(name, data, position, end)
            yield number, wire, value, position, position
            continue
        if wire == _BYTES:
            length, position = _varint(name, data, position, end)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise _not_onnx(name, data, f"wire type {wire} at byte {position}")
        if position + length > end:
            raise _truncated(name, end, position + length, number)
        yield number, wire, 0, position, position + length
        position += length


def _varint(name: str, data: Buffer, position: int, end: int) -> tuple[int, int]:
    """A base-128 number and the position after it."""
    value = shift = 0
    while True:
        if position >= end:
            raise _truncated(name, end, position + 1, None)
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise _not_onnx(name, data, f"a number of over 64 bits at byte {position}")


def _text(data: Buffer, start: int, end: int) -> str:
    return bytes(data[start:end]).decode("utf-8", errors="replace")


def _truncated(name: str, end: int, needed: int, field: int | None) -> ModelError:
    what = "the graph" if field == _GRAPH else f"field {field}" if field else "a number"
    return ModelError(
        f"{name} is truncated",
        facts={"found": f"it ends at byte {end}", "expected": f"{what} to end at byte {needed}"},
        fix=_FIX,
    )


def _not_onnx(name: str, data: Buffer, found: str) -> ModelError:
    head = bytes(data[:32])
    kind = next((text for magic, text in _MAGIC.items() if head.startswith(magic)), None)
    return ModelError(
        f"{name} is no ONNX file",
        facts={"found": kind or f"{found}; its first bytes are {head[:8].hex(' ')}"},
        fix="segedge export makes one from a PyTorch network",
    )


_MAGIC = {
    b"PK\x03\x04": "a zip archive: a PyTorch checkpoint or .pt2 program",
    b"\x80\x02": "a pickle: an old PyTorch checkpoint",
    b"\x80\x04": "a pickle",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"ftrt": "a TensorRT engine",
    b"<": "HTML or XML text: a download that failed?",
    b"version https://git-lfs": "a Git LFS pointer: run git lfs pull",
    b"{": "JSON text",
}
"""First bytes of what people hand in instead of an ONNX file."""
