"""A model's YAML as types: what it may say, and how what is wrong is told."""
