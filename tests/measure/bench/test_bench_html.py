"""The page: the answer first, every chart with what it includes, nothing from outside."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from bench_parts import made, results, row, seen

from segedge.errors import UsageError
from segedge.measure.bench import tables as report
from segedge.measure.bench.accuracy import Accuracy, matched, read_accuracy
from segedge.measure.bench.html import html
from segedge.measure.bench.results import Results
from segedge.measure.report.table import text_lines


def broad() -> Results:
    """Two backends, a cut, batches, sizes, a pipeline."""
    rows = []
    for backend, scale in (("openvino", 1.0), ("openvino+tail", 3.0), ("onnxruntime", 2.0)):
        nine = [scale + 0.01 * k for k in range(9)]
        rows += [
            row([nine], backend=backend, mode="network", batch=1),
            row([[3 * v for v in nine]], backend=backend, mode="network", batch=4),
            row([[4 * v for v in nine]], backend=backend, mode="network", network_size="96x128"),
            row([[2 * v for v in nine]], backend=backend, observed=seen(others=60.0)),
            row([[5 * v for v in nine]], backend=backend, frame_size="192x256"),
            row([[2 * v for v in nine]], backend=backend, mode="rate"),
        ]
    return results(rows)


def test_the_page_has_every_part() -> None:
    accuracies = [Accuracy("openvino", "", 61.5, "eval.json")]
    page = html(broad(), accuracies)
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "Speed", "Doubts", "What takes the time", "Distribution", "Growth",
        "Speed against accuracy", "What the cut brings", "Start and memory", "Not measured",
        "Environment", "Raw numbers",
    ]  # fmt: skip
    assert page.index('class="answer"') < page.index("<h2>Speed")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert len(captions) == page.count("<figure>") == 7
    assert all(len(caption) > 30 for caption in captions)
    assert not re.search(r"https?:|<script|\bsrc=", page)


def test_a_small_run_has_no_empty_parts() -> None:
    page = html(made([[10.0] * 9]))
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert "Growth" not in headings
    assert "Speed against accuracy" not in headings
    assert "Doubts" not in headings


def test_names_in_a_page_are_text() -> None:
    page = html(made([[10.0] * 9], backend="<b>&"))
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;" in page


def test_only_the_first_sizes_stand_at_the_top() -> None:
    page = html(broad())
    top = page[page.index("<h2>Speed") : page.index("<h2>What takes")]
    assert top.count("<tr") == 1 + 9
    assert page[page.index("<h2>Raw") :].count("<tr") == 1 + 18


def test_the_answer_in_words() -> None:
    rows = [row([[4.0] * 9]), row([[2.0] * 9], backend="openvino")]
    assert report.answer(results(rows)) == (
        "openvino: a 96x128 frame from image to overlay takes 2.00 ms (500 a second), 50 % of it "
        "in the network. That is the fastest here; onnxruntime takes 2.00 times as long."
    )
    rows = [row([[4.0] * 9]), row([[3.9] * 5 + [4.1] * 6], backend="openvino")]
    assert "openvino cannot be told apart from it" in report.answer(results(rows))
    assert "too noisy to say much" in report.answer(made([[10.0] * 9, [13.0] * 9]))
    rows = [row([[2.0] * 9], mode="network", batch=4)]
    assert "at 48x64 of 4 images takes 2.00 ms (2000 a second)" in report.answer(results(rows))
    rows = [row([[2.0] * 9], observed=seen(others=90.0))]
    assert report.answer(results(rows)).startswith("Measured on a machine that was busy")


def test_what_the_cut_brings() -> None:
    gains = report.cut_gains(broad())
    assert gains[1] == (
        "openvino network, batch 4, network 48x64: 3.12 ms, with the tail inside the graph 9.12 ms "
        "(2.92 times as long)"
    )
    assert len(set(gains)) == 6
    assert report.cut_gains(results([row([[1.0]]), row([[2.0]], backend="onnxruntime+tail")])) == [
        "onnxruntime frame: 1.00 ms, with the tail inside the graph 2.00 ms (2.00 times as long)"
    ]
    assert report.cut_gains(made([[1.0]])) == []


def test_columns_appear_where_something_varies() -> None:
    assert report.speed_table(made([[1.0]]))[0][:3] == ["mode", "backend", "p50 ms"]
    head = report.speed_table(broad())[0]
    assert head[:5] == ["mode", "backend", "batch", "network", "frame"]
    narrow = report.narrowed(report.speed_table(broad()), 80)
    assert max(map(len, text_lines(narrow))) <= 80
    assert narrow[0][-1] == "/s"


def test_stages_and_start_are_tables_of_their_own() -> None:
    assert report.stage_table(results([row([[1.0]], mode="network")])) == []
    assert report.start_table(made([[1.0]])) == [
        ["backend", "import ms", "open ms", "first ms", "peak MB"],
        ["onnxruntime", "300", "50", "20", "100"],
    ]
    watched = results([row([[1.0]], observed=seen(mhz=(2000, 3000), gpu_mhz=(900, 910)))])
    assert report.machine_table(watched)[1][2:] == ["150", "0", "0", "2000 .. 3000", "905"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"miou": 61.5, "backend": "openvino"}, [("openvino", "", 61.5)]),
        ({"backend": "openvino", "rows": [{"mIoU": 0.615, "precision": "fp16"}, {"miou": 60.0}]},
         [("openvino", "fp16", 61.5), ("openvino", "", 60.0)]),
        ({"results": {"x": {"backend": "a", "mean_iou": 0.5}}}, [("a", "", 50.0)]),
        ([{"backend": "a", "miou": 1.0}], [("a", "", 100.0)]),
        ({"backend": "a", "miou": 0.6, "worst": [{"miou": 0.1}]}, [("a", "", 60.0)]),
        ({"backend": "a", "precision": "fp16", "more": [{"backend": "b", "miou": 50}]},
         [("b", "", 50.0)]),
    ],
)  # fmt: skip
def test_accuracy_files(
    tmp_path: Path, data: object, expected: list[tuple[str, str, float]]
) -> None:
    path = tmp_path / "eval.json"
    path.write_text(json.dumps(data))
    found = [(a.backend, a.precision, a.miou_percent) for a in read_accuracy(path)]
    assert found == expected


@pytest.mark.parametrize("text", ["{", "{}", '{"miou": "high"}', '{"miou": true}'])
def test_files_without_accuracy(tmp_path: Path, text: str) -> None:
    (tmp_path / "eval.json").write_text(text)
    with pytest.raises(UsageError, match="no accuracy file"):
        read_accuracy(tmp_path / "eval.json")
    with pytest.raises(UsageError, match="no accuracy file"):
        read_accuracy(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("backend", "precision", "measured", "description", "fits"),
    [
        ("openvino", "", "openvino:f32", "", True),
        ("openvino:f32", "", "openvino", "OpenVINO 1 (CPU, bf16, 2 threads)", False),
        ("openvino:f32", "", "openvino:f32", "", True),
        ("openvino", "bf16", "openvino", "OpenVINO 1 (CPU, bf16, 2 threads)", True),
        ("openvino", "float32", "openvino", "OpenVINO 1 (CPU, bf16, 2 threads)", False),
        ("tensorrt", "fp16", "tensorrt:fp16", "", True),
        ("tensorrt", "fp16", "tensorrt:int8", "", False),
        ("onnxruntime", "", "openvino", "", False),
    ],
)
def test_accuracy_belongs_to_a_precision(
    backend: str, precision: str, measured: str, description: str, fits: bool
) -> None:
    found = Accuracy(backend, precision, 60.0, "e.json")
    speed = row([[1.0]], backend=measured, description=description)
    assert bool(matched([speed], [found])) is fits
