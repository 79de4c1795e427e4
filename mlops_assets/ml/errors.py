"""The errors this platform raises on purpose. Each message says what is wrong and what to do about it."""


class MlopsError(Exception):
    """Base of all errors raised on purpose."""


class SpecError(MlopsError):
    """A model's YAML asks for something that is not possible."""


class DataError(MlopsError):
    """The data does not keep the contract of the model's YAML."""


class LakeError(MlopsError):
    """The lake cannot be reached, or refuses what is asked of it."""


class TrainingError(MlopsError):
    """Training cannot start or go on."""


class TrainingInterrupted(TrainingError):
    """Training was asked to stop; a checkpoint lies ready to go on from."""


class ArtifactError(MlopsError):
    """A model artifact is refused: wrong format, wrong digest or wrong content."""
