"""Dataset of simulated volumes that never repeat in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.transforms import Compose
from numpy.typing import NDArray
from torch.utils.data import Dataset

from qcanet_monai.core.resample import nuclear_diameter_um
from qcanet_monai.errors import InputError
from qcanet_monai.nn.metatensor import as_metatensor
from qcanet_monai.simulator.series import Frame, balls, simulate_frame
from qcanet_monai.simulator.settings import read_simulation, stream

_SPREAD = 1.6  # largest random factor of the nuclear diameter, which inference estimates
_AS_IT_IS = 0.2  # fraction of volumes at their finest spacing, as in a preview
_TARGETS = ("NSN", "NDN", "QCANet", "outlines")
_BALL = 3.0  # radius of NDN's balls, in grid voxels


class FreshVolumes(Dataset[Any]):
    """Dataset of simulated time points, different in every epoch.

    Items hold ``image`` (float32) and ``label``, MetaTensors (1, Z, Y, X), before `transform`. Attach the
    dataset to a trainer, so that every epoch, also of a resumed training, draws its own volumes.

    Parameters
    ----------
    target
        Label: "NSN" for nuclear regions, "NDN" for balls of 6 grid voxels in diameter at nuclear centres,
        "QCANet" for instances, "outlines" for heights above the outlines of nuclei, see `Isotropicd`.
    volumes
        Volumes per epoch.
    transform
        Preprocessing and augmentation after loading.
    settings
        YAML file or shipped name of the simulation's distributions; embryos if None.
    tissue_fraction
        Fraction of tissue volumes among the embryos; as in `settings` if None.
    max_diameter_voxels
        Largest nuclear diameter at inference, in voxels; larger nuclei are downsampled. Training varies the
        limit, and leaves one volume in five at its finest spacing. If None, no volume is downsampled.
    isotropic_spacing_um
        Voxel edge of every volume in µm; chosen by `max_diameter_voxels` if None.
    held_out
        Draw validation volumes, which no training draws, without varying the limit.
    seed
        Seed of all volumes.

    Raises
    ------
    InputError
        If `target` is unknown, or the settings cannot be used.
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
        """Register with the trainer, to follow its epochs."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)

    def _begin(self, engine: Engine) -> None:
        self.epoch = engine.state.epoch

    def __len__(self) -> int:
        return self.volumes

    def __getitem__(self, index: int) -> Any:
        seed = (self.seed, 3 if self.held_out else 2, self.epoch, index)
        frame = simulate_frame(seed, settings=self.settings)
        grid = self._grid(frame, stream(seed, "grid"))
        label = self._label(frame, grid or min(frame.spacing))
        return self.transform(
            {
                "image": as_metatensor(
                    frame.image.astype("float32"), frame.spacing, isotropic_spacing_um=grid
                ),
                "label": as_metatensor(label, frame.spacing, isotropic_spacing_um=grid),
            }
        )

    def _label(self, frame: Frame, edge: float) -> NDArray[Any]:
        if self.target == "NDN":
            shape, radius_um = frame.image.shape, _BALL * edge
            return balls(frame.centres_voxel, shape, spacing=frame.spacing, radius_um=radius_um)
        if self.target == "NSN":
            return frame.nuclei
        return frame.instances if self.target == "QCANet" else frame.height

    def _grid(self, frame: Frame, rng: np.random.Generator) -> float | None:
        if self.isotropic_spacing_um is not None or self.max_diameter_voxels is None:
            return self.isotropic_spacing_um
        across = self.max_diameter_voxels
        if not self.held_out:
            if rng.random() < _AS_IT_IS:
                return None
            across *= float(np.exp(rng.uniform(-1, 1) * np.log(_SPREAD)))
        edge = nuclear_diameter_um(frame.nuclei, spacing=frame.spacing) / across
        return edge if edge > min(frame.spacing) else None
