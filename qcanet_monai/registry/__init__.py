"""MLflow: where runs and models are kept, found again by name."""
