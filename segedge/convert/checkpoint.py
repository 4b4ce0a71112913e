"""Weights into a module: find the state dict, make its names fit, say exactly what does not."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segedge.card.modelfile import file_sha256
from segedge.convert.harmless import harmless_types
from segedge.convert.options import CheckpointReport
from segedge.convert.state_dicts import best_fit, nameless, state_dicts
from segedge.errors import CheckpointError
from segedge.machine.optional import require

_GLOBAL = re.compile(r"GLOBAL (\S+)")
"""The name of a type that torch does not make, in its words."""
_COUNTER = "num_batches_tracked"
"""BatchNorm's step counter: absent from old checkpoints, and without effect in inference."""


def load_checkpoint(
    module: Any, path: Path, *, factory: str, key: str | None = None
) -> CheckpointReport:
    """Load weights into a module, in place.

    Only tensors and plain values are read (``weights_only``): nothing in the file is executed.
    ``key`` says which state dict is meant, where there are several.
    """
    stored = _read(path)
    expected = dict(module.state_dict())
    found = list(state_dicts(stored))
    if not found:
        raise _no_state_dict(path, stored)
    without_names = tuple(nameless(stored))
    if key is not None and key in dict(without_names):
        raise _no_names(path.name, without_names)
    best, others = best_fit(found, expected, key=key)
    tensors = best.tensors
    mismatched = [
        name
        for name in expected
        if name in tensors and tuple(tensors[name].shape) != tuple(expected[name].shape)
    ]
    missing = [name for name in expected if name not in tensors and _COUNTER not in name]
    unexpected = tuple(name for name in tensors if name not in expected)
    if missing or mismatched:
        raise _misfit(path.name, factory, expected, tensors, missing, mismatched, unexpected)
    torch = require("torch", purpose="read a checkpoint")
    fitting = {name: torch.as_tensor(tensors[name]) for name in expected if name in tensors}
    _check_values(path.name, fitting, torch, dict(module.named_parameters(remove_duplicate=False)))
    module.load_state_dict(fitting, strict=False)
    return CheckpointReport(
        file=path.name,
        sha256=file_sha256(path),
        loaded=len(fitting),
        expected=len(expected),
        key=best.key,
        prefix=best.prefix,
        others=others,
        ignored=unexpected,
        nameless=tuple(place for place, _ in without_names if place),
        epoch=_epoch(stored),
    )


def _check_values(
    file: str, tensors: Mapping[str, Any], torch: Any, parameters: Mapping[str, Any]
) -> None:
    """Demand numbers that a network can take: cast integers would be other weights."""
    for name, tensor in tensors.items():
        found = "no values (device meta)" if tensor.is_meta else ""
        if tensor.is_quantized or tensor.layout != torch.strided:
            found = f"{tensor.dtype}, {tensor.layout}"
        elif name in parameters and parameters[name].is_floating_point() != (
            tensor.is_floating_point()
        ):
            found = str(tensor.dtype)
        if found:
            raise CheckpointError(
                f"checkpoint {file} has weights that are no plain numbers",
                facts={"found": f"{_named(name, tensors)}: {found}", "expected": "floats, dense"},
                fix="save the weights of the network as it was trained, before it was quantised "
                "or packed: torch.save(model.state_dict(), 'weights.pth')",
            )


def _epoch(stored: Any) -> int | None:
    epoch = stored.get("epoch") if isinstance(stored, Mapping) else None
    is_number = isinstance(epoch, (int, np.integer)) and not isinstance(epoch, bool)
    return int(epoch) if is_number and epoch is not None else None


def _read(path: Path) -> Any:
    """What the file holds, with tensors on the CPU."""
    if path.is_dir():
        raise CheckpointError(f"checkpoint {path} is a folder", fix="name the file inside it")
    if not path.exists():
        raise CheckpointError(f"checkpoint {path} does not exist", fix="check --checkpoint")
    size = path.stat().st_size
    if size == 0:
        raise CheckpointError(f"checkpoint {path.name} is empty", facts={"found": "0 bytes"})
    if path.suffix == ".safetensors":
        return _read_safetensors(path, size)
    torch = require("torch", purpose="read a checkpoint")
    try:
        with torch.serialization.safe_globals(harmless_types(torch)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, size, str(error)) from error
    except Exception as error:  # damaged values raise whatever their types do
        raise _unreadable(path, size, str(error)) from error


def _refused(path: Path, size: int, reason: str) -> CheckpointError:
    """The file is damaged, or holds Python objects that would have to be executed."""
    unknown = _GLOBAL.search(reason)
    if unknown is None:
        return _unreadable(path, size, reason)
    return CheckpointError(
        f"checkpoint {path.name} holds more than tensors and plain values; loading it would run "
        "code",
        facts={"found": unknown[1]},
        fix="save its weights alone: torch.save(model.state_dict(), 'weights.pth')",
    )


def _unreadable(path: Path, size: int, reason: str) -> CheckpointError:
    return CheckpointError(
        f"checkpoint {path.name} cannot be read: truncated, or no PyTorch checkpoint",
        facts={"found": f"{size} bytes; {(reason.splitlines() or [''])[0][:100]}"},
        fix="copy it again, or save it again with torch.save(model.state_dict(), ...)",
    )


def _read_safetensors(path: Path, size: int) -> Any:
    loader = require("safetensors.torch", purpose="read a .safetensors checkpoint")
    try:
        return loader.load_file(str(path))
    except Exception as error:  # safetensors has one exception class, made in Rust
        raise _unreadable(path, size, str(error)) from error


def _no_names(file: str, found: Sequence[tuple[str, list[Any]]]) -> CheckpointError:
    place, tensors = found[0]
    where = f" at {place!r}" if place else ""
    first = "x".join(map(str, tensors[0].shape))
    return CheckpointError(
        f"checkpoint {file} holds weights without their names",
        facts={"found": f"a list of {len(tensors)} tensors{where}, the first {first}"},
        fix="put them into the network where it was trained, as ema.copy_to(model.parameters()) "
        "does, and save that: torch.save(model.state_dict(), 'weights.pth')",
    )


def _no_state_dict(path: Path, stored: Any) -> CheckpointError:
    without_names = tuple(nameless(stored))
    if without_names:
        return _no_names(path.name, without_names)
    kind = type(stored).__name__
    keys = ", ".join(map(str, list(stored)[:8])) if isinstance(stored, Mapping) else kind
    return CheckpointError(
        f"checkpoint {path.name} holds no state dict",
        facts={"found": keys},
        fix="save it again with torch.save(model.state_dict(), ...)",
    )


def _misfit(
    file: str,
    factory: str,
    expected: Mapping[str, Any],
    tensors: Mapping[str, Any],
    missing: list[str],
    mismatched: list[str],
    unexpected: tuple[str, ...],
) -> CheckpointError:
    """The facts of a checkpoint that does not fit, and the likeliest remedy."""
    fitting = len(expected) - len(missing) - len(mismatched)
    facts = {"expected": f"{len(expected)} tensors, {fitting} of them fit"}
    fix = "give the factory the arguments that the network was trained with: --arg NAME=VALUE"
    if missing:
        facts["missing"] = f"{len(missing)}, first: {_named(missing[0], expected)}"
    if unexpected:
        facts["unexpected"] = f"{len(unexpected)}, first: {_named(unexpected[0], tensors)}"
    if mismatched:
        name = mismatched[-1]  # the classifier is the usual culprit, and comes last
        facts["found"] = f"{_named(name, tensors)}; the network wants {_named(name, expected)}"
        have, want = tensors[name].shape, expected[name].shape
        if len(have) == len(want) and have and have[0] != want[0] and have[1:] == want[1:]:
            facts["classes"] = f"the checkpoint seems to have {have[0]}, {factory} builds {want[0]}"
            fix = f"give the factory its argument, e.g. --arg num_classes={have[0]}"
    return CheckpointError(f"checkpoint {file} does not fit the network", facts=facts, fix=fix)


def _named(name: str, tensors: Mapping[str, Any]) -> str:
    return f"{name} {tuple(tensors[name].shape)}"
