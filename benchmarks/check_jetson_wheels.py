"""Whether every pip line of docs/jetson.md resolves on a Jetson: aarch64, Python 3.10 and 3.12.

    python benchmarks/check_jetson_wheels.py

Lines below "## JetPack 6" are resolved for Python 3.10, below "## JetPack 7" for 3.12, elsewhere
for both; ``.`` and ``.[extra]`` stand for what pyproject.toml asks for. pip resolves from the
registry's metadata, binary wheels only, and installs nothing. Exit code 1 where a line does not
resolve, or where the page has none.

pip evaluates the markers of *indirect* dependencies for the Python that runs it, so run this with
3.10 for the last word on 3.10. It needs nothing but pip.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "jetson.md"
PYTHONS = {"JetPack 6": ("3.10",), "JetPack 7": ("3.12",)}
BOTH = ("3.10", "3.12")
GLIBC = {"3.10": 35, "3.12": 39}
"""Ubuntu 22.04 and 24.04: newest manylinux_2_N whose wheels they take."""


def main() -> int:
    """Resolve every line and print one row each."""
    failed = 0
    lines = pip_lines(PAGE.read_text(encoding="utf-8"))
    for line, pythons in lines:
        for python in pythons:
            problem = resolve(requirements(line, python), python)
            failed += bool(problem)
            print(f"{'FAILS' if problem else 'ok':<6} aarch64 Python {python:<5} {line}")
            if problem:
                print(f"       {problem}")
    return 1 if failed or not lines else 0


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
    """What a line asks for, with segedge's own dependencies in place of ``.`` and ``.[extra]``."""
    words = [word for word in shlex.split(line)[2:] if not word.startswith("-")]
    own = [re.fullmatch(r"\.(?:\[([\w,-]+)\])?", word) for word in words]
    found = []
    for word, match in zip(words, own, strict=True):
        extras = match[1].split(",") if match is not None and match[1] else []
        found += [word] if match is None else own_dependencies(extras, python)
    return found


def own_dependencies(extras: list[str], python: str) -> list[str]:
    """The dependencies of pyproject.toml, with those of some extras, that apply to a Jetson."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    jetson = {"platform_machine": "aarch64", "python_version": python}
    found: list[str] = []
    wanted = list(project["dependencies"])
    wanted += [one for extra in extras for one in project["optional-dependencies"][extra]]
    for one in map(Requirement, wanted):
        if one.marker is not None and not one.marker.evaluate(jetson):
            continue
        nested = one.name == project["name"]
        found += (
            own_dependencies(list(one.extras), python) if nested else [f"{one.name}{one.specifier}"]
        )
    return list(dict.fromkeys(found))


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
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    sys.exit(main())
