"""What is stored: studies, trials, leases and budgets in Optuna's storage, and what belongs to a study in MLflow."""
