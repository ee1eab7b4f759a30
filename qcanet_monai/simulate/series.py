"""A whole recording: an embryo grown, drawn and recorded, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.simulate.camera import CameraSettings, record
from qcanet_monai.simulate.lineage import Embryo, GrowthSettings
from qcanet_monai.simulate.render import OpticsSettings, Shape, Spacing, render

FIELD_UM = (89.25, 96.0, 97.6)  # the recordings of BBBC050: 51 x 120 x 122 voxels of 1.75 x 0.8 x 0.8 µm


@dataclass(frozen=True)
class Frame:
    """One time point: image (Z, Y, X) uint16, its truth, and the voxel spacing in µm.

    `instances` holds labels 1..n, `nuclei` 0/255 where there is one, `centres` 0/255 in a ball of
    diameter 5 voxels (33 voxels) at each nucleus's centre of gravity; `numbers[i]` is the identity in
    time of label i + 1 (a division gives two new ones).
    """

    image: NDArray[np.uint16]
    instances: NDArray[np.uint16]
    nuclei: NDArray[np.uint8]
    centres: NDArray[np.uint8]
    spacing: Spacing
    numbers: list[int]


@dataclass(frozen=True)
class Recording:
    """How one embryo is recorded; drawn apart from being applied."""

    growth: GrowthSettings
    optics: OpticsSettings
    camera: CameraSettings
    shape: Shape
    spacing: Spacing
    shift_um: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator, *, spacing: Spacing | None = None) -> Recording:
        """Draw a recording; `spacing` fixes the voxels (µm), else they are drawn as well.

        The field of view keeps the size of BBBC050's; one embryo in four is recorded off its middle,
        so that nuclei are cut by the image's border.
        """
        if spacing is None:
            lateral = rng.uniform(0.62, 1.15)
            spacing = (lateral * rng.uniform(1.4, 3.0), lateral, lateral)
        nz, ny, nx = (round(f / d) for f, d in zip(FIELD_UM, spacing, strict=True))
        off_centre = rng.random() < 0.25
        return cls(
            growth=GrowthSettings.draw(rng),
            optics=OpticsSettings.draw(rng),
            camera=CameraSettings.draw(rng),
            shape=(nz, ny, nx),
            spacing=spacing,
            shift_um=rng.uniform(-25, 25, 3) if off_centre else rng.normal(0, 2, 3),
        )


def simulate_series(
    seed: int | tuple[int, ...], *, timepoints: int, spacing: Spacing | None = None, generations: float = 6.6
) -> Iterator[Frame]:
    """Simulate one embryo from one nucleus to about `2 ** generations` of them.

    Parameters
    ----------
    seed
        Fixes every voxel.
    timepoints
        Number of frames, spread evenly over the generations.
    spacing
        Voxel size (z, y, x) in µm; drawn per embryo if None.
    generations
        How many cell cycles the series spans; 6.6 end at 60 to 75 nuclei.

    Yields
    ------
    Frame
        One time point after another.
    """
    rng = np.random.default_rng(seed)
    recording = Recording.draw(rng, spacing=spacing)
    embryo = Embryo(recording.growth, rng)
    # the first frame falls anywhere in the first cycle's earlier half, so that small sets differ too
    times = np.linspace(rng.uniform(0.1, 0.5), generations, timepoints)
    for time in times:
        yield _frame(embryo, float(time), recording, rng)


def _frame(embryo: Embryo, time: float, recording: Recording, rng: np.random.Generator) -> Frame:
    middle = np.array(recording.shape) * recording.spacing / 2 + recording.shift_um
    nuclei, polar_bodies = embryo.nuclei_at(time)
    scene = render(
        nuclei,
        polar_bodies,
        shape=recording.shape,
        spacing=recording.spacing,
        centre_um=middle,
        body_radius_um=recording.growth.radius_um,
        settings=recording.optics,
        rng=rng,
    )
    return Frame(
        image=record(scene.light, recording.camera, rng),
        instances=scene.instances,
        nuclei=np.where(scene.instances > 0, np.uint8(255), np.uint8(0)),
        centres=centre_balls(scene.centres_voxel, recording.shape),
        spacing=recording.spacing,
        numbers=scene.numbers,
    )


def centre_balls(centres_voxel: NDArray[np.float64], shape: Shape, *, diameter: int = 5) -> NDArray[np.uint8]:
    """Balls of `diameter` voxels at the given centres (n, 3), 0/255; 33 voxels each at diameter 5."""
    out = np.zeros(shape, np.uint8)
    reach = diameter // 2
    offsets = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    offsets = offsets[(offsets**2).sum(1) <= reach**2]
    for centre in np.rint(centres_voxel).astype(int):
        voxels = centre + offsets
        voxels = voxels[np.all((voxels >= 0) & (voxels < shape), axis=1)]
        out[tuple(voxels.T)] = 255
    return out
