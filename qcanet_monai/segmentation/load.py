"""Load a bundle for segmentation by name, folder or registry reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.segmentation.segmenter import Segmenter


def load_segmenter(
    reference: str | Path = "qcanet",
    *,
    n_samples: int = 0,
    drop_uncertain: float = 0.0,
    tracking_uri: str | None = None,
    **overrides: Any,
) -> Segmenter:
    """Load a bundle for segmentation.

    Parameters
    ----------
    reference
        A shipped bundle's name, a bundle's folder, ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
    n_samples, drop_uncertain
        See `Segmenter`.
    tracking_uri
        MLflow tracking URI for ``models:/`` references.
    overrides
        Values of configuration keys; None keeps the bundle's value. The name of a network in the bundle,
        such as ``nsn`` or ``ndn``, takes the reference of a replacement, or ``none`` to omit the network.

    Raises
    ------
    ModelError
        If a reference, its weights or an override cannot be used.

    Examples
    --------
    >>> import qcanet_monai as qcanet
    >>> model = qcanet.load("qcanet", ndn="none", recover_border=True)
    >>> [*model.predictors]
    ['nsn']
    """
    bundle = Bundle.find(reference, tracking_uri=tracking_uri)
    inside = [name for name in bundle.networks if name]
    parts: dict[str, Bundle | None] = {}
    for name in inside:
        replaced = overrides.pop(name, None)
        if replaced is not None:
            parts[name] = (
                None
                if str(replaced) == "none"
                else Bundle.find(replaced, bundled=name, tracking_uri=tracking_uri)
            )
    return Segmenter(
        bundle.with_parts(parts) if parts else bundle,
        n_samples=n_samples,
        drop_uncertain=drop_uncertain,
        **overrides,
    )
