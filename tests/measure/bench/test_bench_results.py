"""Results, their file, their comparison and what is said of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from bench_parts import made, results, row

from segedge.card.geometry import Size
from segedge.errors import UsageError
from segedge.machine.environment import Environment
from segedge.measure.bench import runner
from segedge.measure.bench import tables as report
from segedge.measure.bench.compare import compare, judge, notes
from segedge.measure.bench.html import html
from segedge.measure.bench.results import read_results, write_results
from segedge.measure.bench.runner import BenchOptions


def test_the_file_holds_everything(tmp_path: Path) -> None:
    for rounds in ([[1.0, 2.0]], [[1.0] * 9, [2.0] * 9]):
        written = made(rounds)
        write_results(written, tmp_path / "r.json")
        assert read_results(tmp_path / "r.json") == written


@pytest.mark.parametrize(
    ("text", "message", "fact"),
    [
        ("{", "no results file", "Expecting"),
        ("[]", "no results file", "without a schema"),
        ('{"schema": 1}', "another schema", "schema 1: medians without their spread"),
        ('{"schema": 9}', "another schema", "schema 9: of a newer segedge"),
        ('{"schema": 2}', "damaged", "subject"),
        ('{"schema": 3}', "damaged", "rows"),
        ('{"schema": 3, "rows": [{"times": 3}]}', "damaged", "lacks subject"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str, message: str, fact: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_results(path)
    assert fact in caught.value.facts["found"]
    assert caught.value.fix


def test_results_of_schema_2_are_migrated(tmp_path: Path) -> None:
    """As the release before wrote them: one size for all, nothing seen of the machine."""
    new = made([[10.0] * 9])
    data = json.loads(new.to_json())
    data["schema"] = 2
    del data["environment"]["cpu_flags"]
    for found in data["rows"]:
        del found["times"]["quantiles_ms"]
        for name in ("batch", "network_size", "frame_size", "import_ms", "build_ms", "observed",
                     "device_memory_mb"):  # fmt: skip
            del found[name]
    path = tmp_path / "old.json"
    path.write_text(json.dumps(data))
    old = read_results(path)
    assert old.rows[0].key == new.rows[0].key
    assert (old.rows[0].import_ms, old.rows[0].observed) == (None, None)
    assert old.rows[0].times.quantiles_ms == ()
    (ratio,) = compare(old, new, tolerance=0.05)
    assert ratio.verdict == "same"
    assert "import" not in dict(report.included(old))
    assert html(old)


def test_lists_of_numbers_lie_in_one_line(tmp_path: Path) -> None:
    text = made([[10.0, 1e-7] * 9]).to_json()
    assert json.loads(text)["schema"] == 3
    assert len(text.splitlines()) < 150


def test_sizes_and_batches_are_compared_with_their_own(tmp_path: Path) -> None:
    rows = [row([[1.0] * 9], mode="network", batch=b) for b in (1, 4)]
    rows += [row([[5.0] * 9], frame_size=size) for size in ("96x128", "9x9")]
    slower = [row([[2.0] * 9], mode="network", batch=4), row([[5.0] * 9], frame_size="9x9")]
    found = compare(results(rows), results(slower), tolerance=0.05)
    assert [(r.key.mode, r.key.batch, r.value) for r in found] == [
        ("network", 4, 2.0), ("frame", 1, 1.0),
    ]  # fmt: skip
    assert report.ratio_table(found)[1][2] == "network 48x64, batch 4"
    only = [text for text in notes(results(rows), results(slower)) if "only in one" in text]
    assert only == [
        "only in one of them: onnxruntime frame, network 48x64, frame 96x128",
        "only in one of them: onnxruntime network, network 48x64",
    ]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_results(tmp_path / "absent.json")
    with pytest.raises(UsageError, match="cannot be written"):
        write_results(made([[1.0]]), tmp_path / "absent" / "r.json")


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (1.10, 1.02, 1.2, "slower"),
        (1.10, 0.99, 1.2, "too noisy to say"),
        (0.90, 0.85, 0.95, "faster"),
        (0.90, 0.85, 1.01, "too noisy to say"),
        (1.01, 0.98, 1.04, "same"),
        (1.01, 0.90, 1.04, "too noisy to say"),
    ],
)
def test_verdicts(value: float, low: float, high: float, verdict: str) -> None:
    assert judge(value, low, high, 0.05) == verdict


def test_ratios_by_hand() -> None:
    (ratio,) = compare(made([[10.0] * 9, [11.0] * 9]), made([[21.0] * 19]), tolerance=0.05)
    assert (ratio.before_ms, ratio.after_ms, ratio.value) == (10.5, 21.0, 2.0)
    assert ratio.low == pytest.approx(21 / 11)
    assert ratio.high == pytest.approx(2.1)
    assert ratio.verdict == "slower"


def test_what_cannot_be_compared() -> None:
    with pytest.raises(UsageError, match="different sizes") as caught:
        compare(made([[1.0]]), made([[1.0]], size="32x32"), tolerance=0.05)
    assert "network 32x32" in caught.value.facts["second"]
    with pytest.raises(UsageError, match="in common"):
        compare(made([[1.0]]), made([[1.0]], backend="openvino"), tolerance=0.05)


def test_other_models_are_told() -> None:
    assert notes(made([[1.0]]), made([[1.0]], sha256="1" * 64)) == [
        "the model files differ: the ratio compares two models"
    ]


def test_warnings() -> None:
    assert report.warnings(made([[10.0] * 9] * 2)) == []
    found = report.warnings(made([[10.0] * 9, [13.0] * 9], load=1.5, is_steady=False))
    assert "load 1.5 on 2 processors" in found[0]
    assert "too noisy to say" in found[1]
    assert "did not become steady" in found[2]
    rows = [
        row([[10.0] * 9, [b] * 9], mode="network", batch=int(b)) for b in (13.0, 14.0, 15.0, 16.0)
    ]
    (many,) = report.warnings(results(rows))
    assert many.startswith("4 of 4 figures (onnxruntime network, batch 16; ")
    assert "uncertain by 26 to 46 %" in many
    assert "differ by 14 %" in report.warnings(made([[10.0] * 9, [11.5] * 9]))[0]


def test_markdown_holds_the_tables_and_what_they_include() -> None:
    page = report.markdown(made([[10.0] * 9]))
    assert "| frame | onnxruntime | 10.00 | 10.00 .. 10.00 |" in page
    assert "| frame | onnxruntime | 0.50 | 1.00 | 0.50 |" in page
    assert "| onnxruntime | 300 | 50 | 20 | 100 |" in page
    assert "**frame**: uint8 BGR image" in page
    assert "**skipped** tensorrt: not installed" in page


@pytest.mark.parametrize(
    ("options", "found"),
    [({"rounds": 0}, "0"), ({"rounds": -1}, "-1"), ({"seconds": 0.0}, "0"),
     ({"seconds": float("nan")}, "nan")],
)  # fmt: skip
def test_counts_must_be_positive(options: dict[str, float], found: str) -> None:
    with pytest.raises(UsageError, match="must be positive") as caught:
        BenchOptions(**options)  # type: ignore[arg-type]
    assert caught.value.facts == {"found": found}


def test_unknown_backends_get_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="did you mean 'openvino'"):
        BenchOptions(backends=("opnvino",))


def test_a_worker_that_dies_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "encode_job", lambda job: "no json")
    job = runner.Job("m.onnx", "onnxruntime", ("frame",), Size(8, 8), 0.1)
    assert "ended with code 1" in runner.run_worker(job)["error"]


def test_the_environment_names_no_host_and_no_path() -> None:
    import platform

    text = json.dumps(Environment.capture().__dict__)
    assert str(Path.cwd()) not in text
    assert platform.node() not in text or len(platform.node()) < 6
