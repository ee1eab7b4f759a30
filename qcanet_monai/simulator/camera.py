"""Camera model: photon noise, electron multiplication, read noise, digitisation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from qcanet_monai.simulator.parameters import Camera
from qcanet_monai.simulator.settings import Seed, stream

_BITS_OF_8 = 255.0


def record(
    light: NDArray[np.float32], camera: Camera, rng: np.random.Generator, chip_seed: Seed = (0,)
) -> NDArray[np.uint16]:
    """Return the counts (Z, Y, X), uint16, that the camera writes to a file.

    Electron multiplication (EMCCD) turns n photons into a Gamma(n, gain) variate, which doubles the variance
    of the shot noise (Robbins & Hadwen 2003). Counting detectors have neither offset nor read noise.

    Parameters
    ----------
    light
        Intensity (Z, Y, X), float32, relative to a typical interphase nucleus.
    camera, rng
        Detector parameters, and source of photon and read noise.
    chip_seed
        Seed of the pixel gains and hot pixels, which are the same in all slices and frames.
    """
    chip_rng = stream(chip_seed, "chip")
    chip = np.ones(light.shape[1:], np.float32)
    if camera.pattern:
        own = chip_rng.standard_normal(chip.shape, dtype=np.float32)
        chip = np.clip(chip + np.float32(camera.pattern) * own, 0, None)
    expected = np.clip(light * np.float32(camera.photons) + np.float32(camera.dark), 0, None)
    photons = rng.poisson(expected * chip)
    signal = photons.astype(np.float32)
    if camera.kind == "emccd":
        signal = rng.standard_gamma(signal, dtype=np.float32)
    signal *= np.float32(camera.gain)
    offset = 0.0
    if camera.kind != "counting":
        offset = camera.offset
        noise = np.float32(camera.read_noise * camera.gain)
        signal += np.float32(offset) + noise * rng.standard_normal(light.shape, dtype=np.float32)
    if camera.hot_pixels:
        hot = chip_rng.random(chip.shape) < camera.hot_pixels
        signal[:, hot] += camera.gain * camera.photons * chip_rng.exponential(1.0, int(hot.sum()))
    if camera.smoothing:
        signal = ndi.gaussian_filter(signal, camera.smoothing)
    return _digitise(signal, offset, camera)


def _digitise(signal: NDArray[np.float32], offset: float, camera: Camera) -> NDArray[np.uint16]:
    """Clip and round to the file's range; stretch 8-bit files from black to white."""
    unit = camera.photons * camera.gain
    white = offset + camera.white * unit
    if camera.bits == 8:
        black = offset + camera.black * unit
        if not camera.white or white <= black:
            white = max(float(np.percentile(signal, 99.95)), black + camera.gain)
        signal = (signal - black) * np.float32(_BITS_OF_8 / max(white - black, 1e-6))
        return np.clip(np.rint(signal), 0, _BITS_OF_8).astype(np.uint16)
    highest = 2**camera.bits - 1
    if camera.white:
        highest = min(highest, round(white))
    return np.clip(np.rint(signal), 0, highest).astype(np.uint16)
