"""Weights into a module: find the state dict, make its names fit, say exactly what does not."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segedge.card.modelfile import file_sha256
from segedge.convert.options import CheckpointReport
from segedge.errors import CheckpointError
from segedge.machine.optional import require

_KEYS = (
    "ema_state_dict",
    "state_dict_ema",
    "model_ema",
    "ema",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "module",
)
"""Where training scripts put the state dict; averaged weights first, as those are evaluated."""
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "segmentor.")
"""What DataParallel, torch.compile, Lightning modules and wrappers put before every name."""
_COUNTER = "num_batches_tracked"
"""BatchNorm's step counter: absent from old checkpoints, and without effect in inference."""


def load_checkpoint(module: Any, path: Path, *, factory: str) -> CheckpointReport:
    """Load weights into a module, in place.

    Only tensors are read (``weights_only``): nothing in the file is executed.
    """
    stored = _read(path)
    epoch = stored.get("epoch") if isinstance(stored, Mapping) else None
    expected = dict(module.state_dict())
    key, prefix, tensors = _best_fit(stored, expected, path)
    mismatched = [
        name
        for name in expected
        if name in tensors and tuple(tensors[name].shape) != tuple(expected[name].shape)
    ]
    missing = [name for name in expected if name not in tensors and _COUNTER not in name]
    unexpected = tuple(name for name in tensors if name not in expected)
    if missing or mismatched:
        raise _misfit(path.name, factory, expected, tensors, missing, mismatched, unexpected)
    fitting = {name: tensors[name] for name in expected if name in tensors}
    module.load_state_dict(fitting, strict=False)
    return CheckpointReport(
        file=path.name,
        sha256=file_sha256(path),
        loaded=len(fitting),
        expected=len(expected),
        key=key,
        prefix=prefix,
        ignored=unexpected,
        epoch=epoch if isinstance(epoch, int) and not isinstance(epoch, bool) else None,
    )


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
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, size, str(error)) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise _unreadable(path, size, str(error)) from error


def _refused(path: Path, size: int, reason: str) -> CheckpointError:
    """The file is damaged, or holds Python objects that would have to be executed."""
    first = next((line for line in reason.splitlines() if "GLOBAL" in line), "")
    if not first:
        return _unreadable(path, size, reason)
    return CheckpointError(
        f"checkpoint {path.name} holds more than tensors; loading it would run code",
        facts={"found": first.strip()[:120]},
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


def _best_fit(
    stored: Any, expected: Mapping[str, Any], path: Path
) -> tuple[str, str, dict[str, Any]]:
    """The (key, prefix, tensors) of the candidate that covers most of the network's names."""
    candidates = list(_state_dicts(stored))
    if not candidates:
        kind = type(stored).__name__
        keys = ", ".join(map(str, list(stored)[:8])) if isinstance(stored, Mapping) else kind
        raise CheckpointError(
            f"checkpoint {path.name} holds no state dict",
            facts={"found": keys, "looked under": ", ".join(_KEYS)},
            fix="save it again with torch.save(model.state_dict(), ...)",
        )
    best: tuple[int, str, str, dict[str, Any]] | None = None
    for key, tensors in candidates:
        for prefix, renamed in _without_prefixes(tensors):
            fitting = sum(
                name in renamed and tuple(renamed[name].shape) == tuple(expected[name].shape)
                for name in expected
            )
            # Names weigh more than shapes, so that a wrong class count is still seen as this key.
            score = 2 * sum(name in renamed for name in expected) + fitting
            if best is None or score > best[0]:
                best = (score, key, prefix, renamed)
    assert best is not None
    return best[1:]


def _state_dicts(stored: Any, key: str = "", depth: int = 0) -> list[tuple[str, dict[str, Any]]]:
    """Every mapping of names to tensors at the top or under the usual keys."""
    if not isinstance(stored, Mapping):
        return []
    tensors = {str(name): value for name, value in stored.items() if hasattr(value, "shape")}
    found = [(key, tensors)] if tensors else []
    if depth < 2:
        for name in _KEYS:
            inner = stored.get(name)
            found += _state_dicts(inner, f"{key}.{name}".strip("."), depth + 1)
    return found


def _without_prefixes(tensors: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The tensors under their own names, and with up to three leading prefixes removed."""
    variants = [("", tensors)]
    for _ in range(3):
        removed, current = variants[-1]
        prefix = next((p for p in _PREFIXES if any(n.startswith(p) for n in current)), None)
        if prefix is None:
            break
        # Names without the prefix (a loss's buffers beside the model) stay as they are.
        renamed = {name.removeprefix(prefix): value for name, value in current.items()}
        variants.append((removed + prefix, renamed))
    return variants


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
