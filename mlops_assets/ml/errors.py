"""The errors this platform raises on purpose, in one tree.

    MlopsError
    ├── SpecError             a model's YAML or the environment asks for something that is not possible
    ├── DataError             the data does not keep the contract of the model's YAML
    ├── LakeError             the lake cannot be reached, or refuses what is asked of it (retryable)
    │   └── LockLost              another process has taken over what this one held (retryable)
    ├── TrainingError         a training cannot start or go on
    │   └── TrainingInterrupted   it was asked to stop; a checkpoint lies ready (retryable)
    ├── ArtifactError         a model artifact is refused: wrong format, digest or content
    ├── BadRequest            a request does not fit the model
    ├── ModelNotServed        a server has no such model, or another version of it
    ├── ServerBusy            a server answers as many large requests as it may (retryable)
    ├── RequestRefused        a request is answered by an error of HTTP
    ├── TrackingError         MLflow cannot be reached (retryable)
    │   └── TrackingRefused       it answers, and refuses what is asked of it, or holds what is not ours
    ├── DeploymentError       a version was not deployed; what answered before still does
    └── ServerError           a local server cannot be started

Each says what is wrong with the value that was seen, where, and what is allowed or what to do. The parts are
attributes, and the message is made of them.
"""

from typing import ClassVar


class MlopsError(Exception):
    """Base of all errors raised on purpose. Neither part ends with a full stop.

    >>> error = DataError("column rain has 3 values that are no number", where="a.csv", remedy="correct the file")
    >>> str(error)
    'a.csv: column rain has 3 values that are no number; correct the file.'
    """

    retryable: ClassVar[bool] = False
    """Whether the same attempt may succeed later, without anybody changing anything."""

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.remedy = what, where, remedy

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        sentence = f"{place}{self.what}; {self.remedy}" if self.remedy else f"{place}{self.what}"
        return sentence if sentence.endswith((".", "?")) or "\n" in sentence else f"{sentence}."


class SpecError(MlopsError):
    """A model's YAML or the environment asks for something that is not possible."""


class DataError(MlopsError):
    """The data does not keep the contract of the model's YAML."""


class LakeError(MlopsError):
    """The lake cannot be reached, or refuses what is asked of it."""

    retryable = True


class LockLost(LakeError):
    """Another process has taken over what this one held."""


class TrainingError(MlopsError):
    """A training cannot start or go on."""


class TrainingInterrupted(TrainingError):
    """A training was asked to stop; a checkpoint lies ready to go on from."""

    retryable = True


class ArtifactError(MlopsError):
    """A model artifact is refused: wrong format, wrong digest or wrong content."""


class BadRequest(MlopsError):
    """A request does not fit the model; the message says which column and why."""


class ModelNotServed(MlopsError):
    """A server has no such model, or another version of it."""


class ServerBusy(MlopsError):
    """A server answers as many large requests as it may."""

    retryable = True


class RequestRefused(MlopsError):
    """A request is answered by an error: `code` is HTTP's, and `headers` stand in the answer."""

    def __init__(self, code: int, what: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(what)
        self.code, self.headers = code, headers


class TrackingError(MlopsError):
    """MLflow cannot be reached."""

    retryable = True


class TrackingRefused(TrackingError):
    """MLflow answers, and refuses what is asked of it, or holds what this platform did not put there."""

    retryable = False


class DeploymentError(MlopsError):
    """A version was not deployed; what answered before still does."""


class ServerError(MlopsError):
    """A local server cannot be started."""
