"""The schema of benchmarks/results, the files that are there, and the scripts that write them."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RESULTS = sorted((BENCHMARKS / "results").glob("*.json"))
README = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
SCRIPTS = sorted(
    path.name
    for path in BENCHMARKS.glob("*.py")
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)


@pytest.fixture
def module(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("document")


def made(module: ModuleType, **other: Any) -> Any:
    figures = (
        module.Figure.of("a", "frame", [[1.0, 2.0, 3.0], [2.0, 2.5, 3.0]], parameters={"size": 4}),
        module.Figure.of("b", "frame", [[1.23456789]], unit="s"),
    )
    settings = {"benchmark": "made", "includes": {"frame": "all"}, "figures": figures}
    return module.Document(**{**settings, **other})


def test_there_are_results() -> None:
    assert {"cpu_frame.json", "pipeline.json"} <= {path.name for path in RESULTS}


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_every_results_file_has_the_schema(module: ModuleType, path: Path) -> None:
    document = module.read_document(path)
    assert document.benchmark == path.stem
    assert document.figures
    assert all(document.includes[figure.quantity] for figure in document.figures)
    assert document.environment.cpu


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_no_results_file_was_made_with_quick(path: Path) -> None:
    assert "quick" not in path.name


def test_what_is_written_is_read(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    document = made(module, details={"x": (1.23456789, True)}, skipped={"c": "absent"})
    path = module.write_document(document)
    again = module.read_document(path)
    assert path.name == "made.json"
    assert again.figures[0] == document.figures[0]
    assert again.figures[1].median == 1.2346
    assert again.details == {"x": [1.2346, True]}
    assert again.skipped == {"c": "absent"}
    assert again.environment == document.environment


def test_a_figure_has_its_median_its_span_and_its_rounds(module: ModuleType) -> None:
    many = module.Figure.of("a", "frame", [[1.0] * 9 + [9.0], [2.0] * 10])
    assert many.median == 2.0
    assert (many.low, many.high) == (1.0, 2.0)  # widened to the median of the first round
    assert many.rounds == (1.0, 2.0)
    assert many.count == 20
    assert many.maximum == 9.0
    assert many.span == "1 .. 2"


def test_a_single_value_has_no_span(module: ModuleType) -> None:
    one = module.Figure.of("a", "frame", [[3.0]])
    assert (one.low, one.high, one.span) == (None, None, "-")


def test_a_quantity_that_nothing_explains_is_refused(module: ModuleType) -> None:
    with pytest.raises(module.SchemaError, match="nothing says what these include: frame"):
        made(module, includes={})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"low": None}, "half an interval"),
        ({"low": 2.9}, "outside its span"),
        ({"count": 0}, "no values"),
        ({"rounds": ()}, "no values"),
    ],
)
def test_impossible_figures_are_refused(
    module: ModuleType, change: dict[str, Any], match: str
) -> None:
    fields = vars(module.Figure.of("a", "frame", [[1.0, 2.0, 3.0]]))
    with pytest.raises(module.SchemaError, match=match):
        module.Figure(**{**fields, **change})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"schema": 1, "benchmark": "old"}', "schema 1, expected 2 of segedge benchmarks"),
        ('{"schema": 2, "kind": "segedge bench"}', "measure again with --save"),
        ("[]", "schema None"),
        ("{", "no JSON"),
    ],
)
def test_other_files_are_refused_with_their_schema(
    module: ModuleType, tmp_path: Path, text: str, match: str
) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(module.SchemaError, match=match):
        module.read_document(path)


def test_a_damaged_file_is_refused(module: ModuleType, tmp_path: Path) -> None:
    data = json.loads(made(module).to_json())
    del data["figures"][0]["median"]
    path = tmp_path / "made.json"
    path.write_text(json.dumps(data))
    with pytest.raises(module.SchemaError, match=r"made.json is damaged.*median"):
        module.read_document(path)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_explains_itself(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("sys.argv", [script, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
    assert not ended.value.code
    assert f"benchmarks/{script}" in capsys.readouterr().out


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_readme_has_every_script(script: str) -> None:
    anchor = script.replace(".", "").lower()
    assert f"| [{script}](#{anchor}) |" in README
    assert f"\n## {script}\n" in README


def test_the_readme_names_no_script_that_is_absent() -> None:
    assert set(re.findall(r"^\| \[([a-z_]+\.py)\]", README, re.MULTILINE)) == set(SCRIPTS)
