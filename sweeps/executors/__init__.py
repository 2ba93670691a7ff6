"""Executors: keep n workers alive on one machine or several. They know neither Optuna nor MLflow."""
