"""The artifact's allow-list against a corpus of hostile and damaged folders."""

from __future__ import annotations

import hashlib
import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlops_assets.ml.errors import ArtifactError
from mlops_assets.ml.inference.artifact import (
    DESCRIPTION,
    MAX_BYTES,
    TOLERANCE,
    ModelSignature,
    description_digest,
    load_artifact,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Payload:
    """What a pickle would run."""

    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('code from the artifact ran')",))


PICKLE = pickle.dumps(Payload())


def graph(node_domain: str = "", *, external: bool = False, name: str = "x") -> Any:
    """A graph that doubles its input."""
    two = numpy_helper.from_array(np.array([2.0], dtype=np.float32), "two")
    if external:
        two.ClearField("raw_data")
        two.data_location = TensorProto.EXTERNAL
        two.external_data.add(key="location", value="../../etc/passwd")
    node = helper.make_node("Mul", [name, "two"], ["prediction"], domain=node_domain)
    made = helper.make_graph(
        [node],
        "double",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, [None, 1])],
        [two],
    )
    opsets = [helper.make_opsetid("", 18)]
    if node_domain:
        opsets.append(helper.make_opsetid(node_domain, 1))
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def write(folder: Path, content: bytes, **changed: Any) -> str:
    """An artifact around a graph; gives its digest."""
    folder.mkdir(exist_ok=True)
    digest = hashlib.sha256(content).hexdigest()
    (folder / "model.onnx").write_bytes(content)
    signature = {
        "model": "double",
        "task": "regression",
        "inputs": [{"name": "x", "dtype": "float32", "nullable": False}],
        "classes": None,
        "sha256": digest,
        "golden": {"rows": [{"x": 1.0}], "outputs": {"prediction": [[2.0]]}},
    }
    (folder / "model.json").write_text(json.dumps(signature | changed))
    return digest


def test_a_sound_artifact_is_loaded(tmp_path: Path) -> None:
    content = graph().SerializeToString()
    digest = write(tmp_path / "a", content)
    loaded, signature = load_artifact(tmp_path / "a", digest)
    assert loaded == content
    assert isinstance(signature, ModelSignature)


def add(name: str, content: bytes) -> Callable[[Path], None]:
    """Put another file beside the two."""

    def change(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return change


def link(name: str, target: str) -> Callable[[Path], None]:
    """Replace a file by a link."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return change


def sparse(name: str) -> Callable[[Path], None]:
    """Make a file larger than allowed, without using the disk."""

    def change(folder: Path) -> None:
        with (folder / name).open("r+b") as file:
            file.truncate(MAX_BYTES[name] + 1)

    return change


MLMODEL = b"flavors:\n  python_function:\n    loader_module: os\n    code: code\n    data: model.pkl\n"
HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "pickle": (add("model.pkl", PICKLE), "model.pkl is no part"),
    "pickle as .bin": (add("weights.bin", PICKLE), "weights.bin is no part"),
    "pickle as safetensors": (add("weights.safetensors", PICKLE), "weights.safetensors is no part"),
    "pickle as .onnx.data": (add("model.onnx.data", PICKLE), "model.onnx.data is no part"),
    "torch checkpoint": (add("model.pt", PICKLE), "model.pt is no part"),
    "joblib": (add("model.joblib", PICKLE), "model.joblib is no part"),
    "numpy object array": (add("x.npy", PICKLE), "x.npy is no part"),
    "MLmodel with loader_module": (add("MLmodel", MLMODEL), "MLmodel is no part"),
    "code folder": (add("code/evil.py", b"raise SystemExit"), "code is no part"),
    "python file": (add("loader.py", b"raise SystemExit"), "loader.py is no part"),
    "shared library": (add("ops.so", b"\x7fELF"), "ops.so is no part"),
    "hidden file": (add(".env", b"KEY=1"), ".env is no part"),
    "requirements": (add("requirements.txt", b"evil"), "requirements.txt is no part"),
    "graph is a link": (link("model.onnx", "/etc/passwd"), "model.onnx is a link"),
    "description is a link": (link("model.json", "../a/model.onnx"), "model.json is a link"),
    "dangling link": (link("model.onnx", "/no/such/file"), "model.onnx is a link"),
    "too large graph": (sparse("model.onnx"), "model.onnx is larger than 2048 MiB"),
    "too large description": (sparse("model.json"), "model.json is larger than 4 MiB"),
    "no graph": (lambda folder: (folder / "model.onnx").unlink(), "model.onnx is missing"),
    "no description": (lambda folder: (folder / "model.json").unlink(), "model.json is missing"),
    "description is a pickle": (add("model.json", PICKLE), "model.json is not a model signature"),
    "description with more fields": (add("model.json", b'{"loader_module": "os"}'), "not a model signature"),
    "description nested too deeply": (add("model.json", b'{"a":' * 100_000), "not a model signature"),
    "description is binary": (add("model.json", bytes(range(256))), "not a model signature"),
    "another graph": (add("model.onnx", graph(name="y").SerializeToString()), "digest"),
    "graph is a pickle": (add("model.onnx", PICKLE), "digest"),
}


@pytest.mark.parametrize(("change", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_folder_is_refused(tmp_path: Path, change: Callable[[Path], None], message: str) -> None:
    folder = tmp_path / "a"
    digest = write(folder, graph().SerializeToString())
    change(folder)
    with pytest.raises(ArtifactError, match=message):
        load_artifact(folder, digest)


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    digest = write(tmp_path / "a", graph().SerializeToString())
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ArtifactError, match="is not a folder"):
        load_artifact(tmp_path / "b", digest)


def function_graph() -> Any:
    made = graph()
    function = helper.make_function(
        "local", "F", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], [helper.make_opsetid("", 18)]
    )
    made.functions.append(function)
    made.opset_import.append(helper.make_opsetid("local", 1))
    return made


def oversized_header() -> bytes:
    """A protobuf field that claims to be 2 GiB long."""
    return b"\x3a\xff\xff\xff\xff\x07" + b"x" * 100


GRAPHS: dict[str, tuple[bytes, str]] = {
    "no graph at all": (b"", "is not an ONNX graph|takes"),
    "random bytes": (bytes(range(256)) * 4, "is not an ONNX graph"),
    "a pickle with the right digest": (PICKLE, "is not an ONNX graph"),
    "oversized header": (oversized_header(), "is not an ONNX graph"),
    "truncated": (graph().SerializeToString()[:-20], "is not an ONNX graph"),
    "custom operators": (graph("com.evil").SerializeToString(), "com.evil"),
    "Python operators": (graph("ai.onnx.contrib").SerializeToString(), "ai.onnx.contrib"),
    "external data": (graph(external=True).SerializeToString(), "other files|not an ONNX graph"),
    "functions": (function_graph().SerializeToString(), "local|functions"),
    "other inputs": (graph(name="y").SerializeToString(), "takes y, but model.json declares x"),
}


@pytest.mark.parametrize(("content", "message"), GRAPHS.values(), ids=GRAPHS)
def test_a_hostile_graph_is_refused_though_its_digest_is_right(tmp_path: Path, content: bytes, message: str) -> None:
    digest = write(tmp_path / "a", content)
    with pytest.raises(ArtifactError, match=message):
        load_artifact(tmp_path / "a", digest)


def test_a_description_of_another_graph_is_refused(tmp_path: Path) -> None:
    digest = write(tmp_path / "a", graph().SerializeToString(), sha256="0" * 64)
    with pytest.raises(ArtifactError, match="describes another graph"):
        load_artifact(tmp_path / "a", digest)


@pytest.mark.parametrize("changed", [{"golden": {"rows": [], "outputs": {}}}, {"model": "other"}, {"classes": ["a"]}])
def test_a_description_that_was_changed_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    write(tmp_path / "a", b"")
    described, made = (tmp_path / "a" / "model.json").read_text(), graph()
    helper.set_model_props(made, {DESCRIPTION: description_digest(described)})
    digest = write(tmp_path / "a", made.SerializeToString())
    load_artifact(tmp_path / "a", digest)
    write(tmp_path / "a", made.SerializeToString(), **changed)
    with pytest.raises(ArtifactError, match=r"model.json is not the one that belongs to model.onnx"):
        load_artifact(tmp_path / "a", digest)


def test_the_tolerance_that_versions_of_before_have_is_not_listened_to(tmp_path: Path) -> None:
    digest = write(tmp_path / "a", graph().SerializeToString(), tolerance=1e30)
    assert load_artifact(tmp_path / "a", digest)[1].allowed_difference == 2 * TOLERANCE


def test_external_data_in_a_nested_graph_is_refused(tmp_path: Path) -> None:
    made = graph()
    inner = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["o"])],
        "inner",
        [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, [1])],
        [graph(external=True).graph.initializer[0]],
    )
    inner.initializer[0].name = "w"
    condition = numpy_helper.from_array(np.array(True), "condition")
    made.graph.initializer.append(condition)
    made.graph.node.append(helper.make_node("If", ["condition"], ["unused"], then_branch=inner, else_branch=inner))
    digest = write(tmp_path / "a", made.SerializeToString())
    with pytest.raises(ArtifactError, match="other files|not an ONNX graph"):
        load_artifact(tmp_path / "a", digest)


def test_onnx_is_what_the_graphs_are_made_with() -> None:
    onnx.checker.check_model(graph())
