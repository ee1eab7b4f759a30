"""Training on simulated volumes that are drawn anew each time, and never seen twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.transforms import Compose
from torch.utils.data import Dataset

from qcanet_monai.errors import InputError
from qcanet_monai.nn.metatensor import as_metatensor
from qcanet_monai.simulate.series import simulate_frame
from qcanet_monai.simulate.settings import read_simulation


class FreshVolumes(Dataset[Any]):
    """Items ``image`` and ``label``, MetaTensors (1, Z, Y, X), of simulated time points.

    As a handler of the trainer it counts the epochs: every one brings other volumes, and a training that
    resumes goes on with those that it would have seen.

    Parameters
    ----------
    target
        "NSN" for nuclear regions as label, "NDN" for centres.
    volumes
        Volumes per epoch.
    transform
        What prepares them, after loading.
    settings
        YAML of the simulation's distributions; those that ship if None.
    tissue
        Share of pieces of tissue among the embryos; what the settings say if None.
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
        tissue: float | None = None,
        seed: int = 0,
    ) -> None:
        if target not in ("NSN", "NDN"):
            raise InputError(f"expected a target of NSN or NDN, got {target!r}")
        self.target, self.volumes, self.transform, self.seed = target, volumes, transform, seed
        self.settings = read_simulation(settings).with_tissue(tissue)
        self.epoch = 0

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)

    def _begin(self, engine: Engine) -> None:
        self.epoch = engine.state.epoch

    def __len__(self) -> int:
        return self.volumes

    def __getitem__(self, index: int) -> Any:
        frame = simulate_frame((self.seed, 2, self.epoch, index), settings=self.settings)
        label = frame.nuclei if self.target == "NSN" else frame.centres
        return self.transform(
            {
                "image": as_metatensor(frame.image.astype("float32"), frame.spacing),
                "label": as_metatensor(label, frame.spacing),
            }
        )
