"""How good an artifact is on the test set: metrics, slices, plots, model card."""
