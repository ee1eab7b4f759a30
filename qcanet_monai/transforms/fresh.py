"""Training on simulated volumes that are drawn anew each time, and never seen twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.transforms import Compose
from numpy.typing import NDArray
from torch.utils.data import Dataset

from qcanet_monai.core.resample import grid_for, nuclear_diameter_um
from qcanet_monai.errors import InputError
from qcanet_monai.nn.metatensor import as_metatensor
from qcanet_monai.simulator.series import Frame, balls, simulate_frame
from qcanet_monai.simulator.settings import read_simulation, stream

_SPREAD = 1.6  # times as large or small as at inference, where their size is estimated, nuclei may be
_AS_IT_IS = 0.2  # share of volumes at their finest spacing, whatever the nuclei's size: a first look's
_TARGETS = ("NSN", "NDN", "QCANet")
_BALL = 3.0  # radius, in voxels of the grid, of the balls that NDN learns


class FreshVolumes(Dataset[Any]):
    """Items ``image`` and ``label``, MetaTensors (1, Z, Y, X), of simulated time points.

    As a handler of the trainer it counts the epochs: every one brings other volumes, and a training that
    resumes goes on with those that it would have seen.

    Parameters
    ----------
    target
        "NSN" for nuclear regions as label, "NDN" for balls of 6 voxels of the grid at their centres, "QCANet"
        for instances.
    volumes
        Volumes per epoch.
    transform
        What prepares them, after loading.
    settings
        YAML of the simulation's distributions, or the name of one that ships: embryos if None.
    tissue_fraction
        Share of pieces of tissue among the embryos; what the settings say if None.
    max_diameter_voxels
        Voxels across that nuclei have at most at inference: larger ones come on a coarser grid, here with
        some spread, and one volume in five as it is. Each on its finest spacing if None.
    isotropic_spacing_um
        Edge in µm of the grid's voxels, whatever the nuclei's size; chosen by `max_diameter_voxels` if None.
    held_out
        Volumes that no training draws, to validate on: of nuclei of `max_diameter_voxels` at most, without
        spread.
    seed
        Fixes every volume.

    Raises
    ------
    InputError
        If there is no such target, or the settings cannot be used.
    """

    def __init__(
        self,
        target: str,
        *,
        volumes: int,
        transform: Compose,
        settings: str | Path | None = None,
        tissue_fraction: float | None = None,
        max_diameter_voxels: float | None = None,
        isotropic_spacing_um: float | None = None,
        held_out: bool = False,
        seed: int = 0,
    ) -> None:
        if target not in _TARGETS:
            raise InputError(f"expected a target of {', '.join(_TARGETS)}, got {target!r}")
        self.target, self.volumes, self.transform, self.seed = target, volumes, transform, seed
        self.settings = read_simulation(settings).with_tissue(tissue_fraction)
        self.max_diameter_voxels, self.isotropic_spacing_um = max_diameter_voxels, isotropic_spacing_um
        self.held_out = held_out
        self.epoch = 0

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)

    def _begin(self, engine: Engine) -> None:
        self.epoch = engine.state.epoch

    def __len__(self) -> int:
        return self.volumes

    def __getitem__(self, index: int) -> Any:
        seed = (self.seed, 3 if self.held_out else 2, self.epoch, index)
        frame = simulate_frame(seed, settings=self.settings)
        grid = self._grid(frame, stream(seed, "grid"))
        label: NDArray[np.unsignedinteger] = frame.instances if self.target == "QCANet" else frame.nuclei
        if self.target == "NDN":
            radius_um = _BALL * (grid or min(frame.spacing))
            shape = frame.image.shape
            label = balls(frame.centres_voxel, shape, spacing=frame.spacing, radius_um=radius_um)
        return self.transform(
            {
                "image": as_metatensor(
                    frame.image.astype("float32"), frame.spacing, isotropic_spacing_um=grid
                ),
                "label": as_metatensor(label, frame.spacing, isotropic_spacing_um=grid),
            }
        )

    def _grid(self, frame: Frame, rng: np.random.Generator) -> float | None:
        if self.isotropic_spacing_um is not None or self.max_diameter_voxels is None:
            return self.isotropic_spacing_um
        across = self.max_diameter_voxels
        if not self.held_out:
            if rng.random() < _AS_IT_IS:
                return None
            across *= float(np.exp(rng.uniform(-1, 1) * np.log(_SPREAD)))
        size = nuclear_diameter_um(frame.nuclei, spacing=frame.spacing)
        return grid_for(size, spacing=frame.spacing, across=across)
