"""The house has floors: imports run strictly downwards, and heavy libraries have one door each."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.processes import ended

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "segedge"

FLOORS: list[list[str]] = [
    ["errors", "version", "measure", "measure/report"],
    ["machine"],
    ["card"],
    ["frames", "cuda/runtime", "graph"],
    ["options", "live", "video"],
    ["motion", "drift"],
    ["reference", "video/encode", "video/live", "cpu/kernels"],
    ["cpu", "cuda", "video/push", "video/sources"],
    ["convert", "video/sinks", "measure/datasets"],
    ["precision", "analyse"],
    ["precision/fp16"],
    ["precision/int8", "engine"],
    ["engine/builder"],
    ["backends"],
    ["segment", "remote"],
    ["pipeline", "harvest", "serve"],
    ["batch", "measure/bench", "measure/evaluate"],
    ["measure/optimize", "adaptation"],
    ["cli"],
    ["cli/run", "cli/verbs"],
]
"""From the ground up. A folder is one room, and so is a sub-folder that is named here.

A sub-folder that is not named is a part of the room above it: they may import each other, as long
as no two *files* do (`test_no_circles_between_files`).
"""

FLOOR_OF = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}

HEAVY = {
    "torch": {"backends/eager.py", "backends/eager_cuda.py", "convert"},
    "transformers": {"convert"},
    "safetensors": {"convert"},
    "onnx": {"graph", "convert"},
    "onnxscript": {"convert"},
    "onnx_ir": {"graph"},
    "onnxruntime": {
        "machine/onnx_session.py",
        "backends/onnxruntime.py",
        "backends/onnxruntime_cuda.py",
    },
    "openvino": {"backends/openvino.py"},
    "tensorrt": {"engine/flavour.py"},
    "tensorrt_rtx": {"engine/flavour.py"},
    "tensorrt_rtx_bindings": {"engine/flavour.py"},
    "av": {"video"},
    "numba": {
        "cpu",
        "analyse/scene.py",  # questions about a label map, of nobody else
        "measure/evaluate/confusion.py",
    },
    "cuda": {"cuda", "backends"},
    "tritonclient": {
        "serve/config.py",
        "backends/remote/link.py",
        "backends/remote/memory.py",
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


def module_of(path: Path) -> str:
    parts = ("segedge", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def room_of(path: Path) -> str:
    """The nearest folder at or above a file that has a floor; a file at the root is one itself."""
    inside = path.relative_to(PACKAGE)
    if len(inside.parts) == 1:
        return inside.stem
    folders = [parent.as_posix() for parent in inside.parents]
    return next((folder for folder in folders if folder in FLOOR_OF), folders[0])


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of(path: Path) -> list[str]:
    """Dotted names of all imports: those inside functions, and those for types alone, too."""
    names: list[str] = []
    for node in ast.walk(tree_of(path)):
        names += names_of(node)
        if isinstance(node, ast.Call) and _last_name(node.func).endswith("require"):
            names += [a.value for a in node.args[:1] if isinstance(a, ast.Constant)]
    return names


def names_of(node: ast.AST) -> list[str]:
    """What an import names; nothing of other nodes."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _last_name(function: ast.expr) -> str:
    """What a call names: the last of dotted names."""
    return str(getattr(function, "attr", getattr(function, "id", "")))


def house_imports() -> dict[Path, set[Path]]:
    """Each file of the package, and the files of it that it imports."""
    files = {module_of(path): path for path in modules()}
    found: dict[Path, set[Path]] = {}
    for path in modules():
        targets = (
            files.get(name) or files.get(name.rpartition(".")[0]) for name in imports_of(path)
        )
        found[path] = {target for target in targets if target is not None and target != path}
    return found


IMPORTS = house_imports()
ROOT_FILES = ("__init__", "__main__")
"""They hand on names of all floors, and nothing below imports them."""


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downwards(path: Path) -> None:
    room = room_of(path)
    if room in ROOT_FILES:
        return
    assert room in FLOOR_OF, f"give {room} a floor in tests/test_layers.py"
    for target in IMPORTS[path]:
        other = room_of(target)
        if other == room:
            continue
        assert other in FLOOR_OF, f"{path}: {other} has no floor"
        assert FLOOR_OF[other] < FLOOR_OF[room], (
            f"{path.relative_to(PACKAGE)} ({room}, floor {FLOOR_OF[room]}) imports "
            f"{target.relative_to(PACKAGE)} ({other}, floor {FLOOR_OF[other]})"
        )


def test_no_circles_between_files() -> None:
    """Not by imports inside functions nor by imports for types either."""
    order = TopologicalSorter(
        {path: targets for path, targets in IMPORTS.items() if room_of(path) not in ROOT_FILES}
    )
    try:
        order.prepare()
    except CycleError as error:
        circle = [str(path.relative_to(PACKAGE)) for path in error.args[1]]
        pytest.fail(" -> ".join(circle))


def test_every_package_says_what_it_knows() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        text = ast.get_docstring(tree_of(path)) or ""
        assert len(text) > 30, f"{path.relative_to(PACKAGE)} has no docstring"


def test_files_and_functions_can_be_overseen() -> None:
    """400 lines a file, 60 a function without its docstring."""
    folders = (PACKAGE, ROOT / "tests", ROOT / "benchmarks", ROOT / "export")
    long = []
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        long += [f"{path}: {lines} lines"] if lines > 400 else []
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                is_told = ast.get_docstring(node, clean=False) is not None
                told = node.body[0].end_lineno - node.body[0].lineno + 1 if is_told else 0
                lines = node.end_lineno - node.lineno + 1 - told
                long += [f"{path}: {node.name} {lines} lines"] if lines > 60 else []
    assert not long


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
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        for node in tree_of(path).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        and "av" in {name.split(".")[0] for name in _modules_of(node)}
    }
    assert direct == {"video/ffmpeg.py", "video/push/child.py"}


def _modules_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]


def test_no_import_cycles_at_module_level() -> None:
    """Every module imports alone: none waits for one that waits for it, and all are found."""
    files = {module_of(path): path for path in modules() if path.name != "__main__.py"}
    graph = {name: waited_for(name, files) for name in files}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = ended([sys.executable, "-c", code, *order])
    assert done.returncode == 0, done.stderr[-2000:]


def waited_for(name: str, files: dict[str, Path]) -> set[str]:
    """The modules that must be whole before this one is: those it imports, and their packages.

    Its own packages have begun before it, and may still wait for it.
    """
    found = set()
    for node in run_by_import(files[name]):
        for wanted in names_of(node):
            module = wanted if wanted in files else wanted.rpartition(".")[0]
            parts = module.split(".")
            outer = {".".join(parts[:k]) for k in range(1, len(parts))}
            found |= {module} | {o for o in outer if not name.startswith(f"{o}.")}
    return found & files.keys() - {name}


def run_by_import(path: Path) -> Iterator[ast.AST]:
    """The nodes of a file outside functions, and not for types alone."""
    waiting: list[ast.AST] = [tree_of(path)]
    while waiting:
        yield (node := waiting.pop())
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def test_the_runtime_needs_no_torch_and_no_onnx() -> None:
    """`import segedge` and everything that `segedge run` imports leave the heavy ones alone."""
    code = (
        "import sys, segedge, segedge.segment.load, segedge.cli.run.command\n"
        "import segedge.cli.verbs.inspect\n"
        "import segedge.cli.verbs.doctor, segedge.pipeline.runner, segedge.video.sources.open\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'openvino', 'tensorrt', 'transformers'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = ended([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[]"


def test_help_imports_little() -> None:
    """`segedge --help` starts fast: no NumPy, OpenCV or Numba, and no bars of progress."""
    code = (
        "import sys\nfrom segedge.cli.main import build_app\n"
        "build_app(['--help'])\n"
        "print(sorted({'numpy', 'cv2', 'numba', 'av', 'rich.progress'} & set(sys.modules)))"
    )
    done = ended([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[]"


def test_a_build_of_a_float_network_needs_no_numpy() -> None:
    """It is a tenth of the time of a small one."""
    code = "import sys, segedge.cli.verbs.build\nprint('numpy' in sys.modules)"
    done = ended([sys.executable, "-c", code])
    assert done.stdout.strip() == "False", done.stderr[-2000:]
