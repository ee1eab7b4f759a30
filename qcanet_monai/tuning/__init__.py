"""Studies: Bayesian search over a bundle's settings, on Ray Tune and Optuna."""
