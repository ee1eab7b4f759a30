"""Imaging conditions estimated from synthetic matches, and checks of reliability."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.adaptation.abc_inference import Posterior
from qcanet_monai.adaptation.synthetic_matches import SyntheticMatch
from qcanet_monai.core.appearance import appearance
from qcanet_monai.core.resample import Spacing
from qcanet_monai.errors import InputError

_MAX_OOD_SCORE = 2.0  # ood_score above which no synthetic match resembles the image
_VAGUEST = 2.5  # 95th over 5th percentile of nuclear diameter above which it is unknown


class Range(NamedTuple):
    """Median, 5th and 95th percentile over the nearest synthetic matches."""

    median: float
    low: float
    high: float


class Estimate(NamedTuple):
    """Estimated imaging conditions; lengths in the image's µm, photons per voxel.

    `brightness_along_z` is the last slice over the first, `gain_counts` is in counts per photon. Offset, gain
    and read noise are NaN if at least half of the matches are 8-bit files, which are contrast-stretched.
    """

    kind: str
    camera: str
    nuclei: Range
    diameter_um: Range
    diameter_voxels: Range
    axial_blur_um: Range
    lateral_blur_um: Range
    brightness_along_z: Range
    photons: Range
    background_photons: Range
    haze: Range
    generation: Range
    offset_counts: Range
    gain_counts: Range
    read_noise_counts: Range


def estimates(posterior: Posterior, image: NDArray[np.generic], spacing: Spacing) -> Estimate:
    """Estimate the imaging conditions of an image from its nearest synthetic matches.

    Parameters
    ----------
    posterior
        Result of the inference for the image.
    image, spacing
        Intensities (Z, Y, X) used in the inference, and voxel size (z, y, x) in µm.
    """
    twins = posterior.matches
    own = appearance(image, spacing=spacing)
    # a match's µm differ from the image's: only lengths in voxels carry over
    scale = np.array([spacing[2] / twin.settings["view.lateral_um"] for twin in twins])
    counts = np.array([_counts(twin, own) for twin in twins])
    diameter = np.array([twin.diameter for twin in twins])
    return Estimate(
        kind=_most(twins, "growth.kind"),
        camera=_most(twins, "camera.kind"),
        nuclei=_range(np.array([twin.nuclei for twin in twins], float)),
        diameter_um=_range(diameter * spacing[2]),
        diameter_voxels=_range(diameter),
        axial_blur_um=_range(_all(twins, "optics.axial_um") * scale),
        lateral_blur_um=_range(_all(twins, "optics.lateral_um") * scale),
        brightness_along_z=_range(np.exp(_all(twins, "optics.attenuation"))),
        photons=_range(_all(twins, "camera.photons")),
        background_photons=_range(_all(twins, "camera.dark")),
        haze=_range(_all(twins, "optics.haze")),
        generation=_range(_all(twins, "view.first")),
        offset_counts=_range(counts[:, 0]),
        gain_counts=_range(counts[:, 1]),
        read_noise_counts=_range(counts[:, 2]),
    )


def _counts(twin: SyntheticMatch, own: dict[str, float]) -> tuple[float, float, float]:
    """Convert offset, gain and read noise to image counts; NaN for 8-bit matches."""
    if twin.settings["camera.bits"] == 8:
        return (np.nan, np.nan, np.nan)
    ratio = float(np.exp(own["level_span"] - twin.looks["level_span"]))
    gain = twin.settings["camera.gain"] * ratio
    counting = twin.settings["camera.kind"] == "counting"  # no offset, no read noise
    above = np.expm1(twin.looks["level_low"]) - (0 if counting else twin.settings["camera.offset"])
    offset = np.expm1(own["level_low"]) - above * ratio
    return offset, gain, 0.0 if counting else twin.settings["camera.read_noise"] * gain


def _all(twins: list[SyntheticMatch], name: str) -> NDArray[np.float64]:
    return np.array([twin.settings[name] for twin in twins], float)


def _most(twins: list[SyntheticMatch], name: str) -> str:
    return str(Counter(twin.settings[name] for twin in twins).most_common(1)[0][0])


def _range(values: NDArray[np.float64]) -> Range:
    known = values[np.isfinite(values)]
    if known.size <= values.size // 2:
        return Range(float("nan"), float("nan"), float("nan"))
    return Range(*(float(v) for v in np.quantile(known, (0.5, 0.05, 0.95))))


def rows_of(estimate: Estimate) -> list[tuple[str, str]]:
    """Format an estimate as rows of a name with unit and a value with its range."""
    rows: list[tuple[str, Any]] = [
        ("nuclei in the part looked at", estimate.nuclei),
        ("nuclear diameter, µm", estimate.diameter_um),
        ("axial blur, µm (SD)", estimate.axial_blur_um),
        ("lateral blur, µm (SD)", estimate.lateral_blur_um),
        ("brightness, last slice over first", estimate.brightness_along_z),
        ("photons, nucleus", estimate.photons),
        ("photons, background", estimate.background_photons),
        ("haze, share of the light", estimate.haze),
        ("offset, counts", estimate.offset_counts),
        ("gain, counts per photon", estimate.gain_counts),
        ("read noise, counts", estimate.read_noise_counts),
    ]
    told = [(name, f"{r.median:.3g} ({r.low:.3g} to {r.high:.3g})") for name, r in rows if np.isfinite(r[0])]
    stage = estimate.generation
    grown = f"cell cycle {stage.median:.1f} ({stage.low:.1f} to {stage.high:.1f})"
    return [
        ("looks like", f"an embryo, {grown}" if estimate.kind == "embryo" else "a piece of tissue"),
        ("camera", estimate.camera),
        *told,
    ]


def refuse(posterior: Posterior, source: str) -> None:
    """Reject an image for which the estimates are not reliable.

    Raises
    ------
    InputError
        If no match resembles the image, the matches hold no nuclei, or the nuclear size is too uncertain.
    """
    if posterior.ood_score > _MAX_OOD_SCORE:
        raise InputError(
            f"{source}: expected an image that the simulator can draw, nuclei on a darker background, got "
            f"one {posterior.ood_score:.1f} times as far from synthetic matches as they are from each other "
            f"(at most {_MAX_OOD_SCORE:g}): train on annotated images instead"
        )
    nuclei = float(np.median([twin.nuclei for twin in posterior.matches]))
    if nuclei < 1:
        raise InputError(f"{source}: expected nuclei, synthetic matches hold none: give an image with some")
    known = [twin.diameter for twin in posterior.matches if np.isfinite(twin.diameter)]
    low, high = np.quantile(known, (0.05, 0.95))
    if high > _VAGUEST * low:
        raise InputError(
            f"{source}: expected nuclei of a clear size, got {low:.0f} to {high:.0f} voxels across in "
            "synthetic matches: give a larger or less noisy image"
        )
