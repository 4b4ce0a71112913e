"""Networks that torch saved whole: ``torch.export`` programs and TorchScript, read with care.

torch's own loader of ``.pt2`` falls back to unpickling, which executes what the file says. Here
every tensor is loaded weights-only, and archives that carry pickled objects or symbolic
expressions beyond arithmetic are refused before torch sees them.
"""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segedge.card.geometry import Size
from segedge.convert.torch_export import weights_only_loading
from segedge.errors import ExportError, first_line
from segedge.machine.optional import require

_PICKLED = ("custom_obj", "opaque_obj")
"""File names of constants that torch would unpickle."""
_ARITHMETIC = re.compile(r"^[\w\s+\-*/%().,<>=&|~!]*$")
"""What a symbolic size may look like; torch hands these texts to sympy, which evaluates them."""


def load_program(path: Path) -> tuple[Any, Size | None]:
    """The module of a ``.pt2`` file, and its input size where it is fixed."""
    _refuse_code(path)
    torch = require("torch", purpose="load a .pt2 program")
    try:
        with weights_only_loading(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(str(path))
            module = program.module()
    except Exception as error:  # zip, JSON, schema and tensor errors of many classes
        raise ExportError(
            f"{path.name} cannot be loaded as a torch.export program",
            facts={"says": f"{type(error).__name__}: {first_line(error)}"},
            fix=f"save it again with torch {torch.__version__}: torch.export.save(program, path)",
        ) from error
    return module, _program_size(program, path.name)


def load_torchscript(path: Path) -> Any:
    """The module of a TorchScript file, on the CPU, in evaluation mode."""
    torch = require("torch", purpose="load a TorchScript file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.jit.load(str(path), map_location="cpu").float().eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise ExportError(
            f"{path.name} cannot be loaded as TorchScript",
            facts={"says": first_line(error)},
            fix="copy or save it again",
        ) from error


def _refuse_code(path: Path) -> None:
    """Raise where the archive holds what torch would execute while it loads."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if Path(name).name.startswith(_PICKLED):
                    raise _would_run_code(path, f"pickled object {name}")
                if name.endswith(".json"):
                    expression = next(_expressions(json.loads(archive.read(name))), None)
                    if expression is not None:
                        raise _would_run_code(path, f"expression {expression[:60]!r}")
    except (zipfile.BadZipFile, json.JSONDecodeError, UnicodeDecodeError, EOFError) as error:
        raise ExportError(
            f"{path.name} is damaged",
            facts={"says": str(error)[:160]},
            fix="copy or save it again",
        ) from error


def _expressions(value: Any) -> Iterator[str]:
    """Symbolic texts in a program's JSON that are more than arithmetic."""
    if isinstance(value, dict):
        text = value.get("expr_str")
        if isinstance(text, str) and ("__" in text or not _ARITHMETIC.match(text)):
            yield text
        for item in value.values():
            yield from _expressions(item)
    elif isinstance(value, list):
        for item in value:
            yield from _expressions(item)


def _would_run_code(path: Path, what: str) -> ExportError:
    return ExportError(
        f"loading {path.name} would run code that the file holds",
        facts={"found": what},
        fix="export it again without custom objects, or name its code: file.py:factory",
    )


def _program_size(program: Any, name: str) -> Size | None:
    """Height and width of a program's one image input, or None where they are dynamic."""
    wanted = set(program.graph_signature.user_inputs)
    nodes = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in wanted]
    shapes = [tuple(node.meta["val"].shape) for node in nodes if "val" in node.meta]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ExportError(
            f"{name} must take one image tensor (N, 3, H, W)",
            facts={"found": "; ".join("x".join(map(str, shape)) for shape in shapes) or "none"},
        )
    height, width = shapes[0][2:]
    fixed = isinstance(height, int) and isinstance(width, int)
    return Size(height, width) if fixed else None
