"""MLflow store of runs and registered models."""
