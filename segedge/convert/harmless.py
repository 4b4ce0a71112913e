"""Types beside tensors that training scripts put into checkpoints, and that only hold values.

torch's weights-only unpickler makes objects of no type but those that it is told of. None of
these opens, imports or calls anything when it is made. What is missing here stays refused.
"""

from __future__ import annotations

import argparse
import datetime
import decimal
import fractions
import pathlib
import types
from collections import OrderedDict
from typing import Any

import numpy as np

_BUILTINS = (bool, bytes, dict, float, frozenset, int, list, range, slice, str, tuple)
_VALUES = (
    argparse.Namespace, types.SimpleNamespace, decimal.Decimal, fractions.Fraction,
    datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone,
)  # fmt: skip
_PATHS = {
    "PosixPath": pathlib.PurePosixPath,
    "PurePosixPath": pathlib.PurePosixPath,
    "WindowsPath": pathlib.PureWindowsPath,
    "PureWindowsPath": pathlib.PureWindowsPath,
}
"""Paths of any system, without the methods that touch files."""


def harmless_types(torch: Any) -> list[tuple[Any, str]]:
    """What `torch.serialization.safe_globals` takes: what is made, and the name it goes by."""
    named = [_named(kind) for kind in (*_BUILTINS, *_VALUES, torch.torch_version.TorchVersion)]
    for module in ("pathlib", "pathlib._local"):
        named += [(kind, f"{module}.{name}") for name, kind in _PATHS.items()]
    # The unpickler fills plain containers only; their factories and lengths say nothing of weights.
    named += [(_mapping, "collections.defaultdict"), (_sequence, "collections.deque")]
    return [*named, *_numpy()]


def _named(kind: Any) -> tuple[Any, str]:
    return kind, f"{kind.__module__}.{kind.__qualname__}"


def _numpy() -> list[tuple[Any, str]]:
    """NumPy's arrays and scalars, by the names of NumPy 1 and 2."""
    scalars = {kind for kind in np.sctypeDict.values() if kind is not np.object_}
    named: list[tuple[Any, str]] = [(kind, f"numpy.{kind.__name__}") for kind in scalars]
    named += [(getattr(np.dtypes, name), f"numpy.dtypes.{name}") for name in np.dtypes.__all__]
    named += [(np.ndarray, "numpy.ndarray"), (np.dtype, "numpy.dtype"), (np.bool_, "numpy.bool_")]
    scalar, array = np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0]
    for core in ("numpy.core", "numpy._core"):
        named += [(scalar, f"{core}.multiarray.scalar"), (array, f"{core}.multiarray._reconstruct")]
    return named


def _mapping(*_factory: Any) -> OrderedDict[Any, Any]:
    return OrderedDict()


def _sequence(*_given: Any) -> list[Any]:
    return []
