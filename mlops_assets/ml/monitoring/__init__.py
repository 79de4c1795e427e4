"""What becomes of a model in use."""
