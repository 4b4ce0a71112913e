"""segedge: trained PyTorch segmentation networks to real-time video on the edge.

Hands on the public names of all rooms, each imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segedge.version import __version__

if TYPE_CHECKING:
    from segedge.adaptation.adapt import adapt
    from segedge.adaptation.options import AdaptOptions, AdaptReport
    from segedge.backends.fake import FakeBackend
    from segedge.card.card import ModelCard
    from segedge.convert.options import ExportOptions, ExportReport
    from segedge.errors import SegedgeError
    from segedge.frames.frame import Frame
    from segedge.options.cleaning import Cleaning
    from segedge.options.effect import Effect
    from segedge.options.frame import FrameOptions
    from segedge.options.motion import Motion
    from segedge.options.sliding import Slide
    from segedge.options.smoothing import Smoothing
    from segedge.options.style import OverlayStyle
    from segedge.pipeline.runner import Pipeline
    from segedge.pipeline.stream import stream
    from segedge.segment.exported import export
    from segedge.segment.load import load
    from segedge.segment.pictures import contact_sheet
    from segedge.segment.result import Result
    from segedge.segment.segmenter import Segmenter
    from segedge.video.memory import MemorySink, MemorySource
    from segedge.video.sinks.callable_sink import CallableSink
    from segedge.video.sinks.open import open_sink
    from segedge.video.sources.open import open_source

__all__ = [
    "AdaptOptions",
    "AdaptReport",
    "CallableSink",
    "Cleaning",
    "Effect",
    "ExportOptions",
    "ExportReport",
    "FakeBackend",
    "Frame",
    "FrameOptions",
    "MemorySink",
    "MemorySource",
    "ModelCard",
    "Motion",
    "OverlayStyle",
    "Pipeline",
    "Result",
    "SegedgeError",
    "Segmenter",
    "Slide",
    "Smoothing",
    "__version__",
    "adapt",
    "contact_sheet",
    "export",
    "load",
    "open_sink",
    "open_source",
    "stream",
]

_HOME = {
    "AdaptOptions": "segedge.adaptation.options",
    "AdaptReport": "segedge.adaptation.options",
    "adapt": "segedge.adaptation.adapt",
    "CallableSink": "segedge.video.sinks.callable_sink",
    "Cleaning": "segedge.options.cleaning",
    "Effect": "segedge.options.effect",
    "contact_sheet": "segedge.segment.pictures",
    "ExportOptions": "segedge.convert.options",
    "ExportReport": "segedge.convert.options",
    "export": "segedge.segment.exported",
    "FakeBackend": "segedge.backends.fake",
    "MemorySink": "segedge.video.memory",
    "MemorySource": "segedge.video.memory",
    "Pipeline": "segedge.pipeline.runner",
    "open_sink": "segedge.video.sinks.open",
    "open_source": "segedge.video.sources.open",
    "stream": "segedge.pipeline.stream",
    "OverlayStyle": "segedge.options.style",
    "Frame": "segedge.frames.frame",
    "FrameOptions": "segedge.options.frame",
    "ModelCard": "segedge.card.card",
    "Motion": "segedge.options.motion",
    "Result": "segedge.segment.result",
    "SegedgeError": "segedge.errors",
    "Segmenter": "segedge.segment.segmenter",
    "Slide": "segedge.options.sliding",
    "Smoothing": "segedge.options.smoothing",
    "load": "segedge.segment.load",
}


def __getattr__(name: str) -> Any:
    """Import public names on first use: `import segedge` and `--help` stay fast."""
    if name not in _HOME:
        raise AttributeError(f"module 'segedge' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
