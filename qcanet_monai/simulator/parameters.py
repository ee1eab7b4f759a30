"""The parameters of one recording, in four groups: what each means, and which values it can have."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Spacing = tuple[float, float, float]


class Group(BaseModel):
    """Parameters that are drawn together; frozen, and each explained."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class View(Group):
    """Which part of space and time is recorded, and on which voxels."""

    lateral_um: float = Field(0.8, gt=0)
    """Edge of a voxel along y and x, in µm."""
    anisotropy: float = Field(2.1875, ge=0.25, le=20)
    """Edge of a voxel along z, in lateral edges."""
    depth_um: float = Field(89.25, gt=0)
    """Extent along z, in µm."""
    width_um: float = Field(96.8, gt=0)
    """Extent along y and x, in µm."""
    most: int = Field(160, ge=8)
    """Voxels along an axis at most; a larger field is cut to so many."""
    shift_z_um: float = 0.0
    """Where the field's middle lies from the embryo's, along z, in µm."""
    shift_y_um: float = 0.0
    """Likewise along y."""
    shift_x_um: float = 0.0
    """Likewise along x."""
    first: float = Field(0.1, ge=0, le=9)
    """Generations (cell cycles since the zygote) at a series' first frame, where a spindle starts."""
    last: float = Field(6.6, ge=0, le=9)
    """Generations at its last frame; 6.6 end at 60 to 75 nuclei; a spindle is full grown."""
    oval: bool = False
    """Whether everything outside an ellipse is set to 0, as some export an embryo cut out."""

    @property
    def spacing(self) -> Spacing:
        """Voxel size (z, y, x) in µm."""
        return self.lateral_um * self.anisotropy, self.lateral_um, self.lateral_um


class Growth(Group):
    """How an embryo, or a piece of tissue, is made of nuclei."""

    kind: Literal["embryo", "tissue", "cells", "spindle"] = "embryo"
    """A dividing embryo; nuclei that fill the field; cells with stained membranes; one growing spindle."""
    radius_um: float = Field(43.0, gt=1, le=500)
    """The embryo's radius in µm, or that of the spindle's oocyte."""
    flatness: float = Field(1.0, gt=0.3, le=1)
    """Its extent along one random axis, relative to the others."""
    zygote_volume_um3: float = Field(8000.0, gt=1)
    """Volume of the zygote's nucleus in µm³."""
    volume_exponent: float = Field(0.65, ge=0, le=1.5)
    """Nuclear volume goes with the cell's volume to this power."""
    compaction: float = Field(0.9, gt=0.3, le=1.3)
    """Distance of touching cells, relative to soft spheres of their size."""
    asynchrony: float = Field(0.08, ge=0, le=0.5)
    """Spread of the cell cycles' lengths."""
    size_spread: float = Field(0.1, ge=0, le=1)
    """Spread of the logarithm of the nuclear volumes; of cells', what is added to chance's."""
    brightness_spread: float = Field(0.25, ge=0, le=1.5)
    """Spread of the logarithm of the brightness of nuclei, or of cells."""
    elongation: float = Field(0.15, ge=0, le=0.8)
    """Spread of the logarithm of a nucleus's axes; cells: of the axes that all of them share."""
    squareness: float = Field(2.0, ge=1.5, le=6)
    """Exponent of the superellipsoid: 2 is an ellipsoid, more is blunter, less is pointed."""
    bend: float = Field(0.0, ge=0, le=0.8)
    """How far a nucleus is bent into a kidney's shape."""
    roughness: float = Field(0.06, ge=0, le=0.3)
    """Height of a nucleus's bumps, relative to its radius; cells: of the walls' waves, to their diameter."""
    condensation: float = Field(0.9, ge=0, le=1.5)
    """Brightness goes with the relative volume to minus this power: 1 keeps the stain's amount."""
    polar_bodies: int = Field(2, ge=0, le=20)
    """Polar bodies; they glow and are no nuclei."""
    polar_decay: float = Field(0.0, ge=0, le=3)
    """Share of a polar body's light lost per generation, exponentially; it shrinks as well."""
    debris: int = Field(0, ge=0, le=100)
    """Specks of 0.5 to 2 µm that glow and are no nuclei."""
    glare: int = Field(0, ge=0, le=20)
    """Objects of 3 to 9 µm, several times as bright as nuclei, that are none."""
    apoptosis: float = Field(0.0, ge=0, le=0.5)
    """Share of the cells from the 16-cell stage on that lie there in fragments, which are no nuclei."""
    cavity: float = Field(0.0, ge=0, le=0.85)
    """Radius of the blastocyst's cavity, full grown, in the embryo's; it opens after generation 4.8.

    Cells: of the largest of up to three cavities, in half the field's least extent.
    """
    diameter_um: float = Field(10.0, gt=0.5, le=100)
    """Tissue: diameter of a typical nucleus in µm; cells: of a ball of a typical cell's volume."""
    crowding: float = Field(1.4, ge=0.9, le=6)
    """Tissue: distance of neighbouring nuclei in diameters."""
    mitoses: float = Field(0.05, ge=0, le=1)
    """Tissue: share of the nuclei in mitosis."""
    empty: float = Field(0.0, ge=0, le=0.9)
    """Tissue and cells: share of the field that a plane cuts off and leaves empty."""
    membrane_um: float = Field(0.4, gt=0, le=10)
    """Cells: thickness of the membrane between two cells, or around the tissue, in µm."""
    spindle_start_um: float = Field(6.0, gt=0.5, le=100)
    """Spindle: diameter while it is small and round, in µm; no more than its final width counts."""
    spindle_length_um: float = Field(30.0, gt=0.5, le=200)
    """Spindle: length when full grown, in µm; no less than its width counts."""
    spindle_width_um: float = Field(10.0, gt=0.5, le=100)
    """Spindle: width when full grown, in µm."""
    spindle_onset: float = Field(0.1, ge=0, le=0.9)
    """Spindle: part of the series that passes before it grows."""


class Optics(Group):
    """Staining, blur and haze of one recording; lengths in µm."""

    lateral_um: float = Field(0.7, gt=0)
    """Standard deviation of the point spread's core along y and x."""
    axial_um: float = Field(3.2, gt=0)
    """Likewise along z."""
    haze: float = Field(0.15, ge=0, le=0.9)
    """Share of the light that is out of focus."""
    haze_lateral_um: float = Field(4.0, gt=0)
    """Standard deviation of that light along y and x."""
    haze_axial_um: float = Field(9.0, gt=0)
    """Likewise along z."""
    texture: float = Field(0.25, ge=0, le=1.5)
    """Spread of the logarithm of the chromatin's density."""
    grain_um: float = Field(1.2, gt=0)
    """Size of the chromatin's grains."""
    nucleoli: float = Field(3.0, ge=0, le=30)
    """Mean number of nucleoli, dark, per interphase nucleus."""
    chromocentres: float = Field(0.0, ge=0, le=60)
    """Mean number of chromocentres, bright, per interphase nucleus."""
    outline: float = Field(0.3, gt=0, lt=1)
    """The truth's outline stands where a blurred nucleus falls to this share of its own peak."""
    attenuation: float = Field(0.5, ge=-4, le=4)
    """Logarithm of the last slice's brightness over the first's."""
    scattering_um: float = Field(0.0, ge=0, le=10)
    """Further lateral blur at the dim end of z."""
    membrane_spread: float = Field(0.3, ge=0, le=1.5)
    """Cells: spread of the logarithm of the stain along the membrane."""
    membrane_holes: float = Field(0.0, ge=0, le=0.9)
    """Cells: share of the membrane's area that is left unstained."""
    membrane_patch_um: float = Field(3.0, gt=0, le=100)
    """Cells: size of the bright, dim and unstained patches of the membrane in µm."""
    body: float = Field(0.03, ge=0, le=1)
    """Glow of the cytoplasm, relative to a typical nucleus, membrane or spindle."""
    gradient: float = Field(0.0, ge=0, le=0.8)
    """Change of the illumination from the middle of the field towards one side, at a corner at most."""
    drift_um: float = Field(0.0, ge=0, le=2)
    """Standard deviation of the sideways step from slice to slice."""
    bleaching: float = Field(0.0, ge=0, le=1)
    """Share of the light lost per generation of a series, exponentially."""


class Camera(Group):
    """One recording's detector and the file's range."""

    kind: Literal["emccd", "scmos", "counting"] = "emccd"
    """Electron multiplying, plain (sCMOS, CCD, photomultiplier) or photon counting."""
    photons: float = Field(12.0, gt=0)
    """Mean photons of a voxel of a typical interphase nucleus."""
    dark: float = Field(0.5, ge=0)
    """Mean photons of a background voxel."""
    gain: float = Field(22.0, gt=0)
    """Counts per photon."""
    offset: float = Field(95.0, ge=0)
    """Counts without any light; a counting detector has none."""
    read_noise: float = Field(0.14, ge=0)
    """Standard deviation in photons; a counting detector has none."""
    pattern: float = Field(0.0, ge=0, le=0.2)
    """Spread of the pixels' own gain; alike in every slice."""
    smoothing: float = Field(0.0, ge=0, le=5)
    """Standard deviation in voxels of averaging done before saving."""
    hot_pixels: float = Field(0.0, ge=0, le=0.1)
    """Share of pixels that are bright in every slice."""
    white: float = Field(0.0, ge=0)
    """Brightness at which the file saturates, relative to a typical nucleus; 0 for never."""
    black: float = Field(0.0, ge=-1, le=1)
    """Brightness that an 8-bit file maps to 0, likewise."""
    bits: Literal[8, 12, 16] = 16
    """Bits of the file."""

    @model_validator(mode="before")
    @classmethod
    def _number(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("bits"), str):
            values = {**values, "bits": int(values["bits"])}  # words of `choices`
        return values
