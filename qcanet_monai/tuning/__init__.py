"""Studies on Ray Tune and Optuna, recorded in MLflow."""

from qcanet_monai.optional import need

need("ray", "optuna", "plotly", "mlflow")
