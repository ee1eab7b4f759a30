"""Models by name: a reference becomes a bundle's folder."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from qcanet_monai.errors import ModelError
from qcanet_monai.registry.versions import PREFIX, fetch

BUNDLED = "bundled"


def bundle_folder(name: str) -> Path:
    """Folder of a bundle that ships with the package, such as "nsn" or "qcanet"."""
    return Path(str(files("qcanet_monai.bundles").joinpath(name)))


def trained_bundles() -> tuple[str, ...]:
    """Names of the shipped bundles that hold a network and its training."""
    folder = Path(str(files("qcanet_monai.bundles")))
    return tuple(sorted(path.parts[-3] for path in folder.glob("*/configs/train.yaml")))


def resolve_any(reference: str | Path, tracking_uri: str | None = None) -> Path:
    """Folder of a bundle by its shipped name or by a model reference, see `resolve`."""
    names = trained_bundles()
    if str(reference) in names:
        return bundle_folder(str(reference))
    if str(reference).startswith(PREFIX) or Path(reference).is_dir():
        return resolve(reference, "the segmentation", tracking_uri)
    raise ModelError(
        f"expected one of {', '.join(names)}, a bundle's folder or `models:/NAME@ALIAS`, got "
        f"{str(reference)!r}"
    )


def resolve(reference: str | Path, name: str, tracking_uri: str | None = None) -> Path:
    """Bundle folder that a model reference stands for.

    Parameters
    ----------
    reference
        ``bundled`` for the weights that ship, a bundle's folder, or ``models:/NAME@ALIAS`` or
        ``models:/NAME/VERSION`` of the registry.
    name
        Which bundle is meant by ``bundled``: "nsn" or "ndn".
    tracking_uri
        The registry's store, see ``registry.store_uri``.

    Raises
    ------
    ModelError
        If the reference is none of them.
    RegistryError
        If the registry does not answer or has no such version.
    """
    if str(reference) == BUNDLED:
        return bundle_folder(name)
    if str(reference).startswith(PREFIX):
        return fetch(str(reference), tracking_uri)
    if Path(reference).is_dir():
        return Path(reference)
    raise ModelError(
        f"expected a model reference for {name}: `{BUNDLED}`, a bundle's folder or `models:/NAME@ALIAS`, "
        f"got {str(reference)!r}"
    )


def version_of(bundle: Path) -> str:
    """The version that a bundle's metadata state; "unknown" where they do not."""
    metadata = bundle / "configs" / "metadata.json"
    if not metadata.is_file():
        return "unknown"
    return str(json.loads(metadata.read_text(encoding="utf-8")).get("version", "unknown"))
