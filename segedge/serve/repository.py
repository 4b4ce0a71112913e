"""Writing a Triton model repository: all of it or nothing, and nothing replaced unasked.

model_repository/
  street/             config.pbtxt  labels.txt  1/model.onnx     tensors in, logits out
  street_preprocess/  config.pbtxt  1/model.py                   frame to tensor
  street_tail/        config.pbtxt  labels.txt  1/model.py       logits to labels
  street_frames/      config.pbtxt  labels.txt  1/               the three in a row
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segedge.card.card import CARD_KEY, ModelCard
from segedge.card.modelfile import file_sha256
from segedge.errors import UsageError
from segedge.machine.files import prepare_folder, writing
from segedge.serve import config as configs
from segedge.serve.config import LABELS_FILE
from segedge.serve.network import ServedNetwork, read_network
from segedge.serve.options import TritonOptions, served_name
from segedge.version import __version__

CONFIG_FILE = "config.pbtxt"

_STEP_SOURCE = '''"""Written by segedge {version}: a step of the ensemble {ensemble}.

Needs segedge in the Python of Triton's python backend: pip install segedge
"""

from segedge.serve.steps import {step} as TritonPythonModel  # noqa: F401
'''


@dataclass(frozen=True)
class WrittenModel:
    """One model of the repository."""

    name: str
    path: Path
    """Its folder."""
    what: str
    """What it does, in words."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    """Name, shape (without the batch axis) and Triton's type of each."""
    versions: tuple[int, ...]
    """All versions that are there now."""


@dataclass(frozen=True)
class TritonReport:
    """What `write_repository` did."""

    repository: Path
    models: tuple[WrittenModel, ...]
    """The network first; then, where frames are served, preprocessing, tail and the ensemble."""
    backend: str
    """``onnxruntime`` or ``tensorrt``."""
    max_batch: int
    """0: the network has no batch axis, and frames run one by one."""
    delay_us: int
    """Longest wait for a batch in microseconds; 0 where there is none."""
    instances: str
    """How many copies of the network, and where."""
    needs: tuple[str, ...]
    """What the server must have, in words."""
    notes: tuple[str, ...]
    """What the user should know."""
    size_bytes: int
    """Size of the model file."""
    card: ModelCard


@dataclass(frozen=True)
class _Model:
    """A model that is to be written."""

    name: str
    what: str
    config: Any
    source: str = ""
    """Text of ``model.py``; empty where there is none."""


def write_repository(
    model: str | Path, repository: str | Path, *, options: TritonOptions | None = None
) -> TritonReport:
    """Write a model, and what takes frames to it, into a model repository.

    Other models of the repository are left alone. Another version of this model is added beside
    those that are there, where its tensors and classes are theirs.

    Args:
        model: An ONNX file with its card, or a TensorRT engine with its JSON file.
        repository: Folder of the repository; made where there is none.
        options: How the model is served.

    Raises:
        ModelError: The model is missing, damaged or without a card.
        UsageError: Triton cannot serve it; or the version, or another model of its name, is there
            already and ``force`` is not set.
        MissingDependencyError: tritonclient, whose schema the configurations follow, is missing.
        SinkError: The folder cannot be written; nothing of the model is in it then.
    """
    options = options or TritonOptions()
    network = read_network(model)
    root = Path(repository)
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file", fix="-o model_repository/")
    models = _models(network, options)
    notes = list(_notes(network, options))
    for entry in models:
        notes += _check_free(root, entry, options)
    prepare_folder(root, purpose=root)
    head = f"Written by segedge {__version__} from {network.path.name}, SHA-256 "
    head += file_sha256(network.path)
    with writing(root), _staging(root) as stage:
        for entry in models:
            _stage(stage / entry.name, entry, network, options, head=head)
        _put_in_place(stage, root, [entry.name for entry in models], options.version)
    return _report(root, network, options, models, notes)


def _models(network: ServedNetwork, options: TritonOptions) -> list[_Model]:
    """The network, then the steps, then the ensemble: each after what it needs."""
    name = options.name or served_name(network.path.stem)
    models = [
        _Model(
            name,
            f"tensor to {network.card.head}",
            configs.network_config(network, options, name=name),
        )
    ]
    if not options.frames:
        return models
    before, behind, ensemble = (
        name + ending for ending in (configs.PREPROCESS, configs.TAIL, configs.FRAMES)
    )
    steps = (before, name, behind)
    pictures = "labels and overlay" if options.overlay else "labels"
    sources = [
        _STEP_SOURCE.format(version=__version__, ensemble=ensemble, step=step)
        for step in ("PreprocessStep", "TailStep")
    ]
    return [
        *models,
        _Model(
            before,
            "frame to tensor",
            configs.preprocess_config(network, options, name=before),
            sources[0],
        ),
        _Model(
            behind,
            f"{network.card.head} to {pictures}",
            configs.tail_config(network, options, name=behind),
            sources[1],
        ),
        _Model(
            ensemble,
            f"frame to {pictures}",
            configs.frames_config(network, options, name=ensemble, steps=steps),
        ),
    ]


def _notes(network: ServedNetwork, options: TritonOptions) -> Iterator[str]:
    if not network.has_batch_axis:
        yield (
            f"{network.path.name} has no batch axis: frames run one by one, without dynamic"
            " batching; segedge export --dynamic batch makes one"
        )
    elif network.largest_batch is not None and network.largest_batch < options.max_batch:
        yield f"the engine was built for batches of at most {network.largest_batch}"


def _check_free(root: Path, model: _Model, options: TritonOptions) -> list[str]:
    """Refuse to replace what is there, unless that was asked for; what is said of versions."""
    folder = root / model.name
    if not folder.exists() or options.force:
        return []
    if (folder / str(options.version)).exists():
        raise UsageError(
            f"{folder / str(options.version)} is there already",
            fix=f"--model-version {options.version + 1} adds a version; --force replaces this one",
        )
    differing = _differences(folder / CONFIG_FILE, model.config)
    if differing:
        raise UsageError(
            f"{folder} is another model: versions of one model have the same tensors and classes",
            facts={"differ": ", ".join(differing)},
            fix="--name gives this model another name; --force adds it nevertheless",
        )
    others = ", ".join(map(str, _versions(folder)))
    return [f"{model.name}: version {options.version} beside {others}; {CONFIG_FILE} is now its"]


def _differences(path: Path, config: Any) -> list[str]:
    """What two versions of a model may not differ in, and do."""
    if not path.is_file():
        return [f"no {CONFIG_FILE} there"]
    there = configs.parse_text(path.read_text(encoding="utf-8"))
    found = [
        field
        for field in ("platform", "backend", "max_batch_size", "input", "output")
        if getattr(there, field) != getattr(config, field)
    ]
    text = there.parameters[CARD_KEY].string_value
    own = ModelCard.from_json(config.parameters[CARD_KEY].string_value)
    if not text or ModelCard.from_json(text).classes != own.classes:
        found.append("classes")
    return found


def _versions(folder: Path) -> tuple[int, ...]:
    return tuple(sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()))


@contextlib.contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """A folder on the repository's own disk, gone at the end.

    Beside the repository where that is one disk: a server that polls the repository takes every
    folder in it for a model.
    """
    name = f".{root.name}.part-{uuid.uuid4().hex[:8]}"
    parent = root.absolute().parent
    same_disk = parent.stat().st_dev == root.stat().st_dev
    stage = (parent if same_disk else root) / name
    try:
        stage.mkdir()
    except OSError:  # a folder of one's own within a folder of another's
        stage = root / name
        stage.mkdir()
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _stage(
    folder: Path, model: _Model, network: ServedNetwork, options: TritonOptions, *, head: str
) -> None:
    """Write one model's files."""
    version = folder / str(options.version)
    version.mkdir(parents=True)
    (folder / CONFIG_FILE).write_text(configs.as_text(model.config, head=head), encoding="utf-8")
    if any(output.label_filename for output in model.config.output):
        names = "".join(f"{name}\n" for name in network.card.classes)
        (folder / LABELS_FILE).write_text(names, encoding="utf-8")
    if model.source:
        (version / "model.py").write_text(model.source, encoding="utf-8")
    elif not model.config.platform:
        shutil.copyfile(network.path, version / network.filename)
        for extra in network.extra_files:
            shutil.copyfile(extra, version / extra.name)


def _put_in_place(stage: Path, root: Path, models: list[str], version: int) -> None:
    """Rename what was staged to its own names, in order; undone where one of them fails."""
    undo: list[tuple[Path, Path | None]] = []
    try:
        for model in models:
            folder, target = stage / model, root / model
            names = [str(version), LABELS_FILE, CONFIG_FILE] if target.exists() else [""]
            for name in names:
                new = folder / name
                if new.exists():
                    _replace(new, target / name, stage, undo)
    except BaseException:
        for final, kept in reversed(undo):
            _remove(final)
            if kept is not None:
                kept.rename(final)
        raise


def _replace(new: Path, final: Path, stage: Path, undo: list[tuple[Path, Path | None]]) -> None:
    kept = None
    if final.exists():
        kept = stage / f"kept-{uuid.uuid4().hex}"
        final.rename(kept)
        undo.append((final, kept))
    new.rename(final)
    if kept is None:
        undo.append((final, None))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _report(
    root: Path,
    network: ServedNetwork,
    options: TritonOptions,
    models: list[_Model],
    notes: list[str],
) -> TritonReport:
    batch = models[0].config.max_batch_size
    needs = [network.needs]
    if options.frames:
        where = options.python_env or "the server's Python"
        needs.append(f"segedge {__version__} in {where}, for the frames")
    return TritonReport(
        root,
        tuple(
            WrittenModel(
                model.name,
                root / model.name,
                model.what,
                tuple(map(_tensor_text, model.config.input)),
                tuple(map(_tensor_text, model.config.output)),
                _versions(root / model.name),
            )
            for model in models
        ),
        network.backend,
        batch,
        options.delay_us if batch > 1 else 0,
        _instances_text(models[0].config.instance_group[0]),
        tuple(needs),
        tuple(notes),
        network.path.stat().st_size,
        network.card,
    )


def _tensor_text(tensor: Any) -> str:
    axes = "x".join("?" if axis < 0 else str(axis) for axis in tensor.dims)
    dtype = configs.schema().DataType.Name(tensor.data_type).removeprefix("TYPE_")
    return f"{tensor.name} {axes} {dtype}"


def _instances_text(group: Any) -> str:
    kinds = configs.schema().ModelInstanceGroup
    where = {
        kinds.KIND_AUTO: "a GPU where there is one",
        kinds.KIND_CPU: "the CPU",
        kinds.KIND_GPU: "each GPU",
    }[group.kind]
    if group.gpus:
        where = f"GPU {', '.join(map(str, group.gpus))}"
    return f"{group.count} on {where}"
