"""What every serving target promises, checked through a target's own servers."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from mlops_assets.ml.errors import DeploymentError
from mlops_assets.ml.inference.artifact import GRAPH, ModelSignature

if TYPE_CHECKING:
    from collections.abc import Generator

    from mlops_assets.serving.declaration import ServedVersion
    from resources.serving.golden_rows import Endpoint
    from resources.serving.serving_target import ServingTarget


def check_serving_target(target: ServingTarget, artifact: Path, model: str = "conformance") -> None:
    """Deploy an artifact as versions 1 and 2 of `model`, which is not served yet, with refused ones in between.

    `artifact` is a folder with model.onnx and model.json. What is served in the end is version 1.

    Raises:
        AssertionError: the target breaks a promise; the message says which.
        DeploymentError: it does not deploy a sound version, or does not answer as that did offline.
    """
    from resources.serving.golden_rows import Endpoint, verify_golden_rows

    signature = ModelSignature.read(artifact)
    assert target.current(model) is None, f"{model} is served already; choose a name that is not"
    url = target.deploy(model, artifact, signature.sha256, 1).url

    def check_serves(version: int, when: str) -> None:
        served = target.current(model)
        assert served is not None, f"nothing is served {when}"
        assert served.version == str(version), f"version {served.version} is served {when}, not {version}"
        assert served.sha256 == signature.sha256, f"{served.sha256} is served {when}, not {signature.sha256}"
        verify_golden_rows(Endpoint(url=url, model=model), signature, target.post)

    check_serves(1, "after its deployment")
    target.deploy(model, artifact, signature.sha256, 1)
    check_serves(1, "after it was deployed again")
    for change, what in ((_change_graph, "graph"), (_change_golden_rows, "golden rows")):
        with tempfile.TemporaryDirectory() as draft:
            changed = Path(shutil.copytree(artifact, Path(draft, "artifact")))
            change(changed)
            refusal = _refusal(target, model, changed, signature.sha256)
        assert refusal is not None, f"a version was deployed whose {what} had been changed"
        assert "version 1 keeps answering" in refusal, f"the refusal does not say what goes on to answer: {refusal}"
        check_serves(1, f"after a version with changed {what} was refused")
    with _fails_as_champion(target):
        refusal = _refusal(target, model, artifact, signature.sha256)
    assert refusal is not None, "a version was deployed although it failed as champion"
    assert "rolled back" in refusal, f"the refusal does not say that the version was rolled back: {refusal}"
    check_serves(1, "after a version that failed as champion")
    for version in (2, 1):
        with _candidates(target) as candidates:
            target.deploy(model, artifact, signature.sha256, version)
        check_serves(version, "after its deployment")
        for candidate in candidates:
            try:
                verify_golden_rows(candidate, signature, target.post)
            except DeploymentError:
                continue
            raise AssertionError(f"the candidate still answers after version {version} was deployed")
    target.deploy(f"{model}_2", artifact, signature.sha256, 5)
    check_serves(1, "after another model was deployed")
    both = {model, f"{model}_2"} - {*target.served()}
    assert not both, f"{both} are served, and served does not say so"
    for _ in range(2):
        target.retire(f"{model}_2")
        assert target.current(f"{model}_2") is None, "a model is served after it was retired"
        assert f"{model}_2" not in target.served(), "served names a model that was retired"
    check_serves(1, "after another model was retired")


@contextmanager
def _fails_as_champion(target: ServingTarget) -> Generator[None]:
    """A version that is made champion in this block fails right after that."""
    make_champion = type(target).make_champion

    def failing(self: ServingTarget, model: str, version: ServedVersion) -> Endpoint:
        make_champion(self, model, version)
        raise DeploymentError("it fails on purpose")

    with patch.object(type(target), "make_champion", failing):
        yield


@contextmanager
def _candidates(target: ServingTarget) -> Generator[list[Endpoint]]:
    """Where candidates answered that were started in this block."""
    start_candidate, seen = type(target).start_candidate, list[Any]()

    def watched(self: ServingTarget, model: str, version: ServedVersion) -> Endpoint:
        seen.append(start_candidate(self, model, version))
        return seen[-1]

    with patch.object(type(target), "start_candidate", watched):
        yield seen


def _refusal(target: ServingTarget, model: str, artifact: Path, sha256: str) -> str | None:
    try:
        target.deploy(model, artifact, sha256, 2)
    except DeploymentError as error:
        return str(error)
    return None


def _change_graph(folder: Path) -> None:
    content = (folder / GRAPH).read_bytes()
    (folder / GRAPH).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def _change_golden_rows(folder: Path) -> None:
    """Let model.json tell of other numbers than the graph gives."""
    signature = ModelSignature.read(folder)
    shift = 1 + 1000 * signature.allowed_difference
    outputs = {
        name: rows if name == "label" else [[value + shift for value in row] for row in rows]
        for name, rows in signature.golden.outputs.items()
    }
    golden = signature.golden.model_copy(update={"outputs": outputs})
    signature.model_copy(update={"golden": golden}).write(folder)
