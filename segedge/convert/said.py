"""What a source says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from segedge.card.card import ModelCard
from segedge.card.dialects import class_names
from segedge.card.huggingface import HuggingFaceFolder
from segedge.convert.passes.inner_scaling import InnerScaling
from segedge.convert.passes.usual_input import InputForm


@dataclass(frozen=True)
class Said:
    """What a source says about itself."""

    card: ModelCard | None = None
    """Our own card, where the file has one."""
    folder: HuggingFaceFolder | None = None
    """What a Hugging Face folder says."""
    metadata: Mapping[str, str] | None = None
    """An ONNX file's metadata."""
    form: InputForm | None = None
    """What an ONNX file's input is."""
    inner: InnerScaling | None = None
    """What its graph does to the image before the first layer."""

    def class_names(self) -> tuple[str, ...] | None:
        """Class names by the source, or None."""
        if self.card is not None:
            return self.card.classes
        if self.folder is not None:
            return self.folder.classes
        return class_names(self.metadata or {})
