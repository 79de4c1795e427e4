"""What the platform does by itself about a model in use."""
