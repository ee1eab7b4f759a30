"""Approximate Bayesian computation of the simulation settings of an image.

Each round simulates synthetic matches and fits a forest that predicts their settings from their appearance
(Fearnhead & Prangle 2012). The matches with predictions nearest to the image's define narrower distributions
for the next round (Beaumont et al. 2009).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from qcanet_monai.adaptation.synthetic_matches import SyntheticMatch, draw_matches
from qcanet_monai.core.appearance import appearance
from qcanet_monai.core.resample import Spacing
from qcanet_monai.errors import InputError
from qcanet_monai.simulator.distributions import Distribution
from qcanet_monai.simulator.settings import GROUPS, Shape, Simulation

Float = NDArray[np.float64]

ROUNDS = (256, 192, 192)  # synthetic matches per round
_NEAREST = (8, 10, 40)  # matches kept: an eighth, at least 10, at most 40
_TREES, _LEAF = 300, 3
_WIDER = 0.15  # relative widening of distributions beyond the nearest matches


@dataclass(frozen=True)
class Posterior:
    """Synthetic matches of an image, nearest first, and their distributions.

    `ood_score` is the distance of the image's appearance to its nearest matches, relative to the median of
    this distance over the matches: about 1 if the simulator can draw such an image.
    """

    matches: list[SyntheticMatch]
    simulation: Simulation
    ood_score: float


def abc_inference(
    image: NDArray[np.generic],
    prior: Simulation,
    *,
    spacing: Spacing,
    seed: int = 0,
    rounds: Sequence[int] = ROUNDS,
    workers: int | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Posterior:
    """Infer the simulation settings that reproduce the appearance of an image.

    Parameters
    ----------
    image
        Intensities (Z, Y, X).
    prior
        Distributions wide enough to contain the true settings, with the anisotropy of the image's voxels.
    spacing
        Voxel size (z, y, x) in µm.
    seed
        Seed of every synthetic match.
    rounds
        Number of synthetic matches per round.
    workers, progress
        As for :func:`~qcanet_monai.adaptation.synthetic_matches.draw_matches`.
    """
    nz, ny, nx = image.shape
    shape: Shape = (nz, ny, nx)
    looks = appearance(image, spacing=spacing)
    simulation, drawn = prior, list[SyntheticMatch]()
    nearest: list[SyntheticMatch] = []
    for number, count in enumerate(rounds):
        seeds = [(seed, 7, number, i) for i in range(count)]
        drawn += draw_matches(simulation, seeds, shape, workers=workers, progress=progress)
        nearest = _nearest(drawn, looks, prior)
        simulation = narrowed(prior, nearest)
    return Posterior(nearest, simulation, _strangeness(drawn[-rounds[-1] :], looks))


def rounds_of(twins: int) -> tuple[int, ...]:
    """Split a number of synthetic matches into rounds in proportion to `ROUNDS`.

    Raises
    ------
    InputError
        If the number is below 30.
    """
    if twins < 30:
        raise InputError(f"expected at least 30 synthetic matches, got {twins}: {sum(ROUNDS)} is the default")
    return tuple(round(twins * part / sum(ROUNDS)) for part in ROUNDS)


def narrowed(prior: Simulation, twins: Sequence[SyntheticMatch]) -> Simulation:
    """Return the prior's distributions narrowed to the settings of synthetic matches."""
    changes: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    for group in GROUPS:
        for name, distribution in getattr(prior, group).items():
            if len(distribution.ends()) > 1:
                values = [twin.settings[f"{group}.{name}"] for twin in twins]
                changes[group][name] = _narrowed(distribution, values)
    return prior.changed(changes)


def _narrowed(prior: Distribution, values: list[Any]) -> dict[str, Any]:
    if prior.choices is not None:
        words = [str(v) for v in values]
        weights = {word: words.count(word) / len(words) for word in prior.choices}
        return {"choices": {word: w for word, w in weights.items() if w >= 0.05}}
    numbers = np.array(values, float)
    share = 1.0
    if prior.probability < 1:
        share = float((numbers != 0).mean())
        numbers = numbers[numbers != 0]
        if share < 0.05:
            return {"always": 0}
    often = {} if share > 0.95 else {"probability": round(share, 3)}
    if prior.always is not None:
        return {"always": prior.always, **often}
    low, high = (float(v) for v in np.quantile(numbers, (0.05, 0.95)))
    lowest, highest = (float(e) for e in prior.ends()[:2])
    if prior.log_uniform:
        stretch = (high / low) ** _WIDER
        return {"log_uniform": [max(low / stretch, lowest), min(high * stretch, highest)], **often}
    if prior.integers:
        return {"integers": [int(np.floor(low)), int(np.ceil(high))], **often}
    wider = (high - low) * _WIDER
    return {"uniform": [max(low - wider, lowest), min(high + wider, highest)], **often}


def _nearest(twins: list[SyntheticMatch], looks: dict[str, float], prior: Simulation) -> list[SyntheticMatch]:
    """Select the matches with predictions nearest to the image's, in error units."""
    names = [name for name in looks if not name.startswith("level_")]  # levels in counts are arbitrary
    numbers = np.array([[twin.looks[n] for n in names] for twin in twins])
    own = np.array([[looks[n] for n in names]])
    middle = np.array([np.median(known) if (known := c[np.isfinite(c)]).size else 0.0 for c in numbers.T])
    numbers, own = (np.where(np.isfinite(v), v, middle) for v in (numbers, own))
    wanted = np.array([_vector(twin, prior) for twin in twins])
    forest = ExtraTreesRegressor(
        _TREES, min_samples_leaf=_LEAF, max_features=0.4, bootstrap=True, oob_score=True, random_state=0
    )
    forest.fit(numbers, wanted)
    read: Float = forest.oob_prediction_
    error = ((read - wanted) ** 2).mean(0) + 1e-9
    distance = (((read - forest.predict(own)) ** 2) / error).sum(1)
    part, least, most = _NEAREST
    count = min(max(len(twins) // part, least), most)
    return [twins[i] for i in np.argsort(distance, kind="stable")[:count]]


def _vector(twin: SyntheticMatch, prior: Simulation) -> list[float]:
    """Encode settings as numbers: logarithms if log-uniform, words as 0 and 1."""
    out = [np.log1p(twin.nuclei), np.log(max(twin.diameter, 1.0)) if twin.nuclei else 0.0]
    for group in GROUPS:
        for name, distribution in getattr(prior, group).items():
            value = twin.settings[f"{group}.{name}"]
            if distribution.choices is not None:
                out += [float(str(value) == word) for word in distribution.choices]
            elif len(distribution.ends()) > 1:
                out.append(float(np.log(value) if distribution.log_uniform and value else value))
    return [float(v) for v in out]


def _strangeness(twins: list[SyntheticMatch], looks: dict[str, float], neighbours: int = 10) -> float:
    """Compute the OOD score of :class:`Posterior` from standardised appearance."""
    names = [name for name in looks if not name.startswith("level_")]
    numbers = np.array([[twin.looks[n] for n in names] for twin in twins])
    own = np.array([looks[n] for n in names])
    known = np.isfinite(own) & np.isfinite(numbers).all(0)
    numbers, own = numbers[:, known], own[known]
    spread = numbers.std(0) + 0.02
    scaled, mine = numbers / spread, own / spread

    def far(one: Float, others: Float) -> float:
        return float(np.sort(np.sqrt(((others - one) ** 2).mean(1)))[:neighbours].mean())

    usual = [far(one, np.delete(scaled, i, 0)) for i, one in enumerate(scaled)]
    return far(mine, scaled) / float(np.median(usual))
