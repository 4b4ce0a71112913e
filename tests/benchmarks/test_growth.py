"""sizes.py, startup.py and opening.py: the fitted line, and small runs from end to end."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segedge.machine.cache_folder import cache_path
from tests.processes import ended

ROOT = Path(__file__).parents[2]

Load = Callable[[str], ModuleType]
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
real = st.floats(-100, 100)


@given(constant=real, slope=real)
def test_a_line_is_found_again(constant: float, slope: float) -> None:
    import sizes

    points = [(x, constant + slope * x) for x in (0.5, 1.0, 2.0, 8.0)]
    found = sizes.fit("tail", "class", points)
    assert found.constant_ms == pytest.approx(constant, abs=1e-6)
    assert found.per_unit_ms == pytest.approx(slope, abs=1e-6)


def test_r2_is_the_explained_share(load: Load) -> None:
    """Of 0, 1, 0 on 0, 1, 2 the best line is flat and explains nothing."""
    sizes = load("sizes")
    assert sizes.fit("q", "u", [(0, 0), (1, 1), (2, 0)]).r2 == pytest.approx(0.0)
    assert sizes.fit("q", "u", [(0, 0), (1, 1), (2, 2)]).r2 == pytest.approx(1.0)
    assert sizes.fit("q", "u", [(0, 3), (2, 4)]).text == "q: 3.000 ms + 0.500 ms a u, R2 1.000"


def test_sizes_runs(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, document = load("sizes"), load("document")
    monkeypatch.setattr(document, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["sizes.py", "--quick", "--save", "--only", "classes"])
    assert sizes.main() == 0
    read = document.read_document(tmp_path / "sizes-quick.json")
    units = {f.parameters["units"] for f in read.figures if f.quantity == "tail, overlay"}
    assert units == {2, 11, 19, 64, 150, 256}
    (labels, overlay) = read.details["fits"]["classes"]
    assert (labels["quantity"], overlay["unit"]) == ("tail, labels", "class")


def test_the_sweeps_with_a_network_run(load: Load, street: Path, tmp_path: Path) -> None:
    """Their steps on the tiny network; the real sizes take minutes to export."""
    from types import SimpleNamespace

    sizes = load("sizes")
    shutil.copytree(street, tmp_path, dirs_exist_ok=True)
    (tmp_path / "cut.onnx").rename(tmp_path / "tiny.onnx")
    options = SimpleNamespace(folder=tmp_path, backend="onnxruntime", quick=True)
    steps = sizes.network_steps("tiny", options)
    assert list(steps) == ["network", "frame"]
    for step in steps.values():
        step()


def test_startup_runs(
    load: Load, street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    startup, document = load("startup"), load("document")
    monkeypatch.setattr(document, "RESULTS", tmp_path)
    words = ["--quick", "--save", "--model", str(street / "cut.onnx"), "--against", str(ROOT)]
    chosen = ["segedge --help", "first frame of a file to a file"]
    only = [word for name in chosen for word in ("--only", name)]
    monkeypatch.setattr("sys.argv", ["startup.py", *words, *only])
    assert startup.main() == 0
    read = document.read_document(tmp_path / "startup-quick.json")
    both = [f"{name}{suffix}" for name in chosen for suffix in ("", ", before")]
    assert [(figure.variant, figure.unit) for figure in read.figures] == [
        (name, unit) for unit in ("s", "MB") for name in both
    ]
    assert all(figure.median > 0 for figure in read.figures)
    assert [row["start"] for row in read.details["ratios"]] == [*chosen, *chosen]
    assert [entry["wanted_s"] for entry in read.details["wanted"]] == [0.3, 1.5]
    assert not read.skipped


def test_opening_runs(
    load: Load, street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, document = load("opening"), load("document")
    monkeypatch.setattr(document, "RESULTS", tmp_path)
    monkeypatch.setenv("SEGEDGE_CACHE_DIR", str(cache_path("cpu").parent))  # put back afterwards
    words = ["--quick", "--save", "--model", str(street / "cut.onnx"), "--backend", "onnxruntime"]
    monkeypatch.setattr("sys.argv", ["opening.py", *words])
    assert opening.main() == 0
    read = document.read_document(tmp_path / "opening-quick.json")
    assert not read.skipped
    medians = {(figure.variant, figure.quantity): figure.median for figure in read.figures}
    for way in ("first", "later"):
        name = f"onnxruntime, {way}"
        found = medians[name, "result"] - medians["onnxruntime, unchecked", "result"]
        assert medians[name, "later by"] == pytest.approx(found, abs=0.01)


def test_a_start_that_fails_is_told(load: Load) -> None:
    startup = load("startup")
    bad = startup.Start((sys.executable, "-c", "raise SystemExit('no such model')"))
    seconds, failed = startup.measure({"bad": bad}, {"": ROOT}, rounds=2)
    assert seconds == {}
    assert failed == {"bad": "it ended with code 1: no such model"}


def test_fresh_caches_are_empty_each_time(load: Load) -> None:
    startup = load("startup")
    code = (
        "import os, pathlib; folder = pathlib.Path(os.environ['SOME_CACHE']); "
        "assert not list(folder.iterdir()); (folder / 'filled').touch()"
    )
    start = startup.Start((sys.executable, "-c", code), fresh=("SOME_CACHE",))
    for _ in range(2):
        seconds, megabytes = startup.run_once(start, ROOT)
        assert seconds > 0
        assert megabytes > 1


def test_names_that_are_not_there_are_refused(
    load: Load, street: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", str(street / "cut.onnx")]
    monkeypatch.setattr("sys.argv", ["startup.py", *model, "--only", "nothing"])
    with pytest.raises(SystemExit):
        load("startup").main()
    assert "--only nothing: here are python alone, import segedge" in capsys.readouterr().err


def test_a_pipeline_run_gives_quantities_that_are_explained(load: Load) -> None:
    import json

    command = [sys.executable, str(BENCHMARKS / "pipeline.py"), "--quick", "--variant", "fixed-30"]
    done = ended(command, env={"PYTHONPATH": str(BENCHMARKS.parent), "PATH": ""})
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout.strip().splitlines()[-1])
    assert set(row) <= set(load("pipeline").INCLUDES)
    assert row["shown"] + row["missed"] == 15
