"""State dicts inside a checkpoint: where they lie, under which names, and which a network's are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from segedge.errors import UsageError

PREFERRED = (
    "ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "params_ema", "ema", "teacher",
    "state_dict", "model_state_dict", "model_state", "model", "student", "generator", "net",
    "network", "weights", "params", "module",
)  # fmt: skip
"""Where training scripts put state dicts, the one to take first where several fit: averaged
weights, as those are evaluated. Others are found, too."""
_DEPTH = 8
"""How deep below the top they are looked for."""


@dataclass(frozen=True)
class StateDict:
    """Tensors by names, as a checkpoint has them under a key, without a prefix of their names."""

    key: str
    """Where in the file they are; empty: at the top."""
    prefix: str
    """What was removed from their names."""
    tensors: Mapping[str, Any]

    @property
    def path(self) -> str:
        """Key and prefix in one word."""
        return ".".join(part for part in (self.key, self.prefix.rstrip(".")) if part)

    def score(self, expected: Mapping[str, Any]) -> int:
        """How much of a network it covers.

        Names weigh more than shapes, so that a wrong class count is still seen as these weights.
        """
        there = [name for name in expected if name in self.tensors]
        fitting = sum(
            tuple(self.tensors[name].shape) == tuple(expected[name].shape) for name in there
        )
        return 2 * len(there) + fitting

    @property
    def rank(self) -> int:
        """Place in `PREFERRED`."""
        words = self.path.split(".")
        return min((PREFERRED.index(word) for word in words if word in PREFERRED), default=99)


def best_fit(
    found: list[tuple[str, dict[str, Any]]], expected: Mapping[str, Any], *, key: str | None
) -> tuple[StateDict, tuple[str, ...]]:
    """The state dict that covers most of a network, and where others that cover as much are.

    UsageError: there is none at a key that was asked for.
    """
    candidates = [
        StateDict(place, prefix, _renamed(tensors, prefix))
        for place, tensors in found
        for prefix in _prefixes(tensors, expected)
    ]
    if key is not None:
        candidates = _asked(candidates, key)
    scores = [candidate.score(expected) for candidate in candidates]
    equal = [one for one, score in zip(candidates, scores, strict=True) if score == max(scores)]
    first, *others = sorted(equal, key=lambda one: one.rank)
    differing = (one.path for one in others if not _same(one, first, expected))
    return first, tuple(dict.fromkeys(path for path in differing if path))


def state_dicts(stored: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping of names to tensors at the top or below."""
    for key, found in _containers(stored):
        if isinstance(found, Mapping):
            tensors = {str(name): value for name, value in found.items() if _is_tensor(value)}
            if tensors:
                yield key, tensors


def nameless(stored: Any) -> Iterator[tuple[str, list[Any]]]:
    """Every list of two or more tensors: averaged weights as some training scripts keep them."""
    for key, found in _containers(stored):
        if not isinstance(found, Mapping) and len(found) > 1 and all(map(_is_tensor, found)):
            yield key, list(found)


def _containers(stored: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Mappings, lists and tuples at the top or below, with where they are: ``model.0.ema``."""
    if isinstance(stored, Mapping):
        inner = [(name, value) for name, value in stored.items() if isinstance(name, str)]
    elif isinstance(stored, (list, tuple)):
        inner = [(str(place), value) for place, value in enumerate(stored)]
    else:
        return
    yield key, stored
    if depth < _DEPTH:
        for name, value in inner:
            yield from _containers(value, f"{key}.{name}".strip("."), depth + 1)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, np.ndarray) or hasattr(value, "untyped_storage")


def _prefixes(tensors: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """What may stand before all names: DataParallel's ``module.``, a wrapper's ``model.`` ..."""
    names = list(expected)
    probes = {name for name in (*names[:1], *names[-1:], *names[len(names) // 2 :][:1])}
    found = {
        name.removesuffix(probe) for probe in probes for name in tensors if name.endswith(probe)
    }
    return ["", *sorted(prefix for prefix in found if prefix.endswith("."))]


def _renamed(tensors: Mapping[str, Any], prefix: str) -> Mapping[str, Any]:
    """Names without the prefix (a loss's buffers beside the model) stay as they are."""
    return {name.removeprefix(prefix): value for name, value in tensors.items()}


def _asked(candidates: list[StateDict], key: str) -> list[StateDict]:
    chosen = [one for one in candidates if key in (one.path, one.key, one.prefix.rstrip("."))]
    if not chosen:
        known = dict.fromkeys(one.path for one in candidates if one.path)
        raise UsageError(
            f"the checkpoint has no state dict at {key!r}",
            facts={"found": ", ".join([*known][:12]) or "one at the top"},
            fix="give one of those as --key, or leave it out",
        )
    return chosen


def _same(one: StateDict, other: StateDict, expected: Mapping[str, Any]) -> bool:
    """Whether a network gets the same weights from both."""
    both = (
        (one.tensors[name], other.tensors[name])
        for name in expected
        if name in one.tensors and name in other.tensors
    )
    return all(a.shape == b.shape and bool((a == b).all()) for a, b in both)
