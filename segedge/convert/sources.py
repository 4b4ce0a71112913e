"""What a user may hand to export, resolved to something that runs.

A factory (``package.module:factory``, ``file.py:factory``), a ``torch.export`` program, a
TorchScript file, a Hugging Face folder, a module in memory, or an ONNX file. Only a factory is
the user's own code and is executed; files are read as data.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from segedge.card.geometry import Size
from segedge.card.huggingface import HuggingFaceFolder
from segedge.card.modelfile import file_sha256
from segedge.convert.checkpoint import load_checkpoint
from segedge.convert.huggingface import load_huggingface, refuse_objects
from segedge.convert.options import CheckpointReport, ExportOptions
from segedge.convert.processor import HuggingFaceWay, check_folder, load_processor, said_by
from segedge.convert.programs import load_program, load_torchscript
from segedge.convert.torch_export import TorchNetwork
from segedge.convert.way import Labelling
from segedge.errors import ExportError, UsageError, nearest_name
from segedge.machine.optional import require
from segedge.reference.masks import SummedAt

Kind = Literal["factory", "module", "program", "torchscript", "huggingface", "onnx"]


@dataclass(frozen=True)
class Source:
    """A resolved source."""

    kind: Kind
    """What it is."""
    name: str
    """What it is called, without folders."""
    sha256: str = ""
    """SHA-256 of the checkpoint, or of the source file."""
    network: TorchNetwork | None = None
    """The network, for all kinds but ONNX files."""
    path: Path | None = None
    """The ONNX file."""
    checkpoint: CheckpointReport | None = None
    """What was loaded into a factory's module."""
    folder: HuggingFaceFolder | None = None
    """What a Hugging Face folder says."""
    size: Size | None = None
    """Input size that the source itself names."""
    way: Labelling | None = None
    """The source's own way from an image to labels, where it has one."""
    summed_at: SummedAt = "input"
    """Where masks are summed, of a network that classifies such."""


def resolve(source: Any, options: ExportOptions) -> Source:
    """Find out what a source is and load it."""
    if not isinstance(source, (str, Path)):
        return _from_module(source, options)
    text = str(source)
    place, colon, name = text.rpartition(":")
    if colon and name.isidentifier() and not Path(text).exists():
        return _from_factory(place, name, options)
    if options.checkpoint is not None or options.arguments:
        raise UsageError(
            "--checkpoint and --arg belong to a factory", fix="name it: file.py:factory"
        )
    return _from_path(Path(text))


def parse_argument(text: str) -> tuple[str, Any]:
    """``"width=1.5"`` to ``("width", 1.5)``: a Python literal where it is one, else text."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise UsageError(f"--arg {text!r} is no NAME=VALUE", fix="e.g. --arg num_classes=19")
    try:
        return name.strip(), ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name.strip(), value


def _from_path(path: Path) -> Source:
    """A file or folder, told apart by what it holds."""
    if path.is_dir():
        return _from_huggingface(path)
    if not path.exists():
        near = nearest_name(path.name, _neighbours(path))
        raise UsageError(
            f"{path} does not exist" + (f"; did you mean {near!r}?" if near else ""),
            facts={
                "expected": "file.py:factory, package.module:factory, a .pt2, TorchScript or "
                ".onnx file, or a Hugging Face folder"
            },
        )
    if path.suffix == ".onnx":
        return Source("onnx", path.name, file_sha256(path), path=path)
    if path.suffix == ".py":
        raise UsageError(f"{path.name} is a Python file", fix=f"name its factory: {path}:NAME")
    if path.suffix == ".safetensors":
        raise _weights_only(path)
    return _from_archive(path)


def _from_archive(path: Path) -> Source:
    """A zip archive that torch wrote: a program, TorchScript, or only weights."""
    if not zipfile.is_zipfile(path):
        if path.suffix in (".pt", ".pth", ".ckpt", ".bin", ".tar"):
            raise _weights_only(path)
        raise ExportError(
            f"{path.name} is no network that can be exported, or is truncated",
            facts={"found": f"{path.stat().st_size} bytes, no archive that torch writes"},
            fix="copy or save it again",
        )
    with zipfile.ZipFile(path) as archive:
        names = [name.partition("/")[2] for name in archive.namelist()]
        top = archive.namelist()
    if "serialized_exported_program.json" in top or any(
        name.startswith("models/") and name.endswith(".json") for name in names
    ):
        module, size = load_program(path)
        network = TorchNetwork(module, name=path.name)
        return Source("program", path.name, file_sha256(path), network=network, size=size)
    if any(name.startswith("code/") for name in names):
        network = TorchNetwork(load_torchscript(path), name=path.name, scripted=True)
        return Source("torchscript", path.name, file_sha256(path), network=network)
    raise _weights_only(path)


def _weights_only(path: Path) -> UsageError:
    return UsageError(
        f"{path.name} holds weights, not a network",
        fix=f"name the code that builds it: segedge export nets.py:factory --checkpoint {path}",
    )


def _from_huggingface(folder: Path) -> Source:
    refuse_objects(folder)
    check_folder(folder)
    processor = load_processor(folder)
    said = said_by(processor, folder)
    module, summed_at = load_huggingface(folder)
    weights = next(
        (f for f in sorted(folder.iterdir()) if f.suffix in (".safetensors", ".bin")), None
    )
    network = TorchNetwork(module, name=folder.name)
    digest = file_sha256(weights) if weights else ""
    return Source(
        "huggingface", folder.name, digest, network=network, folder=said, size=said.input_size,
        way=None if said.windows else HuggingFaceWay(processor, module, said),
        summed_at=summed_at or "input",
    )  # fmt: skip


def _from_factory(place: str, name: str, options: ExportOptions) -> Source:
    factory = _attribute(_import(place), place, name)
    label = f"{Path(place).name}:{name}"
    torch = require("torch", purpose="export a network")
    module = factory if isinstance(factory, torch.nn.Module) else _build(factory, label, options)
    if not isinstance(module, torch.nn.Module):
        raise ExportError(
            f"{label}() returned {type(module).__name__}",
            facts={"expected": "a torch.nn.Module"},
        )
    return _from_module(module, options, label)


def _from_module(module: Any, options: ExportOptions, label: str = "") -> Source:
    """A module in memory, its checkpoint loaded."""
    torch = require("torch", purpose="export a network")
    if not isinstance(module, torch.nn.Module):
        raise UsageError(
            f"cannot export a {type(module).__name__}",
            facts={"expected": "a path, file.py:factory, or a torch.nn.Module"},
        )
    name = label or type(module).__name__
    report = None
    if options.checkpoint is not None:
        report = load_checkpoint(
            module, Path(options.checkpoint), factory=name, key=options.checkpoint_key
        )
    network = TorchNetwork(module.cpu().float().eval(), name=name)
    digest = report.sha256 if report else ""
    return Source("factory" if label else "module", name, digest, network, checkpoint=report)


def _import(place: str) -> Any:
    """The module of a factory: a file, or something importable from here."""
    if place.endswith(".py"):
        path = Path(place)
        if not path.is_file():
            near = nearest_name(path.name, _neighbours(path))
            raise UsageError(
                f"{path} does not exist" + (f"; did you mean {near!r}?" if near else "")
            )
        return _import_file(path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(place)
    except Exception as error:
        raise _import_error(place, error) from error
    finally:
        sys.path.remove(str(Path.cwd()))


def _import_file(path: Path) -> Any:
    """Execute a file as a module, with its folder importable as for a script."""
    folder = str(path.resolve().parent)
    name = f"_factory_{path.stem}"  # not the file's own: another's of that name shall be found
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look there
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _import_error(path.name, error) from error
    finally:
        sys.path.remove(folder)
    return module


def _import_error(place: str, error: Exception) -> ExportError:
    return ExportError(
        f"{place} cannot be imported", facts={"says": f"{type(error).__name__}: {error}"[:200]}
    )


def _attribute(module: Any, place: str, name: str) -> Any:
    if hasattr(module, name):
        return getattr(module, name)
    public = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
    near = nearest_name(name, public)
    raise UsageError(
        f"{Path(place).name} has no {name!r}" + (f"; did you mean {near!r}?" if near else ""),
        facts={"has": ", ".join(public[:12]) or "nothing that can be called"},
    )


def _build(factory: Callable[..., Any], label: str, options: ExportOptions) -> Any:
    """Call a factory with the user's arguments."""
    if not callable(factory):
        raise UsageError(f"{label} is no function or class", facts={"found": repr(factory)[:80]})
    try:
        signature = str(inspect.signature(factory))
        inspect.signature(factory).bind(**options.arguments)
    except TypeError as error:
        raise UsageError(
            f"{label} cannot be called like that: {error}",
            facts={"given": _listing(options.arguments), "takes": str(inspect.signature(factory))},
            fix="--arg NAME=VALUE for each argument without a default",
        ) from error
    except ValueError:  # built-in callables have no signature
        signature = ""
    try:
        return factory(**options.arguments)
    except Exception as error:  # the user's own code
        raise ExportError(
            f"{label}{signature} failed", facts={"says": f"{type(error).__name__}: {error}"[:200]}
        ) from error


def _listing(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items()) or "nothing"


def _neighbours(path: Path) -> list[str]:
    return [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
