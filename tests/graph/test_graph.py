"""The one graph kit: copies are copies, readers inside subgraphs count, files are read alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")

import onnx
import onnx_ir
from onnx import TensorProto, helper, numpy_helper

from segedge.errors import ModelError
from segedge.graph.kit import (
    FLOAT16,
    Formula,
    infer_shapes,
    load_model,
    put_behind,
    session_of,
    set_type,
    values_by_name,
)
from segedge.graph.typed import captured, is_float, maker, prepare

HEAD = (
    '<ir_version: 9, opset_import: ["" : 20]> g (float[1,3,4,4] image) => (float[n,c,h,w] logits)'
)
BRANCHES = """{
    a = Relu(image)
    m = ReduceMax<keepdims = 0>(a)
    zero = Constant<value_float = 0.0>()
    yes = Greater(m, zero)
    logits = If (yes) <
        then_branch = t () => (float[n,c,h,w] x) { x = Neg(a) },
        else_branch = e () => (float[n,c,h,w] y) { y = Identity(image) }
    >
}"""


def graph(body: str) -> Any:
    return onnx_ir.from_proto(onnx.parser.parse_model(f"{HEAD} {body}"))


def test_a_new_type_is_of_one_copy_alone() -> None:
    model = prepare(graph("{ a = Relu(image) logits = Neg(a) }")).model
    copy = model.clone()
    set_type(values_by_name(copy)["a"], FLOAT16)
    assert values_by_name(copy)["a"].dtype == FLOAT16
    assert values_by_name(model)["a"].dtype == onnx_ir.DataType.FLOAT


def test_what_is_put_behind_a_value_takes_its_readers_everywhere() -> None:
    model = graph(BRANCHES)
    value, add = values_by_name(model)["a"], Formula(model, "new")
    add("Add", add("Mul", value, np.float32([2.0])), np.float32([1.0]))
    put_behind(model, value, add.take(), renamed="raw")
    image = np.random.default_rng(0).normal(size=(1, 3, 4, 4)).astype(np.float32)
    (found,) = session_of(model).run(image)
    np.testing.assert_array_equal(found, -(2 * np.maximum(image, 0) + 1))


def test_what_is_put_behind_an_output_is_the_output() -> None:
    model = graph("{ logits = Relu(image) }")
    value, add = values_by_name(model)["logits"], Formula(model, "new")
    add("Neg", value)
    put_behind(model, value, add.take(), renamed="raw")
    assert [output.name for output in model.graph.outputs] == ["logits"]
    (found,) = session_of(model).run(np.ones((1, 3, 4, 4), np.float32))
    assert (found == -1).all()


def test_a_prepared_graph_knows_who_reads_what() -> None:
    source = graph(BRANCHES)
    typed = prepare(source)
    branch = typed.nodes[-1]
    assert {value.name for value in captured(branch)} == {"a", "image"}
    readers = {value.name: [n.op_type for n in found] for value, found in typed.readers.items()}
    assert readers["a"] == ["ReduceMax", "If"]
    assert readers["image"] == ["Relu", "If"]
    assert maker(typed.values["yes"]) == "Greater_2 (Greater)"
    assert typed.values["zero"].is_initializer()  # and the graph that was given is as it was
    assert [node.op_type for node in source.graph][2] == "Constant"


def test_a_sequence_of_floats_is_no_float() -> None:
    body = "{ s = SplitToSequence<axis = 1>(image) logits = ConcatFromSequence<axis = 1>(s) }"
    values = prepare(graph(body)).values
    assert is_float(values["logits"])
    assert not is_float(values["s"])


def test_shapes_are_inferred_where_there_are_sequences_too() -> None:
    model = graph(
        "{ s = SplitToSequence<axis = 1>(image) a = ConcatFromSequence<axis = 1>(s) "
        "logits = Relu(a) }"
    )
    infer_shapes(model)
    values = values_by_name(model)
    assert isinstance(values["s"].type, onnx_ir.SequenceType)
    assert values["a"].dtype == onnx_ir.DataType.FLOAT
    (found,) = session_of(model).run(np.ones((1, 3, 4, 4), np.float32))
    assert (found == 1).all()


def beside(folder: Path) -> Path:
    """A network whose weights are in another file."""
    weight = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")
    info = helper.make_tensor_value_info
    ends = [info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in ("image", "logits")]
    nodes = [helper.make_node("Conv", ["image", "w"], ["logits"])]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight]))
    path = folder / "net.onnx"
    onnx.save(
        model, path, save_as_external_data=True, location="net.bin", size_threshold=0
    )  # fmt: skip
    return path


def test_weights_beside_a_file_are_read_into_memory(tmp_path: Path) -> None:
    path = beside(tmp_path)
    model = load_model(path)
    (tmp_path / "net.bin").unlink()
    (found,) = session_of(model).run(np.ones((1, 3, 4, 4), np.float32))
    assert (found == 3).all()
    with pytest.raises(ModelError, match="are in another file, and that is missing"):
        load_model(path)
    path.write_bytes(path.read_bytes().replace(b"net.bin", b"../et.b"))
    with pytest.raises(ModelError, match="from outside its folder"):
        load_model(path)


def test_old_files_list_their_weights_among_the_inputs(tmp_path: Path) -> None:
    model = onnx.load(beside(tmp_path))
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 3, 1, 1]))
    model.opset_import[0].version = 9
    onnx.save(model, tmp_path / "old.onnx")
    found = load_model(tmp_path / "old.onnx")
    assert [value.name for value in found.graph.inputs] == ["image"]
    assert found.ir_version == 4
    onnx.checker.check_model(onnx_ir.to_proto(found), full_check=True)
