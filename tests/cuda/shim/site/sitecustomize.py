"""With this folder on PYTHONPATH, every process on the simulated driver runs the shim's kernels.

Python imports a module of this name when it starts. For scripts that start processes of their own,
as benchmarks/gpu_check.py does; see tests/cuda/test_benchmarks.py.
"""

import os
import sys
from pathlib import Path

if os.environ.get("SIMCUDA"):
    sys.path.append(str(Path(__file__).parents[2]))
    from shim.launcher import machine_code

    from segedge.cuda.runtime import program

    def _compile_for(kernel: program.Kernel, arch: str, **_: object) -> bytes:
        return machine_code(kernel)

    program.compile_for = _compile_for
