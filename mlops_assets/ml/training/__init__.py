"""From feature arrays to a trained model: learners, checkpoints, workers."""
