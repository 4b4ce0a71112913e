"""An ONNX file as somebody made it: run as it says, and read as the usual form of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from segedge.card.proof import FilePrecision
from segedge.convert.mask_head import Run
from segedge.convert.passes.usual_input import InputForm
from segedge.convert.passes.usual_output import OutputForm
from segedge.errors import ExportError
from segedge.machine.onnx_session import Session
from segedge.machine.optional import require


@dataclass(frozen=True)
class Original:
    """The outputs of a file that make its head, and what is usual in neither them nor the input."""

    path: Path
    outputs: tuple[str, ...]
    given: InputForm
    form: OutputForm | None

    def run(self, precision: FilePrecision, *, optimise: bool) -> Run:
        """From the usual tensor to the usual outputs; the file is opened when first asked."""
        opened = cache(lambda: open_session(_whole(self.path), precision, optimise=optimise))
        return lambda tensor: [
            self._usual(output) for output in opened().run(self.given.feed(tensor), self.outputs)
        ]

    def _usual(self, output: NDArray[Any]) -> NDArray[Any]:
        if self.given.batch > 1:
            output = output[:1]
        return output if self.form is None else self.form(output)


def open_session(
    model: Path | bytes, precision: FilePrecision, *, optimise: bool = True
) -> Session:
    """A network as its file says: integers, which saturate on some CPUs, are rounded floats here.

    What rounds is sensitive to the last bit of a float, which fused operators compute otherwise.
    """
    rounds = precision == "int8"
    return Session(model, simulate=rounds, optimise=optimise and not rounds, error=ExportError)


def _whole(path: Path) -> Path | bytes:
    """A file as ONNX Runtime takes it: with all its weights, where one message can hold them.

    ONNX Runtime infers shapes before it reads weights from another file, and so refuses a file
    whose Resize scales or Reshape targets lie there.
    """
    try:
        return bytes(require("onnx", purpose="adopt an ONNX file").load(path).SerializeToString())
    except ValueError:  # 2 GB or more: its constants are inside, or ONNX Runtime says so
        return path
