"""Tissue: nuclei packed throughout the field."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from qcanet_monai.simulator.nuclei import Nucleus, Population, Vector, glaring, nucleus, rotation, unit
from qcanet_monai.simulator.parameters import Growth
from qcanet_monai.simulator.settings import Seed, stream

_DENSITY = 0.64  # packing fraction of random close packing
_MOST = 3000


def tissue(growth: Growth, extent_um: Vector, seed: Seed) -> Population:
    """Fill a box with nuclei, `growth.crowding` diameters apart.

    Parameters
    ----------
    growth, seed
        Parameters of the tissue (those of embryos are ignored), and seed of every random choice.
    extent_um
        Edges (z, y, x) in µm of a box centred on the origin. Nuclei fill one more diameter on each side.
    """
    rng = stream(seed, "tissue")
    apart = growth.diameter_um * growth.crowding
    box = extent_um + 2 * growth.diameter_um
    count = int(np.clip(np.prod(box) * _DENSITY / (np.pi / 6 * apart**3), 1, _MOST))
    places = spread(rng.uniform(-box / 2, box / 2, (count, 3)), apart, box, rng)
    if growth.empty:
        side = places @ unit(rng)
        places = places[side > np.quantile(side, growth.empty)]
    full = np.pi / 6 * growth.diameter_um**3 / 0.97  # 0.97: volume at mid-cycle relative to full size
    grain = rotation(rng)  # orientation shared by some of the nuclei
    nuclei = [_nucleus(i, place, full, growth, grain, rng) for i, place in enumerate(places, 1)]
    debris = [
        n._replace(
            number=0,
            semi_axes_um=n.semi_axes_um * rng.uniform(0.1, 0.35),
            centre_um=n.centre_um + apart / 2 * unit(rng),
        )
        for n in nuclei[: growth.debris]
    ]
    bright = [glaring(extent_um, stream(seed, f"glare {i}")) for i in range(growth.glare)]
    return Population(nuclei, [*debris, *bright])


def spread(places: Vector, apart: float, box: Vector, rng: np.random.Generator) -> Vector:
    """Push points (n, 3) in a box to a distance of about `apart`, then jitter them."""
    for _ in range(40):
        pairs = cKDTree(places).query_pairs(apart, output_type="ndarray")
        if not len(pairs):
            break
        one, two = pairs.T
        difference = places[one] - places[two]
        distance = np.linalg.norm(difference, axis=1) + 1e-9
        push = (0.45 * (apart - distance) / distance)[:, None] * difference
        np.add.at(places, one, push)
        np.add.at(places, two, -push)
        places = np.clip(places, -box / 2, box / 2)
    moved: Vector = places + rng.normal(0, 0.04 * apart, places.shape)
    return moved


def _nucleus(
    number: int, place: Vector, full: float, growth: Growth, grain: Vector, rng: np.random.Generator
) -> Nucleus:
    age = rng.choice([rng.uniform(0.0, 0.06), rng.uniform(0.9, 1.0)])
    if rng.random() >= growth.mitoses:
        age = rng.uniform(0.15, 0.9)
    return nucleus(
        age,
        full * float(np.exp(rng.normal(0, growth.size_spread))),
        growth,
        number=number,
        parent=0,
        centre_um=place,
        offset_um=np.zeros(3),
        axis=unit(rng),
        lies=grain if rng.random() < 0.3 else rotation(rng),
        flat=1.0,
        brightness=float(np.exp(rng.normal(0, growth.brightness_spread))),
        texture_seed=int(rng.integers(2**31)),
    )
