"""Whether every pip line of docs/jetson.md resolves on a Jetson: aarch64, Python 3.10 and 3.12.

    python benchmarks/check_jetson_wheels.py

Lines below "## JetPack 6" are resolved for Python 3.10, below "## JetPack 7" for 3.12, elsewhere
for both; ``.`` stands for segedge's own dependencies. pip resolves from the registry's metadata,
binary wheels only, and installs nothing. Exit code 1 where a line does not resolve.

pip evaluates the markers of *indirect* dependencies for the Python that runs it, so run this with
3.10 for the last word on 3.10.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "jetson.md"
PYTHONS = {"JetPack 6": ("3.10",), "JetPack 7": ("3.12",)}
BOTH = ("3.10", "3.12")
GLIBC = {"3.10": 35, "3.12": 39}
"""Ubuntu 22.04 and 24.04: newest manylinux_2_N whose wheels they take."""


def main() -> int:
    """Resolve every line and print one row each."""
    failed = 0
    for line, pythons in pip_lines(PAGE.read_text(encoding="utf-8")):
        for python in pythons:
            problem = resolve(requirements(line, python), python)
            failed += bool(problem)
            print(f"{'FAILS' if problem else 'ok':<6} aarch64 Python {python:<5} {line}")
            if problem:
                print(f"       {problem}")
    return 1 if failed else 0


def pip_lines(page: str) -> list[tuple[str, tuple[str, ...]]]:
    """Each ``pip install`` line with the Pythons that it is for."""
    found = []
    pythons: tuple[str, ...] = BOTH
    for line in page.splitlines():
        if line.startswith("## "):
            pythons = PYTHONS.get(line.removeprefix("## ").strip(), BOTH)
        if line.startswith("pip install "):
            found.append((line, pythons))
    return found


def requirements(line: str, python: str) -> list[str]:
    """What a line asks for, with segedge's own dependencies in place of ``.``."""
    words = shlex.split(line)[2:]
    return [one for word in words for one in (own_dependencies(python) if word == "." else [word])]


def own_dependencies(python: str) -> list[str]:
    """The base dependencies of pyproject.toml that apply to a Jetson."""
    from packaging.requirements import Requirement

    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.M | re.S)
    if block is None:
        raise SystemExit("pyproject.toml has no dependencies")
    parsed = [Requirement(name) for name in re.findall(r'"([^"]+)"', block[1])]
    jetson = {"platform_machine": "aarch64", "python_version": python}
    return [
        f"{one.name}{one.specifier}"
        for one in parsed
        if one.marker is None or one.marker.evaluate(jetson)
    ]


def resolve(wanted: list[str], python: str) -> str:
    """Why pip cannot resolve requirements for aarch64; empty where it can."""
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in range(17, GLIBC[python] + 1)]
    platforms += ["manylinux2014_aarch64", "linux_aarch64"]
    options = [word for name in platforms for word in ("--platform", name)]
    with tempfile.TemporaryDirectory() as target:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--target", target,
             "--only-binary", ":all:", "--python-version", python, *options, *wanted],
            capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return "" if done.returncode == 0 else (errors or [done.stderr.strip()[-300:]])[0]


if __name__ == "__main__":
    sys.exit(main())
