"""Helpers shared by test files: balls, partitions, distance transforms, bundles."""

from pathlib import Path

import numpy as np
from scipy import ndimage as ndi

SHARED = Path(__file__).resolve().parents[2] / "shared"  # real images and oracles, outside the project


def ball(shape, centre, radius, spacing=(1, 1, 1)):
    """Mask of voxels within `radius` of `centre`, in µm from the first voxel centre."""
    axes = np.ogrid[tuple(map(slice, shape))]
    squares = ((axis * step - c) ** 2 for axis, step, c in zip(axes, spacing, centre, strict=True))
    return sum(squares) <= radius**2


def same_partition(a, b):
    """True if two label images differ only in the numbers of their labels."""
    pairs = np.unique(np.stack([np.ravel(a), np.ravel(b)]), axis=1)
    return all(len(np.unique(side)) == pairs.shape[1] for side in pairs)


def distance_transforms(monkeypatch):
    """Record the shapes of all arrays whose distance transform is computed."""
    shapes, transform = [], ndi.distance_transform_edt

    def recorded(mask, **options):
        shapes.append(mask.shape)
        return transform(mask, **options)

    monkeypatch.setattr(ndi, "distance_transform_edt", recorded)
    return shapes


def run_bundle(bundle: Path, *files: str, **options: object) -> None:
    """Run configurations (by name or path) of a bundle as `monai.bundle run` does."""
    from monai.bundle import ConfigWorkflow

    configs = bundle / "configs"
    workflow = ConfigWorkflow(
        config_file=[file if file.endswith(".yaml") else str(configs / f"{file}.yaml") for file in files],
        meta_file=str(configs / "metadata.json"),
        logging_file=False,
        workflow_type="train" if "train" in files else "infer",
        bundle_root=str(bundle),
        **{key: str(value) if isinstance(value, Path) else value for key, value in options.items()},
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
