"""MONAI transforms that load, resample, normalise, threshold and save volumes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from qcanet_monai.core.grey import grey_values
from qcanet_monai.core.instances.markers import markers_from_mask
from qcanet_monai.core.normalise import METHODS, normalise
from qcanet_monai.core.resample import isotropic_shape, resample, resample_labels, resample_mask
from qcanet_monai.core.targets.build import occupancy
from qcanet_monai.errors import InputError
from qcanet_monai.io import output_folder, read_labels, read_volume, write_labels
from qcanet_monai.io.names import stem_of
from qcanet_monai.nn.metatensor import as_metatensor, spacing_of, with_values


class LoadVolumed(MapTransform):
    """Read files (TIFF, NIfTI, OME-Zarr) as MetaTensors (1, Z, Y, X).

    Parameters
    ----------
    keys, label_keys
        Keys of paths; `label_keys` become labels (uint8, int32 from label 256), others float32 images.
    spacing
        Voxel size (z, y, x) in µm for files that do not state it.
    channel
        Channel of a multi-channel image, from 0.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_keys: Sequence[str] = ("label",),
        spacing: Sequence[float] | None = None,
        channel: int | None = None,
    ) -> None:
        super().__init__(keys)
        self.label_keys, self.channel = tuple(label_keys), channel
        self.spacing = tuple(spacing) if spacing is not None else None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each path with its volume."""
        out = dict(data)
        for key in self.key_iterator(out):
            if key in self.label_keys:
                volume = read_labels(out[key], spacing=self.spacing, instances=False)
                array = volume.array.astype(np.uint8 if volume.array.max() < 256 else np.int32)
            else:
                volume = read_volume(out[key], spacing=self.spacing, channel=self.channel)
                array = grey_values(volume.array)
            out[key] = as_metatensor(array, volume.spacing, str(out[key]))
        return out


class Isotropicd(MapTransform):
    """Resample (1, Z, Y, X) to cubic voxels.

    Parameters
    ----------
    keys, label_keys
        Keys to resample; masks in `label_keys` become 0 or 1 (uint8), heights (floats), which are 0 on an
        outline, become the fraction of each voxel inside (float32).
    isotropic_spacing_um
        Voxel edge in µm; if None, the value in the volume's metadata, or else its finest spacing.
    instances
        Keep the labels of masks instead, by nearest neighbour.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_keys: Sequence[str] = ("label",),
        isotropic_spacing_um: float | None = None,
        instances: bool = False,
    ) -> None:
        super().__init__(keys)
        self.label_keys, self.instances = tuple(label_keys), instances
        self.isotropic_spacing_um = isotropic_spacing_um

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample every key."""
        out = dict(data)
        for key in self.key_iterator(out):
            image: MetaTensor = out[key]
            spacing = spacing_of(image)
            native = np.asarray(image[0])
            edge = self.isotropic_spacing_um
            if edge is None:
                edge = image.meta.get("isotropic_spacing_um")
            shape = isotropic_shape(native.shape, spacing=spacing, isotropic_spacing_um=edge)
            new: np.ndarray
            if key not in self.label_keys:
                new = resample(native, shape)
            elif np.issubdtype(native.dtype, np.floating):
                new = occupancy(resample(native, shape))
            elif self.instances:
                new = resample_labels(native, shape)
            else:
                new = resample_mask(native, shape).astype(np.uint8)
            z, y, x = (s * n / m for s, n, m in zip(spacing, native.shape, shape, strict=True))
            out[key] = as_metatensor(new, (z, y, x), image.meta.get("filename_or_obj", ""))
            out[key].meta["native_shape"] = torch.tensor(native.shape)
            out[key].meta["native_spacing"] = torch.tensor(spacing, dtype=torch.float64)
        return out


class Normalised(MapTransform):
    """Scale intensities (1, Z, Y, X) to [0, 1].

    Parameters
    ----------
    keys
        Keys to scale.
    method
        Method of ``core.normalise``.
    """

    def __init__(self, keys: KeysCollection, method: str = "robust") -> None:
        super().__init__(keys)
        if method not in METHODS:
            raise InputError(f"expected a normalisation of {', '.join(METHODS)}, got {method!r}")
        self.method = method

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale every key."""
        out = dict(data)
        for key in self.key_iterator(out):
            image: MetaTensor = out[key]
            scaled = normalise(np.asarray(image), self.method)
            out[key] = with_values(image, torch.from_numpy(scaled))
        return out


class NativeGridd(MapTransform):
    """Resample (C, Z, Y, X) from the isotropic grid to the image's native grid.

    Parameters
    ----------
    keys
        Keys to resample, for example probabilities.
    image_key
        Key of the image that `Isotropicd` resampled; its metadata hold the native grid.
    """

    def __init__(self, keys: KeysCollection, image_key: str = "image") -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample every key."""
        out = dict(data)
        meta = out[self.image_key].meta
        nz, ny, nx = (int(n) for n in meta["native_shape"])
        z, y, x = (float(s) for s in meta["native_spacing"])
        for key in self.key_iterator(out):
            channels = [resample(np.asarray(channel.cpu()), (nz, ny, nx)) for channel in out[key]]
            grid = as_metatensor(channels[0], (z, y, x), meta.get("filename_or_obj", ""))
            out[key] = with_values(grid, torch.from_numpy(np.stack(channels)))
        return out


class Maskd(MapTransform):
    """Threshold the last channel of (C, Z, Y, X) to a mask (1, Z, Y, X).

    Parameters
    ----------
    keys
        Keys of probabilities.
    threshold
        Lowest probability of the foreground.
    min_size
        Smallest component in voxels; smaller ones are removed as noise.
    """

    def __init__(self, keys: KeysCollection, threshold: float = 0.5, min_size: int = 1) -> None:
        super().__init__(keys)
        self.threshold, self.min_size = threshold, min_size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Threshold every key."""
        out = dict(data)
        for key in self.key_iterator(out):
            probability: MetaTensor = out[key]
            above = np.asarray(probability[-1].cpu()) >= self.threshold
            mask = markers_from_mask(above, min_size=self.min_size) > 0
            out[key] = with_values(probability, torch.from_numpy(mask[None]))
        return out


class SaveMaskd(MapTransform):
    """Write a mask (1, Z, Y, X), 0 or 255, as ``STEM_POSTFIX.tif`` with spacing.

    Parameters
    ----------
    keys
        Keys to write.
    output_dir
        Folder for the files, created if missing.
    postfix
        Text after the stem of the image's name.
    """

    def __init__(self, keys: KeysCollection, output_dir: str, postfix: str) -> None:
        super().__init__(keys)
        self.output_dir, self.postfix = output_dir, postfix

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        """Write every key and return `data` unchanged."""
        for key in self.key_iterator(dict(data)):
            mask: MetaTensor = data[key]
            name = f"{stem_of(mask.meta['filename_or_obj'])}_{self.postfix}.tif"
            array = np.where(np.asarray(mask[0].cpu()) > 0.5, np.uint8(255), np.uint8(0))
            write_labels(output_folder(self.output_dir) / name, array, spacing=spacing_of(mask))
        return data
