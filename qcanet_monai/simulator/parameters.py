"""Parameters of one recording in four groups: view, growth, optics, camera."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Spacing = tuple[float, float, float]


class Group(BaseModel):
    """Frozen group of parameters; each field has a description and a valid range."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class View(Group):
    """Recorded part of space and time, and its voxel grid."""

    lateral_um: float = Field(0.8, gt=0)
    """Voxel size along y and x, in µm."""
    anisotropy: float = Field(2.1875, ge=0.25, le=20)
    """Voxel size along z, relative to `lateral_um`."""
    depth_um: float = Field(89.25, gt=0)
    """Extent of the field along z, in µm."""
    width_um: float = Field(96.8, gt=0)
    """Extent of the field along y and x, in µm."""
    most: int = Field(160, ge=8)
    """Maximum number of voxels along an axis; larger fields are cropped."""
    shift_z_um: float = 0.0
    """Offset of the field's centre from the embryo's along z, in µm."""
    shift_y_um: float = 0.0
    """Offset of the field's centre from the embryo's along y, in µm."""
    shift_x_um: float = 0.0
    """Offset of the field's centre from the embryo's along x, in µm."""
    first: float = Field(0.1, ge=0, le=9)
    """Time of the first frame in generations (cell cycles since the zygote); spindle: any unit."""
    last: float = Field(6.6, ge=0, le=9)
    """Time of the last frame in generations; 6.6 gives 60 to 75 nuclei; spindle: time of full growth."""
    oval: bool = False
    """Set every voxel outside an ellipse to 0, as in exports of segmented embryos (1: on, 0: off)."""

    @property
    def spacing(self) -> Spacing:
        """Voxel size (z, y, x) in µm."""
        return self.lateral_um * self.anisotropy, self.lateral_um, self.lateral_um


class Growth(Group):
    """Size, shape, arrangement and brightness of the simulated objects."""

    kind: Literal["embryo", "tissue", "cells", "spindle"] = "embryo"
    """Dividing embryo, tissue of nuclei, cells with stained membranes, or one growing spindle."""
    radius_um: float = Field(43.0, gt=1, le=500)
    """Radius of the embryo, or of the spindle's oocyte, in µm."""
    flatness: float = Field(1.0, gt=0.3, le=1)
    """Extent of the embryo along one random axis, relative to the other axes."""
    zygote_volume_um3: float = Field(8000.0, gt=1)
    """Typical full volume of the zygote's nucleus in µm³."""
    volume_exponent: float = Field(0.65, ge=0, le=1.5)
    """Exponent of nuclear volume as a power of cell volume."""
    compaction: float = Field(0.9, gt=0.3, le=1.3)
    """Relative rest distance between neighbouring cells; lower values pack cells more tightly."""
    asynchrony: float = Field(0.08, ge=0, le=0.5)
    """Standard deviation of the length of a cell cycle, in generations."""
    size_spread: float = Field(0.1, ge=0, le=1)
    """Standard deviation of log nuclear volume; cells: of log cell volume, beyond random placement."""
    brightness_spread: float = Field(0.25, ge=0, le=1.5)
    """Standard deviation of log brightness across nuclei, cells or spindles."""
    elongation: float = Field(0.15, ge=0, le=0.8)
    """Standard deviation of the log axis lengths of a nucleus; cells: of a stretch common to all cells."""
    squareness: float = Field(2.0, ge=1.5, le=6)
    """Exponent of the superellipsoid: 2 is an ellipsoid, higher is blunter, lower is more pointed."""
    bend: float = Field(0.0, ge=0, le=0.8)
    """Bend of an interphase nucleus towards a kidney shape, relative to its semi-axes; 0 is straight."""
    roughness: float = Field(0.06, ge=0, le=0.3)
    """Amplitude of surface bumps, relative to the nuclear radius; cells: of wall waves, to `diameter_um`."""
    condensation: float = Field(0.9, ge=0, le=1.5)
    """Exponent c of brightness ∝ (relative volume)^-c; 1 conserves the amount of stain."""
    polar_bodies: int = Field(2, ge=0, le=20)
    """Number of polar bodies, bright but absent from the ground truth."""
    polar_decay: float = Field(0.0, ge=0, le=3)
    """Exponential decay rate of polar-body brightness, per generation; polar bodies shrink as well."""
    debris: int = Field(0, ge=0, le=100)
    """Number of bright specks, 0.5 to 2 µm in diameter, that are absent from the ground truth."""
    glare: int = Field(0, ge=0, le=20)
    """Number of objects, 3 to 9 µm in diameter, 2 to 10 times as bright as nuclei, absent from the truth."""
    apoptosis: float = Field(0.0, ge=0, le=0.5)
    """Probability that a cell dies instead of dividing, from 16 cells on; fragments are unlabelled."""
    cavity: float = Field(0.0, ge=0, le=0.85)
    """Final radius of the blastocyst cavity, relative to the embryo's; it opens after generation 4.8.

    Cells: maximum radius of one to three cavities, relative to half the field's smallest extent.
    """
    diameter_um: float = Field(10.0, gt=0.5, le=100)
    """Tissue: diameter of a typical nucleus in µm; cells: equivalent-sphere diameter of a typical cell."""
    crowding: float = Field(1.4, ge=0.9, le=6)
    """Tissue: distance between neighbouring nuclei, in units of `diameter_um`."""
    mitoses: float = Field(0.05, ge=0, le=1)
    """Tissue: fraction of nuclei in mitosis."""
    empty: float = Field(0.0, ge=0, le=0.9)
    """Tissue and cells: fraction of the field, beyond a random plane, that is empty."""
    membrane_um: float = Field(0.4, gt=0, le=10)
    """Cells: thickness of the membrane between two cells, or around the tissue, in µm."""
    spindle_start_um: float = Field(6.0, gt=0.5, le=100)
    """Spindle: initial diameter in µm; at most `spindle_width_um` is used."""
    spindle_length_um: float = Field(30.0, gt=0.5, le=200)
    """Spindle: final length in µm; at least `spindle_width_um` is used."""
    spindle_width_um: float = Field(10.0, gt=0.5, le=100)
    """Spindle: final width in µm."""
    spindle_onset: float = Field(0.1, ge=0, le=0.9)
    """Spindle: fraction of the series before growth begins."""


class Optics(Group):
    """Staining, blur, haze and illumination of one recording."""

    lateral_um: float = Field(0.7, gt=0)
    """Standard deviation of the in-focus point spread function along y and x, in µm."""
    axial_um: float = Field(3.2, gt=0)
    """Standard deviation of the in-focus point spread function along z, in µm."""
    haze: float = Field(0.15, ge=0, le=0.9)
    """Fraction of the light that is out of focus."""
    haze_lateral_um: float = Field(4.0, gt=0)
    """Standard deviation of the out-of-focus blur along y and x, in µm."""
    haze_axial_um: float = Field(9.0, gt=0)
    """Standard deviation of the out-of-focus blur along z, in µm."""
    texture: float = Field(0.25, ge=0, le=1.5)
    """Standard deviation of log chromatin density."""
    grain_um: float = Field(1.2, gt=0)
    """Grain size of the chromatin (standard deviation of its smoothing), in µm."""
    nucleoli: float = Field(3.0, ge=0, le=30)
    """Mean number of dark nucleoli per interphase nucleus."""
    chromocentres: float = Field(0.0, ge=0, le=60)
    """Mean number of bright chromocentres per interphase nucleus."""
    outline: float = Field(0.3, gt=0, lt=1)
    """Threshold of the ground-truth mask, relative to the peak of the blurred nucleus."""
    attenuation: float = Field(0.5, ge=-4, le=4)
    """Log ratio of the brightness of the last slice to that of the first."""
    scattering_um: float = Field(0.0, ge=0, le=10)
    """Standard deviation of the additional lateral blur at the dim end of z, in µm."""
    membrane_spread: float = Field(0.3, ge=0, le=1.5)
    """Cells: standard deviation of log stain density along the membrane."""
    membrane_holes: float = Field(0.0, ge=0, le=0.9)
    """Cells: fraction of the membrane area that is unstained."""
    membrane_patch_um: float = Field(3.0, gt=0, le=100)
    """Cells: size of the bright, dim and unstained membrane patches, in µm."""
    body: float = Field(0.03, ge=0, le=1)
    """Brightness of the cytoplasm, relative to a typical nucleus, membrane or spindle."""
    gradient: float = Field(0.0, ge=0, le=0.8)
    """Maximum relative change of the illumination between the field's centre and a corner."""
    drift_um: float = Field(0.0, ge=0, le=2)
    """Standard deviation of the lateral drift from one slice to the next, in µm."""
    bleaching: float = Field(0.0, ge=0, le=1)
    """Exponential rate of photobleaching, per generation."""


class Camera(Group):
    """Detector of one recording, and intensity range of the file."""

    kind: Literal["emccd", "scmos", "counting"] = "emccd"
    """Electron multiplying (EMCCD), conventional (sCMOS, CCD, photomultiplier) or photon counting."""
    photons: float = Field(12.0, gt=0)
    """Mean photons per voxel of a typical interphase nucleus, membrane or spindle."""
    dark: float = Field(0.5, ge=0)
    """Mean photons per background voxel."""
    gain: float = Field(22.0, gt=0)
    """Counts per photon."""
    offset: float = Field(95.0, ge=0)
    """Counts without light; ignored for counting detectors."""
    read_noise: float = Field(0.14, ge=0)
    """Standard deviation of the read noise in photons; ignored for counting detectors."""
    pattern: float = Field(0.0, ge=0, le=0.2)
    """Standard deviation of relative pixel gain; the same pattern in every slice."""
    smoothing: float = Field(0.0, ge=0, le=5)
    """Standard deviation of Gaussian smoothing before saving, in voxels."""
    hot_pixels: float = Field(0.0, ge=0, le=0.1)
    """Fraction of pixels that are bright in every slice."""
    white: float = Field(0.0, ge=0)
    """Brightness at which the file saturates, relative to a typical nucleus; 0 applies no limit."""
    black: float = Field(0.0, ge=-1, le=1)
    """Brightness mapped to 0 in an 8-bit file, relative to a typical nucleus."""
    bits: Literal[8, 12, 16] = 16
    """Bit depth of the file."""

    @model_validator(mode="before")
    @classmethod
    def _number(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("bits"), str):
            values = {**values, "bits": int(values["bits"])}  # the words of `choices` are strings
        return values
