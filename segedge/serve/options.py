"""TritonOptions: everything that a user may say about how a model is served."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from segedge.errors import UsageError

InstanceKind = Literal["auto", "cpu", "gpu"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class TritonOptions:
    """How a model is served; the defaults suit one server with few cameras."""

    name: str = ""
    """Name of the model on the server; empty: the file's own, without its ending."""
    version: int = 1
    """Version number, the name of the folder that holds the file."""
    max_batch: int = 8
    """Most frames that run through the network at once, where it has a batch axis."""
    delay_us: int = 2000
    """Longest time in microseconds that a frame waits for others to share a batch with."""
    instances: int = 1
    """Copies of the network that run at once, on each GPU that is named."""
    kind: InstanceKind = "auto"
    """Where they run; ``auto``: a GPU where the server has one."""
    gpus: tuple[int, ...] = ()
    """Numbers of the GPUs; empty: all that the server sees."""
    frames: bool = True
    """Whether an ensemble that takes frames and gives labels is written, too."""
    overlay: bool = False
    """Whether that ensemble offers overlays."""
    step_instances: int = 2
    """Processes of each of the ensemble's own steps, which run on the server's CPU."""
    python_env: str = ""
    """Python that runs those steps, as the server finds it: a conda-pack archive or a folder;
    empty: the server's own."""
    warm_up: bool = True
    """Whether the server runs each model once before it says that it is ready."""
    force: bool = False
    """Whether a version that is there already is replaced."""

    def __post_init__(self) -> None:
        if self.name and not _NAME.fullmatch(self.name):
            raise UsageError(
                f"{self.name!r} is no name for a model on a server",
                facts={"expected": "letters, digits, _ . -, a letter or digit first"},
                fix="--name street",
            )
        least = {"version": 1, "max_batch": 1, "delay_us": 0, "instances": 1, "step_instances": 1}
        for field, smallest in least.items():
            value = getattr(self, field)
            if value < smallest:
                raise UsageError(
                    f"{field.replace('_', ' ')} must be at least {smallest}, found {value}"
                )
        if self.gpus and self.kind == "cpu":
            raise UsageError("--gpus names GPUs, and --kind cpu uses none", fix="--kind gpu")
        if any(gpu < 0 for gpu in self.gpus):
            raise UsageError("GPUs are counted from 0", facts={"found": str(self.gpus)})
        if self.overlay and not self.frames:
            raise UsageError(
                "overlays are made by the model that takes frames", fix="leave out --no-frames"
            )


def served_name(stem: str) -> str:
    """A file's name without its ending, as a server takes it: other characters become ``_``."""
    text = re.sub(r"[^A-Za-z0-9_.-]", "_", stem).lstrip("_.-")
    return text or "model"
