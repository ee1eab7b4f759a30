"""Image statistics: intensity, noise, blur, depth profile and blob sizes.

No statistic alone estimates an imaging parameter. Simulated images with statistics close to those of a real
image resemble that image, so their settings indicate the settings of the real image.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from qcanet_monai.core.resample import Spacing

Numbers = dict[str, float]
Float = NDArray[np.float32]

_QUANTILES = (0.5, 2, 10, 25, 50, 75, 90, 95, 98, 99, 99.8)
_SCALES = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0)  # lateral voxels, each 1.4 times the previous one
_HALVED = 4.0  # scale from which every second voxel in y and x suffices
_RINGS, _LAYERS, _BINS = 4, 6, 6
_LAGS = (1, 2, 4, 8)


def appearance(image: NDArray[np.generic], *, spacing: Spacing) -> Numbers:
    """Compute named statistics that describe the appearance of an image.

    Intensities are scaled to the range between the 2nd and the 99.8th percentile. The start and width of this
    range are statistics themselves (logarithms of counts). Lengths are in lateral voxels, converted along z
    by the voxel size ratio. Statistics that lack enough voxels are NaN.

    Parameters
    ----------
    image
        Intensities (Z, Y, X).
    spacing
        Voxel size (z, y, x) in µm; only the ratios matter.
    """
    counts = image.astype(np.float32)
    quantiles = np.percentile(counts, _QUANTILES)
    low, span = float(quantiles[1]), float(quantiles[-1] - quantiles[1]) or 1.0
    scaled = ((counts - np.float32(low)) / np.float32(span)).astype(np.float32)
    numbers = _levels(counts, quantiles, low, span)
    numbers |= _noise(scaled)
    numbers |= _correlations(scaled)
    numbers |= _profiles(scaled)
    numbers |= _blobs(scaled, spacing)
    return numbers


def _levels(counts: Float, quantiles: NDArray[np.floating], low: float, span: float) -> Numbers:
    """Describe the histogram: position, width, shape, saturation and gaps."""
    found = {"level_low": float(np.log1p(max(low, 0))), "level_span": float(np.log(span))}
    found |= {f"quantile_{q:g}": float((v - low) / span) for q, v in zip(_QUANTILES, quantiles, strict=True)}
    top = counts.max()
    found["maximum"] = float(np.log1p(max(float(top) - low, 0) / span))
    found["share_at_top"] = float(np.log10(1e-6 + (counts == top).mean()))
    found["share_at_zero"] = float(np.log10(1e-6 + (counts == 0).mean()))
    found["eight_bits"] = float(top <= 255)
    values = np.unique(counts[:: max(1, len(counts) // 8)])
    found["distinct"] = float(np.log(len(values) / (1 + values[-1] - values[0])))
    return found


def _noise(scaled: Float) -> Numbers:
    """Describe deviations from the mean of four neighbours, by brightness."""
    around = (scaled[:, :-2, 1:-1] + scaled[:, 2:, 1:-1] + scaled[:, 1:-1, :-2] + scaled[:, 1:-1, 2:]) / 4
    difference = scaled[:, 1:-1, 1:-1] - around
    smooth = ndi.uniform_filter(scaled, (1, 5, 5))[:, 1:-1, 1:-1]
    edges = np.linspace(0.0, 1.0, _BINS + 1)
    edges[0], edges[-1] = -np.inf, np.inf
    found = {}
    for i, (a, b) in enumerate(pairwise(edges)):
        values = difference[(smooth >= a) & (smooth < b)]
        found[f"noise_{i}"] = float(np.log(1e-4 + values.std())) if values.size > 50 else np.nan
        if i == 0:
            found["noise_skewness"] = _skewness(values)
            found["noise_tail"] = _tail(values)
    one, two = difference[..., :-2].ravel(), difference[..., 2:].ravel()
    found["noise_correlation"] = float((one * two).mean() / (1e-9 + (difference**2).mean()))
    return found


def _correlations(scaled: Float) -> Numbers:
    """Compute autocorrelations at several lags, laterally and along z."""
    centred = scaled - scaled.mean()
    variance = float((centred**2).mean()) + 1e-9
    found = {}
    for lag in _LAGS:
        across = (centred[:, lag:] * centred[:, :-lag]).mean() + (
            centred[..., lag:] * centred[..., :-lag]
        ).mean()
        found[f"correlation_across_{lag}"] = float(across) / 2 / variance
        if lag < len(centred) // 2:
            found[f"correlation_along_z_{lag}"] = float((centred[lag:] * centred[:-lag]).mean()) / variance
        else:
            found[f"correlation_along_z_{lag}"] = np.nan
    return found


def _profiles(scaled: Float) -> Numbers:
    """Compute mean and highest intensities by depth and by distance from the centre."""
    found = {}
    for i, layer in enumerate(np.array_split(scaled, _LAYERS)):
        found[f"layer_{i}"] = float(layer.mean()) if layer.size else np.nan
        found[f"layer_top_{i}"] = float(np.percentile(layer, 99)) if layer.size else np.nan
    ny, nx = scaled.shape[1:]
    y, x = np.linspace(-1, 1, ny)[:, None], np.linspace(-1, 1, nx)
    ring = np.minimum(np.sqrt(y**2 + x**2) / np.sqrt(2) * _RINGS, _RINGS - 1).astype(int)
    flat, top = scaled.mean(0), scaled.max(0)
    for i in range(_RINGS):
        found[f"ring_{i}"] = float(flat[ring == i].mean())
        found[f"ring_top_{i}"] = float(top[ring == i].mean())
    return found


def _blobs(scaled: Float, spacing: Spacing) -> Numbers:
    """Describe differences of Gaussians by scale: spread, tails and number of peaks."""
    ratio = spacing[2] / spacing[0]
    image, sigma, factor = scaled, 0.0, 1.0
    found = {}
    for scale, following in pairwise(_SCALES):
        if scale >= _HALVED and factor == 1.0:
            image, factor = image[:, ::2, ::2], 2.0
        blurred = _widen(image, sigma, scale, ratio, factor)
        wider = _widen(blurred, scale, following, ratio, factor)
        band = blurred - wider
        spread = float(band.std()) + 1e-6
        found[f"band_{scale:g}"] = float(np.log(spread))
        found[f"band_skewness_{scale:g}"] = _skewness(band)
        top = float(np.percentile(band, 99.8))
        found[f"band_top_{scale:g}"] = float(np.log(max(top, 1e-6) / spread))
        if scale >= 1.4:
            reach = [max(1, round(2 * scale * r)) // 2 * 2 + 1 for r in (ratio, 1 / factor, 1 / factor)]
            peaks = band[(ndi.maximum_filter(band, reach) == band) & (band > 0.15 * top)]
            found[f"peaks_{scale:g}"] = float(np.log1p((peaks > 0.35 * top).sum()))
            found[f"faint_peaks_{scale:g}"] = float(np.log1p((peaks > 4 * spread).sum()))
        image, sigma = blurred, scale
    return found


def _widen(image: Float, before: float, after: float, ratio: float, factor: float) -> Float:
    """Blur an image from one Gaussian scale to the next, in lateral voxels."""
    step = np.sqrt(max(after**2 - before**2, 0.0))
    widened: Float = ndi.gaussian_filter(image, (step * ratio, step / factor, step / factor), truncate=3.0)
    return widened


def _tail(values: Float) -> float:
    return float(np.log(1e-4 + max(float(np.percentile(values, 99.5)), 0))) if values.size else float("nan")


def _skewness(values: Float) -> float:
    if values.size < 50:
        return float("nan")
    centred = values - values.mean()
    third = float((centred * centred * centred).mean())  # twenty times faster than a power of 3
    return float(np.arcsinh(third / (float(centred.std()) + 1e-9) ** 3))
