-- Optuna's database is made by the image; Optuna and MLflow need one each.
CREATE DATABASE mlflow;
