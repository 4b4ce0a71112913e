"""The one file: card into the metadata, checked, and written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from segedge.card.card import ModelCard
from segedge.card.dialects import foreign_metadata
from segedge.errors import ExportError, UsageError, first_line
from segedge.graph.kit import Model, to_bytes
from segedge.machine.files import prepare_folder
from segedge.machine.optional import require
from segedge.version import __version__

_KEPT = ("author", "license", "docs", "description", "version")
"""What an adopted file's metadata may say besides: authorship and rights."""


def attach_card(model: Model, card: ModelCard) -> None:
    """Put the card, in our own words and in two dialects, into the model's metadata."""
    kept = {key: model.metadata_props[key] for key in _KEPT if key in model.metadata_props}
    model.metadata_props.clear()
    model.metadata_props.update({**kept, **foreign_metadata(card), **card.to_metadata()})
    model.producer_name, model.producer_version = "segedge", __version__
    model.doc_string = None


def checked_bytes(model: Model) -> bytes:
    """The model as the bytes of one file, checked by onnx with its shapes.

    ExportError: it is over 2 GB, or onnx finds it invalid.
    """
    onnx = require("onnx", purpose="check the exported file")
    try:
        data = to_bytes(model)
    except ValueError as error:
        raise ExportError(
            "the network is over the 2 GB that one ONNX file can hold",
            facts={"says": str(error)[:120]},
        ) from error
    try:
        onnx.checker.check_model(data, full_check=True)
    except Exception as error:  # the checker and shape inference raise classes of their own
        raise ExportError(
            "the exported graph is not valid ONNX: a bug in the exporter or in segedge",
            facts={"says": first_line(error)},
            fix="try another --opset or --keep-tail, and report it",
        ) from error
    return data


def check_output(path: Path, *, source: Path | None) -> None:
    """Refuse a path that cannot become the output, before any work is done."""
    if path.is_dir():  # first: "." has no name that could end otherwise
        raise UsageError(f"{path} is a folder", fix=f"-o {path / 'model.onnx'}")
    if path.suffix.lower() != ".onnx":
        raise UsageError(f"{path} is no .onnx file", fix=f"-o {path.with_suffix('.onnx')}")
    if source is not None and path.exists() and path.samefile(source):
        raise UsageError(f"{path.name} is the source itself", fix="write to another file: -o OTHER")
    prepare_folder(path.parent, purpose=path)
