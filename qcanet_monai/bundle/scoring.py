"""Validation metrics of a bundle's weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.bundle.networks import usable


def score_bundle(bundle: Bundle, overrides: Mapping[str, Any]) -> dict[str, float]:
    """Return a bundle's metrics on its validation data, key metric first.

    Parameters
    ----------
    bundle
        Bundle with a training configuration and ``models/model.pt``.
    overrides
        Values by training configuration key, at least ``dataset_dir`` and ``output_dir``.
    """
    _ = bundle.training  # fail early without a training configuration
    workflow = bundle.workflow("evaluate", **{"validate#handlers": [], **overrides})
    workflow.initialize()
    with usable(bundle.folder / "configs/train.yaml"):
        evaluator = workflow.parser.get_parsed_content("validate#evaluator")
    evaluator.logger.setLevel(logging.WARNING)
    workflow.run()
    metrics = {name: float(value) for name, value in evaluator.state.metrics.items()}
    key = evaluator.state.key_metric_name
    return {key: metrics.pop(key), **metrics}
