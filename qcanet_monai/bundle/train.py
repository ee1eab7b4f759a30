"""A bundle's own training and evaluation, from Python."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow

from qcanet_monai.errors import ModelError, QCANetError


def read_training(bundle: str | Path) -> ConfigParser:
    """The bundle's ``train.yaml``, read but not built.

    Raises
    ------
    ModelError
        If there is none.
    """
    config = Path(bundle) / "configs" / "train.yaml"
    if not config.is_file():
        raise ModelError(f"expected a bundle with configs/train.yaml, got {bundle}: give a bundle's folder")
    parser = ConfigParser()
    parser.read_config(str(config))
    return parser


def bundle_workflow(bundle: str | Path, *overlays: str, **overrides: Any) -> ConfigWorkflow:
    """The bundle's training as a workflow, with overlays such as "evaluate" laid over ``train.yaml``.

    Parameters
    ----------
    bundle
        Bundle folder.
    overlays
        Names of further configurations of the bundle.
    overrides
        Values of the configuration's keys; those of nested ones are written ``a#b``.
    """
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)  # it warns of logging_file=False
    configs = Path(bundle).resolve() / "configs"
    return ConfigWorkflow(
        config_file=[str(configs / f"{name}.yaml") for name in ("train", *overlays)],
        meta_file=str(configs / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(Path(bundle).resolve()),
        **overrides,
    )


def score_bundle(bundle: str | Path, overrides: Mapping[str, Any]) -> dict[str, float]:
    """Validation metrics of a bundle's weights, the key metric first.

    Parameters
    ----------
    bundle
        Bundle folder with ``models/model.pt``.
    overrides
        At least ``dataset_dir`` and ``output_dir``.
    """
    read_training(bundle)
    workflow = bundle_workflow(bundle, "evaluate", **{"validate#handlers": [], **overrides})
    workflow.initialize()
    try:
        evaluator = workflow.parser.get_parsed_content("validate#evaluator")
    except Exception as error:  # MONAI wraps what a component raises
        ours: BaseException | None = error
        while ours is not None and not isinstance(ours, QCANetError):
            ours = ours.__cause__
        if ours is None:
            raise
        raise ours from None
    evaluator.logger.setLevel(logging.WARNING)
    workflow.run()
    metrics = {name: float(value) for name, value in evaluator.state.metrics.items()}
    key = evaluator.state.key_metric_name
    return {key: metrics.pop(key), **metrics}
