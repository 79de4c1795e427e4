"""What runs inside a predictor: the model server. Never imports Dagster."""
