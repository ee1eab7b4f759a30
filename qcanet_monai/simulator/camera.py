"""From light to counts: photons, multiplication, read noise, digitisation, and what a file keeps of it."""

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
    """Counts (Z, Y, X) that a file holds for `light` (1 = a typical interphase nucleus), as uint16.

    An electron-multiplying register turns n photons into a Gamma(n, gain) variate, which doubles the
    variance of the shot noise (Robbins & Hadwen 2003) and gives the background its bright specks; a
    counting detector hands on the photons alone. Hot pixels and the pixels' own gains stand still in
    all slices and frames, as a chip's do.

    Parameters
    ----------
    light
        Light (Z, Y, X) before the camera, float32.
    camera
        The detector.
    rng
        Source of the noise.
    chip_seed
        Fixes the chip's pixels.
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
    """Clip and round to the file's range; 8 bits are stretched between black and white."""
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
