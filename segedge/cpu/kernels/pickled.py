"""Machine code kept in Numba's form: of kernels, and on machines, for which there is no `Image`."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from segedge.cpu.kernels.kept import file_of, keep_code, kept_code
from segedge.machine.cache_folder import cache_path


class KernelCache(NullCache):  # type: ignore[misc]
    """What Numba asks for the machine code of one kernel, a function without a closure."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    @property
    def cache_path(self) -> str:
        """The folder of all CPUs and versions."""
        return str(cache_path("cpu"))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The kernel for these types, or None where it must be compiled."""
        target_context.refresh()
        data = kept_code(file_of(self._function, str(sig)))
        return None if data is None else CompileResult._rebuild(target_context, *pickle.loads(data))

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a kernel; code with addresses of this process in it cannot be."""
        if not data.library.has_dynamic_globals:
            keep_code(file_of(self._function, str(sig)), dumps(data._reduce()))
