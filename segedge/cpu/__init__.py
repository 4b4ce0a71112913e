"""The CPU twin: preprocessing, tail and overlay as Numba kernels over bands of rows.

Computes what `reference` says, with the names and arguments of `cuda`; imports `card`, `options`
and its own kernels.
"""

from __future__ import annotations

import contextlib
from pathlib import Path


def _drop_stale_kernels(folder: Path) -> None:
    """Delete kernels that were compiled before the newest of the sources.

    Numba compares a cached kernel only with the file of its outermost function; an edit or upgrade
    of a file that it calls into would go unnoticed.
    """
    newest = max(source.stat().st_mtime for source in folder.rglob("*.py"))
    for index in folder.rglob("*.nbi"):
        with contextlib.suppress(OSError):  # another process did it, or the folder is read-only
            if index.stat().st_mtime < newest:
                index.unlink()


_drop_stale_kernels(Path(__file__).parent)
