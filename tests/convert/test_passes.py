"""Passes: what must hold before and after one, and what it reports."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segedge.convert.passes.base import Pass
from segedge.convert.passes.clean import clean
from segedge.convert.passes.merge import MERGE
from segedge.errors import ExportError

ir = pytest.importorskip("onnx_ir")


def model_of_two_equal_sums() -> Any:
    image = ir.Value(name="x", shape=ir.Shape([1, 3]), type=ir.TensorType(ir.DataType.FLOAT))
    one = ir.Value(name="network.one", const_value=ir.tensor(np.ones(3, np.float32)))
    nodes = [ir.node("Add", inputs=[image, one], doc_string="/home/me/net.py") for _ in range(2)]
    nodes.append(ir.node("Mul", inputs=[node.outputs[0] for node in nodes]))
    for index, node in enumerate(nodes):
        node.outputs[0].name = f"v{index}"
    graph = ir.Graph(
        [image], [nodes[-1].outputs[0]], nodes=nodes, initializers=[one], opset_imports={"": 20}
    )
    return ir.Model(graph, ir_version=10)


def test_removed_nodes_are_the_report_of_a_pass_that_says_nothing() -> None:
    model = model_of_two_equal_sums()
    first, second = MERGE(model), MERGE(model)
    assert (first.name, first.changed) == ("merge duplicates", True)
    assert first.detail == "1 of 3 nodes removed"
    assert (second.changed, second.detail) == (False, "0 of 2 nodes removed")


def test_a_pass_runs_only_where_its_precondition_holds() -> None:
    def effect(model: Any) -> str:
        raise AssertionError

    report = Pass("none", effect, requires=lambda model: False)(model_of_two_equal_sums())
    assert (report.changed, report.detail) == (False, "0 of 3 nodes removed")
    idle = Pass("idle", lambda model: "", idle="none there")(model_of_two_equal_sums())
    assert (idle.changed, idle.detail) == (False, "none there")


def test_a_pass_that_breaks_the_graph_is_found_out() -> None:
    def drop_output(model: Any) -> None:
        model.graph.outputs.pop()

    with pytest.raises(ExportError, match="'drop' broke the graph"):
        Pass("drop", drop_output)(model_of_two_equal_sums())
    with pytest.raises(ExportError, match="'promise' broke the graph"):
        Pass("promise", lambda model: "did", ensures=lambda model: False)(model_of_two_equal_sums())


def test_nothing_of_the_exporting_machine_is_left() -> None:
    model = model_of_two_equal_sums()
    report = clean("logits")(model)
    assert (report.changed, report.detail) == (True, "2 texts dropped")
    assert (model.graph.inputs[0].name, model.graph.outputs[0].name) == ("image", "logits")
    assert [node.name for node in model.graph] == ["Add_0", "Add_1", "Mul_2"]
    assert list(model.graph.initializers) == ["one"]
    assert "/home/me" not in str(ir.to_proto(model))
