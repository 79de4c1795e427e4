"""A model's YAML as types: what it may say, and how what is wrong is told.

The way of a parameter, weight_decay below train, from the YAML to where it acts:

1. `load_spec.load_spec` checks the YAML against `model_spec.ModelSpec`, whose field `train` is `model_spec.Train`.
2. That is a `mlops_assets.ml.training.training_config.TrainingConfig`, where the field is defined, with what decides
   nothing about the weights. `model_spec.Train.config` is the part that does.
3. `mlops_assets.assets.trained_model.trained_model_asset` puts it into the data version
   (`mlops_assets.assets.stage.version_of`), and gives it to `mlops_assets.ml.training.learners.learner_for`.
4. `mlops_assets.ml.training.training_state.TrainingState` reads it, and
   `mlops_assets.ml.training.adam.Adam.step` applies it.
"""
