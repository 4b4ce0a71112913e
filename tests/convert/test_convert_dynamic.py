"""Dynamic axes, adaptive pooling, and the checks that catch what exporters get wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from convert_nets import SIZE, Tiny, up, up_corners

from segedge.card.geometry import Size
from segedge.convert import ExportOptions, export
from segedge.convert.parity import require_agreement, untraced_sizes
from segedge.convert.passes.pooling import FUSE_POOLING, pooling_matrix
from segedge.errors import ExportError, ParityError, SourceError, UsageError
from segedge.reference.agreement import LabelCount


def test_dynamic_batch_and_size(tmp_path: Path) -> None:
    options = ExportOptions(size=Size(*SIZE), dynamic=("batch", "size"))
    report = export(Tiny(up_corners), tmp_path / "m.onnx", options=options)
    assert report.input_shape == ("batch", 3, "height", "width")
    assert report.card.dynamic == ("batch", "size")
    assert report.tail.removed == ("Resize x8 bilinear, align_corners",)
    assert report.card.parity is not None
    assert len(report.card.parity.sizes) == 3
    session = onnxruntime.InferenceSession(report.path, providers=["CPUExecutionProvider"])
    for shape in [(1, 3, 64, 96), (3, 3, 128, 32), (2, 3, 40, 104)]:
        logits = session.run(None, {"image": np.zeros(shape, np.float32)})[0]
        assert logits.shape == (shape[0], 5, -(-shape[2] // 8), -(-shape[3] // 8))


def test_dynamic_batch_alone(tmp_path: Path) -> None:
    options = ExportOptions(size=Size(*SIZE), dynamic=("batch",))
    report = export(Tiny(up), tmp_path / "m.onnx", options=options)
    assert report.input_shape == ("batch", 3, *SIZE)
    assert report.output_shape == ("batch", 5, 8, 12)


def test_dynamic_size_is_refused_where_pooling_was_baked_in(tmp_path: Path) -> None:
    def tail(logits: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        pooled = F.adaptive_avg_pool2d(logits, 3)
        return up(
            logits + 4 * F.interpolate(pooled, size=logits.shape[-2:], mode="bilinear"), image
        )

    with pytest.raises(ParityError) as caught:
        export(
            Tiny(tail),
            tmp_path / "m.onnx",
            options=ExportOptions(size=Size(*SIZE), dynamic=("size",)),
        )
    assert "sizes it was not traced at" in str(caught.value)
    assert "AdaptiveAvgPool2d" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_the_code_depends_on_cannot_be_dynamic(tmp_path: Path) -> None:
    def tail(logits: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return up(logits + torch.ones(8, 12), image)

    with pytest.raises(ExportError):
        export(
            Tiny(tail),
            tmp_path / "m.onnx",
            options=ExportOptions(size=Size(*SIZE), dynamic=("size",)),
        )


@pytest.mark.parametrize("bins", [(2, 2), (3, 5), (6, 6)])
def test_adaptive_pooling_becomes_two_products(tmp_path: Path, bins: tuple[int, int]) -> None:
    def tail(logits: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        pooled = F.adaptive_avg_pool2d(logits, bins)
        return up(logits + F.interpolate(pooled, size=logits.shape[-2:], mode="bilinear"), image)

    options = ExportOptions(size=Size(72, 104))
    report = export(Tiny(tail), tmp_path / "m.onnx", options=options)
    assert report.nodes < 20 < report.nodes_before + 12
    assert "Gather" not in {node.op_type for node in onnx.load(report.path).graph.node}
    assert report.card.parity is not None
    assert (report.card.parity.max_logit_error or 0) < 1e-3


def test_pooling_matrix_is_torchs() -> None:
    values = torch.randn(1, 1, 11, 15, dtype=torch.float64)
    for rows, columns in [(1, 1), (2, 3), (6, 6), (11, 15)]:
        expected = F.adaptive_avg_pool2d(values, (rows, columns))[0, 0].numpy()
        found = pooling_matrix(11, rows) @ values[0, 0].numpy() @ pooling_matrix(15, columns).T
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_means_that_are_no_pooling_are_left_alone() -> None:
    text = """<ir_version: 10, opset_import: ["" : 20]>
    net (float[1, 2, 4, 4] x) => (float[1, 2, 2, 2] y) {
        i = Constant <value = int64[2] {0, 1}> ()
        j = Constant <value = int64[2] {2, 0}> ()
        three = Constant <value = float[1] {3}> ()
        a = Gather <axis = 2> (x, i)
        b = Gather <axis = 3> (a, i)
        c = Gather <axis = 2> (x, j)
        d = Gather <axis = 3> (c, j)
        e = Add (b, d)
        y = Div (e, three)
    }"""
    model = onnx_ir.from_proto(onnx.parser.parse_model(text))
    assert not FUSE_POOLING(model).changed
    assert "Gather" in {node.op_type for node in model.graph}


def test_numbers_of_a_failed_comparison() -> None:
    from segedge.card.card import ModelCard

    card = ModelCard(("a", "b"), ((0, 0, 0), (1, 1, 1)), 64, 96)
    require_agreement(LabelCount(1000, 100, 900, 0.5), card, images=1)
    with pytest.raises(ParityError) as caught:
        require_agreement(LabelCount(1000, 100, 891, 0.5), card, images=3)
    assert "99.000 % of the unambiguous pixels (3 images at 64x96)" in str(caught.value)
    assert "10.000 %" in str(caught.value)
    assert "5.00e-01" in str(caught.value)


def test_a_comparison_of_ties_proves_nothing() -> None:
    from segedge.card.card import ModelCard

    card = ModelCard(("a", "b"), ((0, 0, 0), (1, 1, 1)), 64, 96)
    with pytest.raises(ParityError, match="cannot be measured") as caught:
        require_agreement(LabelCount(1000, 501, 499, 0.0), card, images=4)
    assert "50.1 % of the pixels (4 images at 64x96)" in str(caught.value)


def test_nan_is_no_agreement(tmp_path: Path) -> None:
    """NaN equals nothing and differs from nothing: unchecked it would pass as all ambiguous."""
    broken = Tiny(lambda logits, image: up(logits, image) * float("nan"))
    with pytest.raises(ExportError, match="gives NaN before anything was done to it") as caught:
        export(broken, tmp_path / "m.onnx", options=ExportOptions(size=Size(*SIZE)))
    assert "100 % of the outputs" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_nan_of_the_exported_network_alone() -> None:
    from segedge.card.card import ModelCard
    from segedge.convert import parity
    from segedge.convert.options import TailReport
    from segedge.convert.passes.chain import TailState
    from segedge.convert.passes.head import HeadFacts

    card = ModelCard(("a", "b"), ((0, 0, 0), (1, 1, 1)), 8, 8)
    logits = np.random.default_rng(0).standard_normal((1, 2, 8, 8)).astype(np.float32)
    state = TailState(1, 4, 2)
    head = HeadFacts("logits", "nchw", 2, Size(8, 8), False, False, state, TailReport(cut=False))

    def nan(_: np.ndarray) -> np.ndarray:
        return np.full_like(logits, np.nan)

    images = [np.zeros((8, 8, 3), np.uint8)]
    with pytest.raises(ParityError, match="NaN where the original does not"):
        parity.compare(lambda _: logits, nan, images, card=card, head=head)


def test_untraced_sizes_differ_in_both_axes() -> None:
    for traced in (Size(64, 96), Size(32, 32), Size(512, 1024), Size(360, 480), Size(8, 8)):
        for size in untraced_sizes(traced, 8):
            assert size.height != traced.height
            assert size.width != traced.width


def test_verification_on_a_video(tmp_path: Path) -> None:
    import cv2

    path = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    for index in range(30):
        noise = np.random.default_rng(index).integers(0, 256, (8, 12, 3), dtype=np.uint8)
        writer.write(cv2.resize(noise, (96, 64)))
    writer.release()
    options = ExportOptions(size=Size(*SIZE), verify=path, verify_images=5)
    report = export(Tiny(up), tmp_path / "m.onnx", options=options)
    assert report.card.parity is not None
    assert (report.card.parity.images, report.card.parity.kind) == (5, "images")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(SourceError, match=r"drive\.avi"):
        export(Tiny(up), tmp_path / "n.onnx", options=options)


def test_verification_images(tmp_path: Path) -> None:
    import cv2

    for index in range(5):
        image = np.random.default_rng(index).integers(0, 256, (50, 70, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{index}.png"), image)
    (tmp_path / "notes.txt").write_text("no image")
    options = ExportOptions(size=Size(*SIZE), verify=str(tmp_path / "*.png"), verify_images=3)
    report = export(Tiny(up), tmp_path / "m.onnx", options=options)
    assert report.card.parity is not None
    assert (report.card.parity.images, report.card.parity.kind) == (3, "images")
    (tmp_path / "2.png").write_bytes(b"broken")
    with pytest.raises(SourceError, match=r"cannot read image .*2\.png"):
        export(Tiny(up), tmp_path / "n.onnx", options=options)
    with pytest.raises(SourceError, match="not found"):
        export(
            Tiny(up),
            tmp_path / "n.onnx",
            options=ExportOptions(size=Size(*SIZE), verify=tmp_path / "none"),
        )


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="no dynamic axis"):
        ExportOptions(dynamic=("depth",))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="opset 9"):
        ExportOptions(opset=9)
