"""docs/jetson.md: the script that resolves its pip lines reads them, and says what fails.

The resolving itself needs the registry: python benchmarks/check_jetson_wheels.py.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> Any:
    path = ROOT / "benchmarks" / "check_jetson_wheels.py"
    spec = importlib.util.spec_from_file_location("check_jetson_wheels", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_pip_line_of_the_page_is_found(script: Any) -> None:
    page = (ROOT / "docs" / "jetson.md").read_text(encoding="utf-8")
    lines = script.pip_lines(page)
    assert len(lines) == sum(line.strip().startswith("pip install") for line in page.splitlines())
    pythons = {line: pythons for line, pythons in lines}
    assert pythons["pip install '.[cuda12]'"] == ("3.10",)
    assert pythons["pip install '.[cuda]'"] == ("3.12",)


def test_a_line_becomes_what_pip_must_resolve(script: Any) -> None:
    wanted = script.requirements("pip install '.[cuda12]' 'onnx>=1.17'", "3.10")
    assert "onnx>=1.17" in wanted
    assert any(one.startswith("numpy") for one in wanted)
    assert any(one.startswith("cuda-bindings") and "<13" in one for one in wanted)
    assert not any("segedge" in one for one in wanted)
    with pytest.raises(KeyError):
        script.requirements("pip install '.[cuda99]'", "3.10")


def test_extras_within_extras_and_markers(script: Any) -> None:
    """`rtx` includes `cuda`, and its TensorRT wheels are for x86-64 only."""
    wanted = script.own_dependencies(["rtx"], "3.12")
    assert any(one.startswith("cuda-core") for one in wanted)
    assert not any(one.startswith("tensorrt") for one in wanted)


def test_a_failure_is_the_exit_code(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "resolve", lambda wanted, python: "no wheel" * (python == "3.10"))
    assert script.main() == 1
    assert "FAILS  aarch64 Python 3.10" in capsys.readouterr().out
    monkeypatch.setattr(script, "resolve", lambda wanted, python: "")
    assert script.main() == 0
