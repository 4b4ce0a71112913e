"""Names of what is measured side by side: a backend, its variant, and where its tail is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segedge.backends.registry import BACKENDS, statuses
from segedge.errors import UsageError, unknown_name_error

TAIL = "+tail"
"""Behind a backend's name: upsampling and argmax inside the graph, as without segedge's cut."""
PROGRAMS = ("eager", "torch-compile", "eager-cuda", "torch-compile-cuda")
"""Backends that run a torch program instead of the ONNX file."""
ALL = (
    "tensorrt:fp32", "tensorrt:fp16", "tensorrt:int8", "tensorrt:fp16+tail",
    "onnxruntime-cuda", "onnxruntime-cuda:tensorrt", "torch-compile-cuda", "eager-cuda",
    "openvino", "openvino:f32", "openvino+tail", "onnxruntime", "onnxruntime+tail",
    "torch-compile", "eager",
)  # fmt: skip
"""What ``--backend all`` means: everything that one would want to see beside each other."""


@dataclass(frozen=True)
class Contender:
    """One that is measured: ``tensorrt:fp16+tail`` as asked, ``tensorrt:fp16`` as loaded.

    Its tail is upsampling and argmax, put into its graph.
    """

    name: str
    backend: str
    has_tail: bool

    @classmethod
    def parse(cls, name: str) -> Contender:
        """Read a name."""
        backend = name.removesuffix(TAIL)
        base = backend.partition(":")[0]
        if base not in BACKENDS:
            raise unknown_name_error("backend", base, [*BACKENDS, "all"])
        if backend != name and base in PROGRAMS:
            raise UsageError(
                f"{name}: a torch program is measured as it is", fix=f"--backend {backend}"
            )
        return cls(name, backend, backend != name)

    @property
    def base(self) -> str:
        """The backend without its variant."""
        return self.backend.partition(":")[0]

    @property
    def needs_program(self) -> bool:
        """Whether it runs a torch program instead of the ONNX file."""
        return self.base in PROGRAMS


def choose_backends(
    asked: Sequence[str], *, has_program: bool = False
) -> tuple[list[str], dict[str, str]]:
    """The backends to measure, and why the others are not.

    Without names: all that `auto` may take, and with a program those of PyTorch on a CPU.
    """
    found = {status.name: status for status in statuses()}
    names = list(dict.fromkeys(asked))
    if "all" in names:
        names = [*(name for name in names if name != "all"), *ALL]
    if not names:
        names = [n for n, entry in BACKENDS.items() if entry.auto]
        names += ["torch-compile", "eager"] if has_program else []
    ready, skipped = [], {}
    for name in dict.fromkeys(names):
        contender = Contender.parse(name)
        status = found[contender.base]
        if contender.needs_program and not has_program:
            skipped[name] = (
                "PyTorch runs a torch.export program, not an ONNX file (fix: --program MODEL.pt2)"
            )
        elif status.ready:
            ready.append(name)
        else:
            skipped[name] = status.detail + (f" (fix: {status.fix})" if status.fix else "")
    return ready, skipped
