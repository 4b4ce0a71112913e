"""The house has floors: imports run strictly downwards, and heavy libraries have one door each."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "segedge"

FLOORS: list[list[str]] = [
    ["errors", "optional", "frame", "geometry", "labels", "timing", "gpu", "flavour", "report"],
    ["card", "card_dialects", "modelfile", "effect", "legend", "cleaning", "sliding", "smoothing"],
    [
        "reference",
        "reference_effects",
        "reference_regions",
        "reference_slide",
        "reference_smoothing",
        "cpu",
        "cuda",
        "video",
        "convert",
    ],
    ["analyse"],
    ["backends"],
    [
        "fitting",
        "remote",
        "pictures",
        "result",
        "result_cuda",
        "segmenter",
        "segmenter_slide",
        "segmenter_cuda",
    ],
    ["pipeline", "evaluate", "bench", "live", "serve", "harvest"],
    ["batch", "tune"],
    ["cli"],
]
"""From the ground up. A folder is one room: its files may import each other."""

FLOOR_OF = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}

ALLOWED_SIBLINGS = {
    ("card", "labels"),
    ("card_dialects", "card"),
    ("effect", "card"),
    ("smoothing", "card"),
    ("legend", "effect"),
    ("reference_effects", "reference"),
    ("result", "pictures"),
    ("segmenter", "result"),
    ("segmenter", "fitting"),
    ("segmenter", "segmenter_cuda"),
    ("segmenter", "segmenter_slide"),
    ("segmenter_slide", "fitting"),
    ("reference_slide", "reference"),
    ("result_cuda", "result"),
    ("segmenter_cuda", "result"),
    ("segmenter_cuda", "result_cuda"),
    ("segmenter_cuda", "fitting"),
    ("frame", "timing"),
    ("labels", "errors"),
    ("geometry", "errors"),
    ("optional", "errors"),
    ("flavour", "errors"),
    ("flavour", "optional"),
    ("flavour", "gpu"),
    ("gpu", "errors"),
    ("convert", "reference"),
    ("convert", "cpu"),
    ("evaluate", "bench"),
    ("bench", "pipeline"),
}
"""Siblings that build on each other; everything else on one floor stays apart."""

HEAVY = {
    "torch": {"backends/eager.py", "backends/eager_cuda.py", "convert"},
    "transformers": {"convert"},
    "safetensors": {"convert"},
    "onnx": {"convert"},
    "onnxscript": {"convert"},
    "onnx_ir": {"convert"},
    "onnxruntime": {"backends/onnxruntime.py", "backends/onnxruntime_cuda.py", "convert"},
    "openvino": {"backends/openvino.py"},
    "tensorrt": {"flavour.py"},
    "tensorrt_rtx": {"flavour.py"},
    "tensorrt_rtx_bindings": {"flavour.py"},
    "av": {"video"},
    "numba": {"cpu"},
    "cuda": {"cuda", "backends"},
    "tritonclient": {
        "serve/config.py",
        "backends/remote_link.py",
        "backends/remote_memory.py",
    },
    "google": {"serve/config.py"},
    "pyarrow": {"batch/table.py"},
    "fsspec": {"batch/store.py"},
    "ray": {"batch/on_ray.py"},
    "starlette": {"live"},
    "uvicorn": {"live"},
    "websockets": {"live"},
}
"""Library to the files or folders of segedge that may touch it."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[str]:
    """Dotted names of all imports, those inside functions too, those for type checking not."""
    names: list[str] = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("require"):
            names += [a.value for a in node.args[:1] if isinstance(a, ast.Constant)]
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downwards(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    assert room in FLOOR_OF, f"give {room} a floor in tests/test_layers.py"
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "segedge" or len(parts) < 2 or parts[1] in (room, "__version__"):
            continue
        other = parts[1]
        assert other in FLOOR_OF, f"{path}: unknown room {other}"
        below = FLOOR_OF[other] < FLOOR_OF[room] or (room, other) in ALLOWED_SIBLINGS
        assert below, f"{path} (floor {FLOOR_OF[room]}) imports {name} (floor {FLOOR_OF[other]})"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_libraries_have_one_door(path: Path) -> None:
    relative = path.relative_to(PACKAGE).as_posix()
    for name in imports_of(path):
        doors = HEAVY.get(name.split(".")[0])
        if doors is not None:
            assert any(relative == door or relative.startswith(f"{door}/") for door in doors), (
                f"{relative} imports {name}; allowed in {sorted(doors)}"
            )


def test_pyav_is_loaded_through_its_door() -> None:
    """Which loads OpenCV before it. The child that only writes packets shows nothing."""
    direct = {
        path.name
        for path in modules()
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        and "av" in {name.split(".")[0] for name in _modules_of(node)}
    }
    assert direct == {"ffmpeg.py", "push_child.py"}


def _modules_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]


def test_no_import_cycles_at_module_level() -> None:
    """Every module imports alone, in a fresh interpreter that has none of the others."""
    names = [
        ".".join(("segedge", *p.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        for p in modules()
        if p.name != "__main__.py"
    ]
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    for loaded in [m for m in sys.modules if m.split('.')[0] == 'segedge']:\n"
        "        del sys.modules[loaded]\n"
        "    importlib.import_module(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *names], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_runtime_needs_no_torch_and_no_onnx() -> None:
    """`import segedge` and everything that `segedge run` imports leave the heavy ones alone."""
    code = (
        "import sys, segedge, segedge.segmenter, segedge.cli.run, segedge.cli.inspect\n"
        "import segedge.cli.doctor, segedge.pipeline.runner, segedge.video.open\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'openvino', 'tensorrt', 'transformers'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[]"


def test_help_imports_little() -> None:
    """`segedge --help` starts fast because it imports neither NumPy nor OpenCV nor Numba."""
    code = (
        "import sys\nfrom segedge.cli.main import build_app\n"
        "build_app(['--help'])\n"
        "print(sorted({'numpy', 'cv2', 'numba', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[]"
