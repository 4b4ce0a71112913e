"""From PyTorch to one ONNX file that describes itself: `export` and `adopt`.

Knows checkpoints, graphs and parity, no precision and no engine; imports `card`, `machine` and
`reference`. PyTorch is loaded here and in the eager backends only.
"""

from segedge.convert.export import adopt, export
from segedge.convert.options import ExportOptions, ExportReport
from segedge.convert.sources import parse_argument

__all__ = ["ExportOptions", "ExportReport", "adopt", "export", "parse_argument"]
