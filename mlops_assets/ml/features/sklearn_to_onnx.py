"""Scikit-learn models as ONNX graphs with one output, in operator sets of at most `OPSET`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

OPSET = 18


def to_onnx(model: Any, name: str, inputs: Sequence[tuple[str, Any]], options: dict[int, Any] | None = None) -> Any:
    """A fitted model as skl2onnx converts it; `inputs` are pairs of name and skl2onnx type."""
    from skl2onnx import convert_sklearn

    operator_sets = {"": OPSET, "ai.onnx.ml": 3}
    return convert_sklearn(model, name, list(inputs), target_opset=operator_sets, options=options)


def keep_output(graph: Any, index: int) -> str:
    """Drop all outputs but the one at `index`; its name, which like every inner name begins with `sklearn_` now.

    So what is added after it may have any other name.
    """
    from onnx import compose

    compose.add_prefix(graph, "sklearn_", rename_inputs=False, inplace=True)
    kept = graph.graph.output[index].name
    del graph.graph.output[:]
    return kept


def with_single_output(graph: Any, index: int, name: str) -> Any:
    """The graph with the output at `index` alone, called `name`."""
    from onnx import helper

    output = type(graph.graph.output[index])()
    output.CopyFrom(graph.graph.output[index])
    output.name = name
    kept = keep_output(graph, index)
    graph.graph.node.append(helper.make_node("Identity", [kept], [name]))
    graph.graph.output.append(output)
    return graph
