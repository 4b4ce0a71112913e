"""segedge: trained PyTorch segmentation networks to real-time video on the edge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segedge.backends.fake import FakeBackend
    from segedge.card import ModelCard
    from segedge.cleaning import Cleaning
    from segedge.convert.export import export
    from segedge.convert.options import ExportOptions, ExportReport
    from segedge.effect import Effect
    from segedge.errors import SegedgeError
    from segedge.frame import Frame
    from segedge.pictures import contact_sheet
    from segedge.pipeline.runner import Pipeline
    from segedge.pipeline.stream import stream
    from segedge.result import OverlayStyle, Result
    from segedge.segmenter import Segmenter, load
    from segedge.sliding import Slide
    from segedge.smoothing import Smoothing
    from segedge.video.callable_sink import CallableSink
    from segedge.video.memory import MemorySink, MemorySource
    from segedge.video.open import open_source
    from segedge.video.output import open_sink

__version__ = "0.1.0"
__all__ = [
    "CallableSink",
    "Cleaning",
    "Effect",
    "ExportOptions",
    "ExportReport",
    "FakeBackend",
    "Frame",
    "MemorySink",
    "MemorySource",
    "ModelCard",
    "OverlayStyle",
    "Pipeline",
    "Result",
    "SegedgeError",
    "Segmenter",
    "Slide",
    "Smoothing",
    "__version__",
    "contact_sheet",
    "export",
    "load",
    "open_sink",
    "open_source",
    "stream",
]

_HOME = {
    "CallableSink": "segedge.video.callable_sink",
    "Cleaning": "segedge.cleaning",
    "Effect": "segedge.effect",
    "contact_sheet": "segedge.pictures",
    "ExportOptions": "segedge.convert.options",
    "ExportReport": "segedge.convert.options",
    "export": "segedge.convert.export",
    "FakeBackend": "segedge.backends.fake",
    "MemorySink": "segedge.video.memory",
    "MemorySource": "segedge.video.memory",
    "Pipeline": "segedge.pipeline.runner",
    "open_sink": "segedge.video.output",
    "open_source": "segedge.video.open",
    "stream": "segedge.pipeline.stream",
    "OverlayStyle": "segedge.result",
    "Frame": "segedge.frame",
    "ModelCard": "segedge.card",
    "Result": "segedge.result",
    "SegedgeError": "segedge.errors",
    "Segmenter": "segedge.segmenter",
    "Slide": "segedge.sliding",
    "Smoothing": "segedge.smoothing",
    "load": "segedge.segmenter",
}


def __getattr__(name: str) -> Any:
    """Import public names on first use: `import segedge` and `--help` stay fast."""
    if name not in _HOME:
        raise AttributeError(f"module 'segedge' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
