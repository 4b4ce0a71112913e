"""Existing ONNX files: adopted, closed, cut, or refused with the reason."""

from __future__ import annotations

import collections
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from convert_nets import DATA, MODELS, SIZE, plain

from segedge.card.card import CARD_KEY, ModelCard
from segedge.card.geometry import Size
from segedge.card.modelfile import read_facts, read_metadata
from segedge.convert import ExportOptions, adopt, export
from segedge.errors import CardError, ExportError, ModelError, SinkError, UsageError
from segedge.machine.files import write_atomically

HEADER = '<ir_version: 10, opset_import: ["" : {opset}]>\n'
CONV = "Constant <value = float[3, 3, 1, 1] {1, 0, 0, 0, 1, 0, 0, 0, 1}> ()"


def model(path: Path, text: str, *, opset: int = 20, **metadata: str) -> Path:
    proto = onnx.parser.parse_model(HEADER.format(opset=opset) + text)
    for key, value in metadata.items():
        proto.metadata_props.add(key=key.replace("__", " "), value=value)
    onnx.save(proto, path)
    return path


def small(
    path: Path, tail: str, output: str, *, opset: int = 20, n: str = "1", **metadata: str
) -> Path:
    """A 1x1 convolution at stride 8 of a 32x64 image, then ``tail`` from ``l`` to ``y``."""
    text = f"""net (float[{n}, 3, 32, 64] x) => ({output} y) {{
        w = {CONV}
        p = AveragePool <kernel_shape = [8, 8], strides = [8, 8]> (x)
        c = Conv (p, w)
        ten = Constant <value = float[1] {{10}}> ()
        l = Mul (c, ten)
        {tail}
    }}"""
    return model(path, text, opset=opset, **metadata)


RESIZE = 'y = Resize <mode = "linear", coordinate_transformation_mode = "{}"> (l, roi, s)'
SCALES = (
    "roi = Constant <value = float[0] {}> ()\n s = Constant <value = float[4] {1, 1, 8, 8}> ()\n"
)
NO_OPTIONS = ExportOptions()


@pytest.mark.parametrize("opset", [11, 13, 18, 21])
def test_resize_with_scales_is_cut_in_every_opset(tmp_path: Path, opset: int) -> None:
    tail = SCALES + RESIZE.format("pytorch_half_pixel")
    path = small(tmp_path / "a.onnx", tail, "float[1, 3, 32, 64]", opset=opset)
    report = adopt(path, tmp_path / "b.onnx")
    assert report.tail.removed == ("Resize x8 bilinear",)
    assert (report.opset, report.output_shape) == (opset, (1, 3, 4, 8))
    assert report.card.classes == ("class 0", "class 1", "class 2")


def test_an_antialias_that_does_nothing_is_no_obstacle(tmp_path: Path) -> None:
    tail = (
        "s = Constant <value = int64[4] {1, 3, 32, 64}> ()\n"
        'y = Resize <mode = "linear", antialias = 1> (l, , , s)'
    )
    report = adopt(small(tmp_path / "a.onnx", tail, "float[1, 3, 32, 64]"), tmp_path / "b.onnx")
    assert report.tail.removed == ("Resize x8 bilinear",)
    (done,) = [each for each in report.passes if each.name == "compute alike"]
    assert done.detail == "Resize without antialias, which enlarging does not need"


@pytest.mark.parametrize(
    ("tail", "output", "reason"),
    [
        (SCALES + RESIZE.format("asymmetric"), "float[1, 3, 32, 64]", "asymmetric"),
        (
            "s = Constant <value = float[4] {1, 1, 2, 2}> ()\n"
            'u = Resize <mode = "linear"> (l, , s)\n y = Relu (u)',
            "float[1, 3, 8, 16]",
            "nothing to cut",
        ),
        ("y = Softmax <axis = 2> (l)", "float[1, 3, 4, 8]", "Softmax is not over the classes"),
        ("y = ArgMax <axis = 2, keepdims = 0> (l)", "int64[1, 3, 8]", "ArgMax is not over"),
    ],
)
def test_what_is_not_exactly_known_stays(
    tmp_path: Path, tail: str, output: str, reason: str
) -> None:
    path = small(tmp_path / "a.onnx", tail, output)
    options = ExportOptions(classes=("a", "b", "c", "d") if "int64" in output else None)
    report = adopt(path, tmp_path / "b.onnx", options=options)
    assert not report.tail.cut
    assert reason in report.tail.reason


def test_channels_last_tail(tmp_path: Path) -> None:
    tail = "t = Transpose <perm = [0, 2, 3, 1]> (l)\n y = Softmax <axis = 3> (t)"
    path = small(tmp_path / "a.onnx", tail, "float[1, 4, 8, 3]")
    report = adopt(path, tmp_path / "b.onnx", options=ExportOptions(keep_tail=False))
    assert (report.output_shape, report.card.logits_layout) == ((1, 3, 4, 8), "nchw")
    assert report.tail.removed == ("Transpose", "Softmax")
    report = adopt(path, tmp_path / "b.onnx")
    assert (report.output_shape, report.card.logits_layout) == ((1, 4, 8, 3), "nhwc")
    assert "probabilities whose enlarging is left to the user" in report.tail.reason


def test_channels_last_network(tmp_path: Path) -> None:
    text = f"""net (float[1, 32, 64, 3] x) => (int64[1, 32, 64] y) {{
        w = {CONV}
        n = Transpose <perm = [0, 3, 1, 2]> (x)
        c = AveragePool <kernel_shape = [8, 8], strides = [8, 8]> (n)
        d = Conv (c, w)
        ten = Constant <value = float[1] {{10}}> ()
        e = Mul (d, ten)
        l = Transpose <perm = [0, 2, 3, 1]> (e)
        s = Constant <value = float[4] {{1, 8, 8, 1}}> ()
        u = Resize <mode = "linear"> (l, , s)
        p = Softmax <axis = -1> (u)
        y = ArgMax <axis = -1, keepdims = 0> (p)
    }}"""
    report = adopt(model(tmp_path / "a.onnx", text), tmp_path / "b.onnx")
    assert (report.card.input_layout, report.card.logits_layout) == ("nhwc", "nhwc")
    assert report.tail.removed == ("Resize x8 bilinear", "Softmax", "ArgMax")
    assert report.card.stride == 8


def test_sequences_of_tensors_stay_what_they_are(tmp_path: Path) -> None:
    """As exporters write a loop over chunks; onnx_ir's inference takes them for tensors."""
    text = (
        '<ir_version: 9, opset_import: ["" : 17]> g (float[1,3,64,96] image) => '
        "(float[1,4,32,48] logits) { c = Conv<strides = [2, 2]>(image, w) "
        "s = SplitToSequence<axis = 1>(c) y = ConcatFromSequence<axis = 1>(s) logits = Conv(y, v) }"
    )
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in (("w", (8, 3, 1, 1)), ("v", (4, 8, 1, 1))):
        array = rng.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, tmp_path / "theirs.onnx")
    out = tmp_path / "ours.onnx"
    adopt(tmp_path / "theirs.onnx", out, options=ExportOptions(classes=tuple("abcd")))
    image = rng.normal(size=(1, 3, 64, 96)).astype(np.float32)
    theirs, ours = (
        onnxruntime.InferenceSession(str(path)).run(None, {"image": image})[0]
        for path in (tmp_path / "theirs.onnx", out)
    )
    np.testing.assert_array_equal(ours, theirs)


def test_open_axes_are_closed_unless_asked(tmp_path: Path) -> None:
    tail = SCALES + RESIZE.format("half_pixel")
    path = small(tmp_path / "a.onnx", tail, "float[N, 3, 32, 64]", n="N")
    report = adopt(path, tmp_path / "b.onnx")
    assert report.input_shape == (1, 3, 32, 64)
    assert report.notes == ("open axes closed: N=1 (--dynamic keeps them)",)
    report = adopt(path, tmp_path / "c.onnx", options=ExportOptions(dynamic=("batch",)))
    assert report.input_shape == ("N", 3, 32, 64)
    with pytest.raises(ExportError, match="has a fixed size"):
        adopt(path, tmp_path / "d.onnx", options=ExportOptions(dynamic=("size",)))
    with pytest.raises(UsageError, match="fixed at another size"):
        adopt(path, tmp_path / "d.onnx", options=ExportOptions(size=Size(64, 64)))


def test_ultralytics_metadata(tmp_path: Path) -> None:
    path = small(
        tmp_path / "a.onnx",
        "y = Identity (l)",
        "float[1, 3, 4, 8]",
        names="{0: 'road', 1: 'traffic light', 2: 'car'}",
        task="semantic",
        imgsz="[32, 64]",
        license="AGPL-3.0",
        args="{'data': '/home/someone/data.yaml'}",
    )
    report = adopt(path, tmp_path / "b.onnx")
    card = report.card
    assert card.classes == ("road", "traffic light", "car")
    assert (card.mean, card.std, card.fit, card.pad_value) == ((0,) * 3, (1,) * 3, "letterbox", 114)
    metadata = read_metadata(tmp_path / "b.onnx")
    assert metadata["license"] == "AGPL-3.0"
    assert "someone" not in str(metadata)
    assert metadata["model_info labels"] == "road traffic_light car"
    again = adopt(tmp_path / "b.onnx", tmp_path / "c.onnx", options=ExportOptions(mean=(0.5,) * 3))
    assert (again.card.classes, again.card.mean) == (card.classes, (0.5, 0.5, 0.5))


def test_our_own_file_keeps_its_alignment(tmp_path: Path) -> None:
    tail = SCALES + RESIZE.format("align_corners")
    first = adopt(small(tmp_path / "a.onnx", tail, "float[1, 3, 32, 64]"), tmp_path / "b.onnx")
    again = adopt(
        tmp_path / "b.onnx", tmp_path / "c.onnx", options=ExportOptions(classes=("x", "y", "z"))
    )
    assert first.card.align_corners
    assert again.card.align_corners
    assert (again.card.classes, again.card.stride) == (("x", "y", "z"), 8)


def test_refusals(tmp_path: Path) -> None:
    two = f"""net (float[1, 3, 32, 64] x) => (float[1, 3, 32, 64] map, float[1, 1, 32, 64] edge) {{
        w = {CONV}
        map = Conv (x, w)
        k = Constant <value = float[1, 3, 1, 1] {{1, 1, 1}}> ()
        edge = Conv (map, k)
    }}"""
    flat = """net (float[1, 3, 32, 64] x) => (float[1, 3] y) {
        p = GlobalAveragePool (x)
        y = Flatten (p)
    }"""
    pair_of_channels = "net (float[1, 2, 32, 64] x) => (float[1, 2, 32, 64] y) { y = Relu (x) }"
    pair = (
        "net (float[1, 3, 8, 8] a, float[1, 3, 8, 8] b) => (float[1, 3, 8, 8] y) { y = Add (a, b) }"
    )
    open_size = "net (float[1, 3, H, W] a) => (float[1, 3, H, W] y) { y = Relu (a) }"
    for text, error, words in [
        (two, ExportError, "[0] map 1x3x32x64; [1] edge 1x1x32x64"),
        (flat, ExportError, "classifies whole images"),
        (pair_of_channels, ExportError, "neither a colour image nor a grey one"),
        (pair, ExportError, "does not take one image"),
        (open_size, UsageError, "leaves its input size open"),
    ]:
        with pytest.raises(error) as caught:
            adopt(model(tmp_path / "a.onnx", text), tmp_path / "b.onnx")
        assert words in str(caught.value)
        assert not (tmp_path / "b.onnx").exists()
    report = adopt(
        model(tmp_path / "a.onnx", two), tmp_path / "b.onnx", options=ExportOptions(output="edge")
    )
    assert report.output_shape == (1, 1, 32, 64)


def test_damaged_files(tmp_path: Path) -> None:
    whole = small(tmp_path / "a.onnx", "y = Relu (l)", "float[1, 3, 4, 8]").read_bytes()
    for data, words in [
        (b"", "is empty"),
        (whole[: len(whole) // 2], "is truncated"),
        (b"\x08\x0a" + b"\xff" * 40, "is no ONNX file"),
        (b"PK\x03\x04...", "zip archive"),
    ]:
        (tmp_path / "bad.onnx").write_bytes(data)
        with pytest.raises(ModelError) as caught:
            adopt(tmp_path / "bad.onnx", tmp_path / "b.onnx")
        assert words in str(caught.value)
    with pytest.raises(UsageError, match="does not exist"):
        adopt(tmp_path / "absent.onnx", tmp_path / "b.onnx")
    with pytest.raises(UsageError, match="is the source itself"):
        adopt(tmp_path / "a.onnx", tmp_path / "a.onnx")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.onnx", "bad.onnx"]


def test_external_weights_become_one_file(tmp_path: Path) -> None:
    proto = onnx.load(small(tmp_path / "a.onnx", "y = Relu (l)", "float[1, 3, 4, 8]"))
    weights = np.arange(9, dtype=np.float32).reshape(3, 3, 1, 1)
    proto.graph.node.remove(next(n for n in proto.graph.node if n.output[0] == "w"))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(
        proto, tmp_path / "e.onnx", save_as_external_data=True, location="e.data", size_threshold=0
    )
    report = adopt(tmp_path / "e.onnx", tmp_path / "b.onnx")
    text = (tmp_path / "e.onnx").read_bytes().replace(b"e.data", b"../e.d")
    (tmp_path / "escape.onnx").write_bytes(text)
    with pytest.raises(ModelError, match="outside its folder"):
        adopt(tmp_path / "escape.onnx", tmp_path / "c.onnx")
    (tmp_path / "e.data").unlink()
    onnxruntime.InferenceSession(report.path, providers=["CPUExecutionProvider"])
    with pytest.raises(ModelError, match=r"weights of e\.onnx are in another file"):
        adopt(tmp_path / "e.onnx", tmp_path / "c.onnx")


def test_scales_in_another_file_are_found(tmp_path: Path) -> None:
    """What shapes depend on may lie outside, too; ONNX Runtime alone refuses such a file."""
    tail = 'y = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (l, , s)'
    proto = onnx.load(small(tmp_path / "a.onnx", SCALES + tail, "float[1, 3, 32, 64]"))
    node = next(node for node in proto.graph.node if node.output[0] == "s")
    scales = onnx.numpy_helper.from_array(np.array([1, 1, 8, 8], np.float32), "s")
    proto.graph.node.remove(node)
    proto.graph.initializer.append(scales)
    onnx.save(
        proto, tmp_path / "e.onnx", save_as_external_data=True, location="other.bin",
        size_threshold=0,
    )  # fmt: skip
    assert (tmp_path / "other.bin").stat().st_size > 0
    with pytest.raises(Exception, match="external"):
        onnxruntime.InferenceSession(tmp_path / "e.onnx", providers=["CPUExecutionProvider"])
    report = adopt(tmp_path / "e.onnx", tmp_path / "b.onnx")
    assert report.tail.cut


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.onnx").write_bytes(b"the old one")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SinkError, match="the disk is full"):
        write_atomically(tmp_path / "m.onnx", b"new", durable=True)
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_bytes() == b"the old one"


def test_the_file_says_nothing_about_this_machine(tmp_path: Path) -> None:
    report = export(plain(), tmp_path / "m.onnx", options=ExportOptions(size=Size(*SIZE)))
    data = report.path.read_bytes()
    for trace in (b'File "', b".py", str(Path.cwd()).encode(), str(tmp_path).encode(), b"forward"):
        assert trace not in data
    assert len(data) < 20_000
    proto = onnx.load(report.path)
    onnx.checker.check_model(proto, full_check=True)
    assert (proto.graph.input[0].name, proto.graph.output[0].name) == ("image", "logits")
    assert {p.key for p in proto.metadata_props} >= {CARD_KEY, "names", "model_info labels"}
    assert all(not node.metadata_props and not node.doc_string for node in proto.graph.node)
    assert "stem.weight" in {tensor.name for tensor in proto.graph.initializer}


@pytest.mark.skipif(not MODELS.is_dir(), reason="../shared/models is absent")
@pytest.mark.parametrize(
    ("name", "grid", "before", "after"),
    [
        ("fastscnn_camvid.pt2", (44, 60), 180, 100),
        ("fastscnn_camvid.onnx", (44, 60), 180, 100),
        ("fastscnn_camvid_512x1024.onnx", (64, 128), 304, 100),
    ],
)
def test_really_trained_networks(
    tmp_path: Path, name: str, grid: tuple[int, int], before: int, after: int
) -> None:
    verify = DATA / "camvid" / "val"
    options = ExportOptions(
        classes="camvid", verify=verify if verify.is_dir() else None, verify_images=3
    )
    report = export(MODELS / name, tmp_path / "m.onnx", options=options)
    card = report.card
    assert report.output_shape == (1, 11, *grid)
    assert (card.stride, card.align_corners, card.label_set) == (8, True, "camvid")
    assert report.tail.removed == ("Resize x8 bilinear, align_corners",)
    assert (report.nodes_before, report.nodes <= after) == (before, True)
    operators = collections.Counter(n.op_type for n in onnx.load(report.path).graph.node)
    assert operators["Gather"] + operators["GatherND"] == 0
    assert card.parity is not None
    assert card.parity.agreement == 1.0
    assert card.parity.ambiguous < 0.002
    assert (card.parity.max_logit_error or 1) < 1e-4
    assert read_facts(report.path).producer.startswith("segedge")
    assert ModelCard.from_metadata(read_metadata(report.path)) == card


@pytest.mark.skipif(not MODELS.is_dir(), reason="../shared/models is absent")
def test_a_truncated_real_file(tmp_path: Path) -> None:
    shutil.copy(MODELS / "fastscnn_camvid.onnx", tmp_path / "a.onnx")
    (tmp_path / "a.onnx").chmod(0o644)
    with (tmp_path / "a.onnx").open("r+b") as stream:
        stream.truncate(3_000_000)
    with pytest.raises(ModelError) as caught:
        adopt(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert "it ends at byte 3000000" in str(caught.value)
    assert "the graph to end at byte 4554" in str(caught.value)
    with pytest.raises(CardError, match="class names and channels"):
        adopt(
            MODELS / "fastscnn_camvid.onnx",
            tmp_path / "b.onnx",
            options=ExportOptions(classes="cityscapes"),
        )
