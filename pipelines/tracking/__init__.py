"""The door to MLflow: `store` makes the databases and experiments, `run` writes one run, `read` reads many."""
