"""`segedge.export`: an export whose last step is a frame through the file as `load` opens it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segedge.card.picture import Picture
from segedge.convert import export as convert
from segedge.convert.options import ExportOptions, ExportReport, Progress
from segedge.errors import ExportError, SegedgeError
from segedge.segment.load import card_of, load


def export(
    source: Any,
    output: str | Path,
    *,
    options: ExportOptions | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Export a network, cut its tail, measure parity, and write one file with its card.

    Args:
        source: ``package.module:factory``, ``file.py:factory``, a ``.pt2`` program, a TorchScript
            file, a Hugging Face folder, an ``.onnx`` file, or a ``torch.nn.Module``.
        output: The ``.onnx`` file to write. It appears only when all checks have passed, the last
            of them a frame through the file itself.
        options: What the source does not say itself.
        progress: Called before each step.

    Returns:
        What was done and measured.

    Raises:
        SegedgeError: As `segedge.convert.export.export`.
    """
    return convert(source, output, options=options, progress=progress, check=run_once)


def run_once(path: Path) -> None:
    """Show one frame to a file as it is opened for use; ExportError where that is refused.

    The frame must be resized to the network's input. The file's own proof is left out: it was made
    a moment ago.
    """
    try:
        wanted = card_of(path).input_size
        frame = Picture(wanted.height // 2 | 1, wanted.width // 2 | 1, 1)
        with load(path, backend="onnxruntime", check=False, kernels="none") as segmenter:
            segmenter(frame.pixels(), outputs=("labels",))
    except SegedgeError as error:
        raise ExportError(
            f"segedge run refuses the file that was made: {error.headline}",
            facts=error.facts,
            fix=error.fix or "report it with the network",
        ) from error
