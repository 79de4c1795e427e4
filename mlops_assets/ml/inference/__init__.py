"""What a predictor needs of a model: the artifact, and the session that runs its graph."""
