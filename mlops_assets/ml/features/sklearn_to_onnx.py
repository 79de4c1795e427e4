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


def with_single_output(graph: Any, index: int, name: str) -> Any:
    """The graph with the output at `index` alone, called `name`."""
    kept = graph.graph.output[index]
    for node in graph.graph.node:
        for names in (node.input, node.output):
            names[:] = [name if value == kept.name else value for value in names]
    kept.name = name
    del graph.graph.output[index + 1 :]
    del graph.graph.output[:index]
    return graph
