"""The door to MLflow: `store` makes and reads experiments and runs, `run` writes one run."""
