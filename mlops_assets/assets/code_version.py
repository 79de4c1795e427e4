"""The version of the code that makes a model: by it a champion is told from what the same data would give today."""

from mlops_assets.assets import features, prepared_data, raw_data, trained_model
from mlops_assets.assets.stage import version_of
from mlops_assets.ml.class_source import class_source
from mlops_assets.spec.model_spec import ModelSpec


def code_version(spec: ModelSpec) -> str:
    """A version that changes with what of the YAML, of the classes it names and of the stages decides the model.

    It is that of the data versions of these stages, without the data.

    Raises:
        TrainingError: there is no such class.
    """
    stages = [module.CODE_VERSION for module in (raw_data, prepared_data, features, trained_model)]
    config = spec.train.config
    source = class_source(config.classes)
    rows = prepared_data.preparation_plan(spec)
    window = (spec.source.partition_by, spec.source.window)
    return version_of(*stages, window, rows, spec.features.use, config.settings, source)
