"""Pure functions on data, models and metrics, in rooms by the flow. Nothing here knows Dagster, MLflow or a network.

The way of a row, from a source file to a metric:

1. `data.source_checks.check_sources` compares its file with the contract.
2. `data.prepare.prepare` reads it (`data.sources.contract_rows`, `data.sources.typed`), checks it, computes its target
   and writes it to train or test (`data.split.assign_parts`).
3. `features.feature_set.build_features` fits the preprocessing on train rows
   (`features.preprocessing.fit_preprocessing`), makes it a graph (`features.preprocessing.preprocessing_to_onnx`), and
   transforms the row with that graph (`inference.onnx_model.OnnxModel.predict`) into a row of the arrays that
   `features.feature_set.load_arrays` maps.
4. `training.learners.learner_for` chooses the learner. In a network's training the row is part of a batch in each
   `training.training_state.TrainingState.epoch`.
5. `packaging.export.export` merges preprocessing and model into the artifact, which
   `inference.artifact.load_artifact` alone may load.
6. `evaluation.evaluate.evaluate` lets the artifact predict a row of the test set, as raw columns.
7. `monitoring.reference_profile.reference_profile` counts it in a profile, with which
   `monitoring.drift_report.drift_report` compares the rows of a log, of which `monitoring.compact_log.compact` has made
   a table for each day.
"""
