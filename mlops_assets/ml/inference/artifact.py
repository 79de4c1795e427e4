"""The model artifact a predictor may load: two files, model.onnx and model.json, and nothing that can run code."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError, model_validator

from mlops_assets.ml.errors import ArtifactError
from mlops_assets.ml.values import Classes, Document, Task, Value

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

V2_DATATYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "object": "BYTES"}  # by the dtype of numpy
OPERATOR_SETS = {"", "ai.onnx", "ai.onnx.ml"}
OUTPUTS = ("prediction", "label", "probabilities")
INSIDE = "mlops/"  # begins the name of every tensor inside of a graph
ESCAPE = "column:"
DESCRIPTION = "mlops.description"  # in the graph's metadata: the digest of model.json
TOLERANCE = 1e-5  # how far a served answer may be from that in training; whoever serves decides, and no artifact


@lru_cache(4_096)
def tensor_name(column: str) -> str:
    """The name of the graph's input for a column: its own, unless that is taken by an output or by what is inside.

    >>> tensor_name("sepal length (cm)"), tensor_name("label")
    ('sepal length (cm)', 'column:label')
    """
    return f"{ESCAPE}{column}" if column in OUTPUTS or column.startswith((INSIDE, ESCAPE)) else column


class InputColumn(Value):
    """One column, an input (n, 1) of the graph. A missing number is NaN and a missing category the empty string."""

    name: str
    dtype: Literal["float32", "string"]
    nullable: bool = False

    @property
    def datatype(self) -> str:
        """The column's type in the Open Inference Protocol (V2)."""
        return V2_DATATYPES["float32" if self.dtype == "float32" else "object"]


class GoldenRows(Value):
    """Raw rows and what the trained model answered to them; a predictor is ready when it gives the same answers."""

    rows: tuple[dict[str, float | str | None], ...]
    outputs: dict[str, list[Any]]


class ModelSignature(Document):
    """What a model takes and gives, the digest of its graph, and the golden rows it must answer as in training."""

    FILE = "model.json"

    model: str
    task: Task
    inputs: tuple[InputColumn, ...]
    classes: Classes | None
    sha256: str
    golden: GoldenRows
    background: tuple[dict[str, float | str | None], ...] = ()
    """Raw rows of the train part, whose mean answer is what explanations begin from."""
    export_difference: float = 0.0

    @model_validator(mode="before")
    @classmethod
    def _without_tolerance(cls, given: Any) -> Any:
        """Versions of before have one, which is not listened to."""
        return (
            {name: value for name, value in given.items() if name != "tolerance"} if isinstance(given, dict) else given
        )

    @property
    def explained_from(self) -> tuple[dict[str, float | str | None], ...]:
        """The background, and of versions that have none their golden rows."""
        return self.background or self.golden.rows

    @property
    def class_texts(self) -> tuple[str, ...] | None:
        """The text of each class as the graph answers it: of booleans, 0 and 1. None for a regression."""
        if self.classes is None:
            return None
        has_fractions = any(isinstance(value, float) for value in self.classes)
        return tuple(
            value if isinstance(value, str) else str(float(value) if has_fractions else int(value))
            for value in self.classes
        )

    @property
    def allowed_difference(self) -> float:
        """How far answers to the golden rows may be from these: relative to the largest prediction for regression."""
        predictions = self.golden.outputs.get("prediction", [])
        return TOLERANCE * max([1.0, *(abs(row[0]) for row in predictions)])


def description_digest(content: bytes | str) -> str:
    """The digest of a model.json, without the digest of the graph in it, which holds this one, and without the
    difference of the export, in which threads add up to other last bits.
    """
    left_out = ("sha256", "export_difference")
    described = {name: value for name, value in json.loads(content).items() if name not in left_out}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


GRAPH = "model.onnx"
MAX_BYTES = {GRAPH: 2 << 30, ModelSignature.FILE: 4 << 20}


def load_artifact(
    folder: Path, expected_sha256: str, beside: frozenset[str] = frozenset()
) -> tuple[bytes, ModelSignature]:
    """The graph and its description, once everything about the folder is as it must be.

    The formats are an allow-list: a folder with any other file (but those named by `beside`, which are not read), a
    link or a file that is too large is refused before anything is read, and the digest is compared before the graph is
    parsed. It stands for the description too, whose own digest is in the graph.

    Raises:
        ArtifactError: with the reason.
    """
    _only_regular_files(folder, beside)
    content = (folder / GRAPH).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected_sha256:
        raise ArtifactError(
            f"{GRAPH} has the digest {digest[:12]}…, but {expected_sha256[:12]}… was registered; refused"
        )
    description = (folder / ModelSignature.FILE).read_bytes()
    try:
        signature = ModelSignature.model_validate_json(description)
    except ValidationError as error:
        raise ArtifactError(
            f"{ModelSignature.FILE} is not a model signature: {error.errors()[0]['msg']}; refused"
        ) from error
    if signature.sha256 != digest:
        raise ArtifactError(f"{ModelSignature.FILE} describes another graph ({signature.sha256[:12]}…); refused")
    for described in _checked_graph(content, signature).metadata_props:
        if described.key == DESCRIPTION and described.value != description_digest(description):
            raise ArtifactError(f"{ModelSignature.FILE} is not the one that belongs to {GRAPH}; refused")
    return content, signature


def _only_regular_files(folder: Path, beside: frozenset[str]) -> None:
    if folder.is_symlink() or not folder.is_dir():
        raise ArtifactError(
            f"{folder} is not a folder", remedy=f"an artifact is a folder with {GRAPH} and {ModelSignature.FILE}"
        )
    found = [path for path in sorted(folder.iterdir()) if path.name not in beside]
    for path in found:
        if path.name not in MAX_BYTES:
            raise ArtifactError(
                f"{path.name} is no part of an artifact", remedy=f"allowed are {GRAPH} and {ModelSignature.FILE} alone"
            )
        if path.is_symlink() or not path.is_file():
            raise ArtifactError(f"{path.name} is a link or no regular file; refused")
        if path.stat().st_size > MAX_BYTES[path.name]:
            raise ArtifactError(f"{path.name} is larger than {MAX_BYTES[path.name] >> 20} MiB; refused")
    for name in MAX_BYTES.keys() - {path.name for path in found}:
        raise ArtifactError(f"{name} is missing", remedy=f"an artifact holds {GRAPH} and {ModelSignature.FILE}")


def _checked_graph(content: bytes, signature: ModelSignature) -> Any:
    """The graph, as onnx reads it."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        raise ArtifactError(f"{GRAPH} is not an ONNX graph ({str(error).splitlines()[0][:200]}); refused") from error
    for operators in model.opset_import:
        if operators.domain not in OPERATOR_SETS:
            raise ArtifactError(
                f"{GRAPH} uses operators of {operators.domain!r}", remedy="allowed are the standard ones alone"
            )
    if model.functions:
        raise ArtifactError(f"{GRAPH} defines functions of its own", remedy="inline them before exporting")
    for graph in _graphs(model.graph):
        for tensor in graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
                raise ArtifactError(f"{GRAPH} refers to data in other files ({tensor.name}); refused")
        for node in graph.node:
            if node.domain not in OPERATOR_SETS:
                raise ArtifactError(
                    f"{GRAPH} uses an operator of {node.domain!r}", remedy="allowed are the standard ones alone"
                )
    inputs = [item.name for item in model.graph.input]
    declared = [tensor_name(column.name) for column in signature.inputs]
    if inputs != declared:
        raise ArtifactError(
            f"{GRAPH} takes {', '.join(inputs)}, but {ModelSignature.FILE} declares {', '.join(declared)}; refused"
        )
    return model


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
            for inner in attribute.graphs:
                yield from _graphs(inner)
            if attribute.HasField("t") and attribute.t.external_data:
                raise ArtifactError(f"{GRAPH} refers to data in other files ({node.name}); refused")
