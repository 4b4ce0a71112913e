"""What export finds out of a network's end by its operators, shapes and values, or asks for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from convert_nets import SIZE, Tail, Tiny, up

import segedge
from segedge.card.geometry import Size
from segedge.cli.main import run
from segedge.convert import ExportOptions, export
from segedge.convert.noise import smooth_noise
from segedge.convert.passes.bounds import bounds
from segedge.convert.reading import Reading
from segedge.errors import ExportError, ParityError, UsageError
from segedge.machine.onnx_session import Session
from segedge.segment.exported import run_once

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import heads

TAKEN = (
    "softmax, second class", "softmax, enlarged, second", "least to largest", "relu6 / 6",
    "stack of sigmoids, mean", "sigmoid, max-pooled", "sigmoid x 255", "least to largest x 255",
    "largest of softmax, squeezed", "sigmoid, threshold 0.3", "clamp, threshold 0.3",
    "logits, threshold 0.4", "logits, averaged", "tanh", "NHWC x 2", "NHWC, linear",
    "NHWC, as many as columns", "labels, H x W", "labels, 1 x (H W)",
    "labels made by where, N x H x W x 1", "mask of 0 and 255",
    "mask of 0 and 255, N x H x W x 1", "probability in bytes", "probabilities in bytes", "one-hot",
    "finest of several", "auxiliary first", "side outputs", "no padding, put back",
    "labels through a table, in float", "probabilities at stride 8",
    "probabilities at stride 8, classes last", "sigmoid at stride 8",
    "second of softmax at stride 8", "labels at stride 8", "sigmoid, saturated",
)  # fmt: skip
REFUSED = {
    "distances, not below 0": "from which value on a pixel is of the second class",
    "labels from 1 on": "labels that are none of its classes",
    "numbers for five names": "one channel of numbers for more than two classes",
    "another task beside it": "unclear which is the segmentation",
}


@pytest.mark.parametrize("name", TAKEN)
def test_labels_are_the_networks_own(name: str) -> None:
    found = heads.try_head(name, "module")
    assert not found.refused
    assert found.classes > 1, "a constant answer proves nothing"
    assert found.equal > 0.999


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_clear_is_asked_for(name: str) -> None:
    assert REFUSED[name] in heads.try_head(name, "module").refused


def exported(path: Path, tail: Tail, channels: int = 1, **options: Any) -> Any:
    return export(Tiny(tail, channels), path, options=ExportOptions(size=Size(*SIZE), **options))


def test_the_finest_of_several_says_how_it_is_enlarged(tmp_path: Path) -> None:
    """Its own logits beside it, from which it is made, do not."""
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[1, 3, 32, 64] x) =>
        (float[1, 3, 4, 8] low, float[1, 3, 32, 64] fine) {
        p = AveragePool <kernel_shape = [8, 8], strides = [8, 8]> (x)
        ten = Constant <value = float[1] {10}> ()
        low = Mul (p, ten)
        s = Constant <value = float[4] {1, 1, 8, 8}> ()
        fine = Resize <mode = "linear", coordinate_transformation_mode = "align_corners">
            (low, , s)
    }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "theirs.onnx")
    report = export(tmp_path / "theirs.onnx", tmp_path / "m.onnx")
    assert report.card.align_corners
    assert any("took output fine 1x3x32x64 of 2" in note for note in report.notes)


def test_labels_of_a_coarse_grid_are_told(tmp_path: Path) -> None:
    report = exported(tmp_path / "m.onnx", lambda y, _: y.argmax(1), 5)
    assert any("--keep-tail takes its labels" in note for note in report.notes)


def test_a_threshold_that_was_found_is_told(tmp_path: Path) -> None:
    report = exported(tmp_path / "m.onnx", lambda y, x: up(y, x).sigmoid() * 255)
    assert "its operators keep to 0 to 255" in report.notes[0]
    assert "above 127.5; --threshold" in report.notes[0]
    assert report.card.probabilities


def test_operators_and_values_that_disagree_are_refused(tmp_path: Path) -> None:
    """Parity reads the original by its values, not by what the surgery took it for."""
    tail: Tail = lambda y, x: (up(y, x) - 12).sigmoid() * 255  # noqa: E731
    with pytest.raises(ParityError) as caught:
        exported(tmp_path / "m.onnx", tail)
    assert "say 127.5" in str(caught.value)
    assert "says 0.5" in str(caught.value)
    assert "--threshold" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "limit"),
    [((-3.0, 9.0), 0.0), ((0.1, 0.7), 0.5), ((0.0, 255.0), 127.5), ((0.0, 7.0), None)],
)
def test_values_alone(values: tuple[float, float], limit: float | None) -> None:
    reading = Reading()
    for value in values:
        reading.add(np.full((1, 1, 2, 2), value))
    assert reading.limit == limit


def test_labels_of_no_class_are_told_where_they_are_the_ignored_ones(tmp_path: Path) -> None:
    def tail(logits: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        full = up(logits, image)
        return torch.where(full.std(1) > 1, full.argmax(1), 255)

    report = exported(tmp_path / "m.onnx", tail, 5, classes=tuple("abcde"))
    assert report.card.ignore_index == 255
    assert any("% of its labels are 255" in note for note in report.notes)


@pytest.mark.parametrize(
    ("tail", "channels", "threshold", "message"),
    [
        (up, 5, 0.5, "one channel of numbers"),
        (lambda y, x: (up(y, x) > 1).float(), 1, 0.5, "one channel of numbers"),
        (lambda y, x: up(y, x).sigmoid(), 1, 2.0, "between 0 and 1"),
    ],
    ids=["many channels", "a threshold inside", "beyond a sigmoid"],
)
def test_thresholds_that_cannot_be_meant(
    tmp_path: Path, tail: Tail, channels: int, threshold: float, message: str
) -> None:
    with pytest.raises(UsageError, match="threshold") as caught:
        exported(tmp_path / "m.onnx", tail, channels, threshold=threshold)
    assert message in str(caught.value)


BOUNDS = {
    "s = Sigmoid (x)\n y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (s)": (0, 1),
    "y = Softmax <axis = 1> (x)": (0, 1),
    "y = Tanh (x)": (-1, 1),
    "a = Constant <value = float {-2}> ()\n s = Sigmoid (x)\n y = Mul (s, a)": (-2, 0),
    "s = Sigmoid (x)\n t = Tanh (x)\n y = Sub (s, t)": (-1, 2),
    "a = Constant <value = float {0}> ()\n b = Constant <value = float {6}> ()\n"
    "y = Clip (x, a, b)": (0, 6),
    "m = ReduceMin <keepdims = 1> (x)\n y = Sub (x, m)": (0, np.inf),
    "m = ReduceMax <keepdims = 1> (x)\n y = Sub (m, x)": (0, np.inf),
    "r = Relu (x)\n one = Constant <value = float {1}> ()\n d = Add (r, one)\n"
    "s = Sigmoid (x)\n y = Div (s, d)": (0, 1),
    "s = Sigmoid (x)\n two = Constant <value = float {2}> ()\n y = Pow (s, two)": (0, 1),
    "s = Sigmoid (x)\n t = Relu (x)\n y = Concat <axis = 1> (s, t)": (0, np.inf),
    "s = Sigmoid (x)\n r = Constant <value = float[4] {1, 1, 2, 2}> ()\n"
    'y = Resize <mode = "cubic"> (s, , r)': (-np.inf, np.inf),
    "a = Abs (x)\n y = Neg (a)": (-np.inf, 0),
    "g = Greater (x, x)\n y = Cast <to = 1> (g)": (0, 1),
}


@pytest.mark.parametrize("body", BOUNDS)
def test_bounds_hold(body: str) -> None:
    text = f"net (float[1, 2, 8, 8] x) => (float[1, C, H, W] y) {{ {body} }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    low, high = bounds(onnx_ir.from_proto(model).graph.outputs[0])
    assert (low, high) == pytest.approx(BOUNDS[body])
    tensor = 5 * np.random.default_rng(0).standard_normal((1, 2, 8, 8)).astype(np.float32)
    output = Session(model)(tensor)
    assert low - 1e-6 <= output.min() <= output.max() <= high + 1e-6


def test_an_axis_that_nothing_tells_is_asked_about(tmp_path: Path) -> None:
    """8 classes at stride 5.2, or 18 at stride 8 or so? A running sum knows neither."""

    def tail(logits: torch.Tensor, _image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(logits, size=(13, 19)).cumsum(1)

    with pytest.raises(ExportError) as caught:
        exported(tmp_path / "m.onnx", tail, 8)
    assert "8 classes on 13x19, or 19 classes on 8x13" in str(caught.value)
    assert "--classes" in str(caught.value)
    report = exported(tmp_path / "m.onnx", tail, 8, classes=tuple("abcdefgh"))
    assert (report.channels, report.card.logits_layout) == (8, "nchw")


class Cropping(torch.nn.Module):
    """Convolutions without padding, and a classifier; stride 4."""

    def __init__(self, count: int, norm: torch.nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = norm or torch.nn.Identity()
        self.stem = torch.nn.Conv2d(3, 5, 4, stride=4)
        self.layers = torch.nn.ModuleList(torch.nn.Conv2d(5, 5, 3) for _ in range(count))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = self.stem(image)
        for layer in self.layers:
            logits = self.norm(layer(logits))
        return 30 * (logits - logits.mean((2, 3), keepdim=True))


@pytest.mark.parametrize("norm", [None, torch.nn.GroupNorm(5, 5), torch.nn.BatchNorm2d(5)])
def test_a_network_that_crops_is_refused_with_its_numbers(
    tmp_path: Path, norm: torch.nn.Module | None
) -> None:
    options = ExportOptions(size=Size(64, 96))
    with pytest.raises(ExportError) as caught:
        export(Cropping(3, norm), tmp_path / "m.onnx", options=options)
    text = " ".join(str(caught.value).split())
    assert "a map of 10x18 for an input of 64x96" in text
    assert "40x72 pixels, at stride 4" in text
    assert "12 rows, 12 columns a side left out" in text
    assert "F.pad(" in text
    assert list(tmp_path.iterdir()) == []
    report = export(Cropping(0), tmp_path / "m.onnx", options=options)
    assert report.card.stride == 4


def test_a_map_with_rows_and_columns_swapped_is_called_so(tmp_path: Path) -> None:
    class Swapping(Cropping):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return super().forward(image).transpose(2, 3)

    options = ExportOptions(size=Size(64, 96), classes=tuple("abcde"))
    with pytest.raises(ExportError, match="rows and columns of the network's map are swapped"):
        export(Swapping(0), tmp_path / "m.onnx", options=options)


def test_a_map_of_another_shape_is_laid_over_its_input_where_operators_say_so(
    tmp_path: Path,
) -> None:
    """A network that makes its input square inside."""

    class Square(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tiny = Tiny(lambda y, _: y)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            square = torch.nn.functional.interpolate(image, size=(64, 64), mode="bilinear")
            return self.tiny(square)

    report = export(Square(), tmp_path / "m.onnx", options=ExportOptions(size=Size(64, 128)))
    assert report.output_shape == (1, 5, 8, 8)
    assert not any("stretched" in note for note in report.notes)


def test_a_border_of_less_than_a_cell_is_told(tmp_path: Path) -> None:
    assert any("stretched over all of it" in note for note in heads.try_head(
        "no padding", "module").notes)  # fmt: skip


def test_the_logits_error_is_told_beside_their_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = exported(tmp_path / "m.onnx", lambda y, x: 3e4 * up(y, x), 5, keep_tail=True)
    parity = report.card.parity
    assert parity is not None
    assert parity.max_logit_error is not None
    assert parity.logit_range is not None
    assert parity.logit_range > 3e4
    assert parity.max_logit_error < 1e-5 * parity.logit_range
    with pytest.raises(SystemExit):
        run(["export", str(report.path), "-o", str(tmp_path / "again.onnx")])
    assert "of the range of " in " ".join(capsys.readouterr().out.split())


def test_the_file_is_run_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card that does not fit its graph: `load` refuses it, and so does export's last step."""
    report = exported(tmp_path / "good.onnx", up, 5)
    run_once(report.path)
    model = onnx.load(report.path)
    card = report.card.replace(classes=tuple("abc"), palette_rgb=report.card.palette_rgb[:3])
    onnx.helper.set_model_props(model, card.to_metadata())
    onnx.save(model, tmp_path / "bad.onnx")
    with pytest.raises(ExportError) as caught:
        run_once(tmp_path / "bad.onnx")
    assert "segedge run refuses the file" in str(caught.value)
    assert "3 channels for 3 classes" in str(caught.value)

    seen: list[bytes] = []

    def refuses(path: Path) -> None:
        seen.append(path.read_bytes())
        assert not (tmp_path / "m.onnx").exists()
        raise ExportError("no")

    monkeypatch.setattr("segedge.segment.exported.run_once", refuses)
    options = ExportOptions(size=Size(*SIZE))
    with pytest.raises(ExportError, match="no"):
        segedge.export(Tiny(up), tmp_path / "m.onnx", options=options)
    assert len(seen[0]) > 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.onnx", "good.onnx"]


class Forward(torch.nn.Module):
    """A convolution, with what is done to its input and its output."""

    def __init__(self, before: Any, after: Any) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)
        self.before, self.after = before, after

    def forward(self, image: torch.Tensor) -> Any:
        return self.after(self.conv(self.before(image)))


def test_a_network_that_writes_into_its_input(tmp_path: Path) -> None:
    network = Forward(lambda image: image.sub_(0.5).div_(0.5), lambda logits: 9 * logits).eval()
    options = ExportOptions(size=Size(32, 48), mean=(0.0,) * 3, std=(1.0,) * 3)
    report = export(network, tmp_path / "m.onnx", options=options)
    image = next(smooth_noise(Size(32, 48), 1))
    tensor = torch.tensor((image[..., ::-1] / 255.0).transpose(2, 0, 1)[None], dtype=torch.float32)
    with torch.no_grad():
        wanted = network(tensor).argmax(1)[0].numpy()
    with segedge.load(report.path, backend="onnxruntime") as segmenter:
        assert np.mean(segmenter(image).labels == wanted) > 0.995


def test_arrays_and_further_arguments_are_refused_with_what_mends_them(tmp_path: Path) -> None:
    class Two(Forward):
        def forward(self, image: torch.Tensor, scale: torch.Tensor) -> Any:
            return super().forward(image) * scale

    def same(value: torch.Tensor) -> torch.Tensor:
        return value

    options = ExportOptions(size=Size(32, 48))
    with pytest.raises(ExportError, match="returns NumPy arrays"):
        export(Forward(same, lambda x: x.detach().numpy()), tmp_path / "m.onnx", options=options)
    with pytest.raises(ExportError) as caught:
        export(Two(same, same), tmp_path / "m.onnx", options=options)
    assert "takes the image alone" in str(caught.value)
