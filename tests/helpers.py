"""Helpers of several test files: masks of balls, partitions, distance transforms, bundles."""

from pathlib import Path

import numpy as np
from scipy import ndimage as ndi

SHARED = Path(__file__).resolve().parents[2] / "shared"  # real images and oracles, not part of the project


def ball(shape, centre, radius, spacing=(1, 1, 1)):
    """Mask of the voxels within `radius` of `centre`, both in µm from the centre of the first voxel."""
    axes = np.ogrid[tuple(map(slice, shape))]
    squares = ((axis * step - c) ** 2 for axis, step, c in zip(axes, spacing, centre, strict=True))
    return sum(squares) <= radius**2


def same_partition(a, b):
    """True if two label images differ by a renaming of their labels only."""
    pairs = np.unique(np.stack([np.ravel(a), np.ravel(b)]), axis=1)
    return all(len(np.unique(side)) == pairs.shape[1] for side in pairs)


def distance_transforms(monkeypatch):
    """Shapes of the arrays whose distance transform is taken from now on, in a list that grows."""
    shapes, transform = [], ndi.distance_transform_edt

    def recorded(mask, **options):
        shapes.append(mask.shape)
        return transform(mask, **options)

    monkeypatch.setattr(ndi, "distance_transform_edt", recorded)
    return shapes


def run_bundle(bundle: Path, *files: str, **options: object) -> None:
    """Run a bundle as `python -m monai.bundle run` does, in this process; configurations by name or path."""
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
