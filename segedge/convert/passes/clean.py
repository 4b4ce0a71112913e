"""Taking out what an exporter leaves behind: stack traces, local paths, long names."""

from __future__ import annotations

from segedge.convert.passes.base import Pass
from segedge.graph.kit import Model, image_input

INPUT_NAME = "image"
_WRAPPER = "network."
"""What our own wrapper module puts before every weight's name."""


def clean(output_name: str) -> Pass:
    """Drop documentation and metadata everywhere, and give input and output their names.

    Afterwards no doc string, node metadata or inner shape is left, so the file holds neither paths
    nor source lines of the machine that exported it.
    """

    def effect(model: Model) -> str:
        dropped = _drop_documentation(model)
        _rename_all(model, output_name)
        return f"{dropped} texts dropped"

    def ensures(model: Model) -> bool:
        ends = (image_input(model).name, model.graph.outputs[0].name)
        return ends == (INPUT_NAME, output_name) and not _drop_documentation(model)

    return Pass("clean", effect, ensures=ensures)


def _rename_all(model: Model, output_name: str) -> None:
    taken = {value.name for node in model.graph for value in node.outputs}
    _rename(image_input(model), INPUT_NAME, taken)
    _rename(model.graph.outputs[0], output_name, taken)
    for index, node in enumerate(model.graph):
        node.name = f"{node.op_type}_{index}"
    for value in list(model.graph.initializers.values()):
        if value.name.startswith(_WRAPPER):
            value.name = value.name.removeprefix(_WRAPPER)


def _drop_documentation(model: Model) -> int:
    """Empty every doc string and metadata store in the graph; how many held something.

    The file's own metadata is left to `segedge.convert.onnx_card.attach_card`.
    """
    graph = model.graph
    holders = [graph, *graph.inputs, *graph.outputs, *graph.initializers.values()]
    for node in model.graph:
        holders += [node, *node.outputs]
    tensors = [value.const_value for value in graph.initializers.values()]
    holders += [tensor for tensor in tensors if hasattr(tensor, "metadata_props")]
    dropped = 0
    for holder in holders:
        if getattr(holder, "doc_string", None):
            holder.doc_string = None
            dropped += 1
        if getattr(holder, "metadata_props", None):
            dropped += len(holder.metadata_props)
            holder.metadata_props.clear()
    graph.name = "segedge"
    return dropped


def _rename(value: object, name: str, taken: set[str | None]) -> None:
    """Give a value its name, moving another value of that name away."""
    if getattr(value, "name", None) == name:
        return
    graph = getattr(value, "graph", None)
    if name in taken and graph is not None:
        for node in graph:
            for other in node.outputs:
                if other.name == name:
                    other.name = f"{name}_inner"
    value.name = name  # type: ignore[attr-defined]
