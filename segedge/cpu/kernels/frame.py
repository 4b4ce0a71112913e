"""The kernels that every frame goes through; `segedge.cpu.plain` has their twins in NumPy."""

from segedge.cpu.kernels.cells import argmax_grid
from segedge.cpu.kernels.confidence import render_confidence
from segedge.cpu.kernels.convert import convert_blocks
from segedge.cpu.kernels.cpu import HAS_HALF
from segedge.cpu.kernels.levels import mix_levels, resample_rows
from segedge.cpu.kernels.render import clamp_labels, render_cells, render_lookup
from segedge.cpu.kernels.resample import resample

__all__ = [
    "HAS_HALF",
    "argmax_grid",
    "clamp_labels",
    "convert_blocks",
    "mix_levels",
    "render_cells",
    "render_confidence",
    "render_lookup",
    "resample",
    "resample_rows",
]
