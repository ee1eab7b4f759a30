"""MLflow pyfunc model of a bundle; MLflow stores this file instead of a pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.errors import InputError
from qcanet_monai.io import Volume, check_spacing
from qcanet_monai.segmentation.segmenter import Segmenter


class BundleModel(mlflow.pyfunc.PythonModel):
    """MLflow model of a bundle: a segmenter, or the single network NSN or NDN."""

    _skip_type_hint_validation = True  # MLflow has no type hint for an array; the signature has it

    def load_context(self, context: Any) -> None:
        """Load the networks from the bundle."""
        bundle = Bundle(Path(context.artifacts["bundle"]))
        self.segmenter = Segmenter(bundle) if bundle.gives_labels else None
        self.predictor = None if bundle.gives_labels else bundle.predictor()

    def predict(self, model_input, params=None):  # type: ignore[no-untyped-def]
        """Segment one volume.

        Parameters
        ----------
        model_input
            Intensities (Z, Y, X), float32.
        params
            ``spacing``: voxel size [z, y, x] in µm, required.

        Returns
        -------
        ndarray
            Probability (Z, Y, X), float32, for NSN and NDN; labels (Z, Y, X), uint32, for other bundles.

        Raises
        ------
        InputError
            If the spacing is missing or not 3 finite positive numbers.
        """
        spacing = [float(v) for v in (params or {}).get("spacing", ())]
        if len(spacing) != 3 or not any(spacing):
            raise InputError("expected params={'spacing': [z, y, x]} in um, got none")
        checked = check_spacing(spacing, Path("params"))
        if self.segmenter is not None:
            volume = Volume(np.asarray(model_input), checked, Path("array"))
            return self.segmenter(volume).labels.astype(np.uint32)
        assert self.predictor is not None
        return self.predictor(np.asarray(model_input), spacing=checked)


mlflow.models.set_model(BundleModel())
