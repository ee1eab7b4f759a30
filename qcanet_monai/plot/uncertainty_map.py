"""Uncertainty map: projections with every nucleus coloured by its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from qcanet_monai.errors import InputError
from qcanet_monai.io.atomic import replacing
from qcanet_monai.io.spacing import check_spacing
from qcanet_monai.plot.outlines import RGB
from qcanet_monai.plot.overlay import ends_of, stretch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure


_WIDTH, _DPI = 12.0, 150  # inches, pixels per inch
_FINE = 900  # pixels along the longest side of a projection
_OUTLINE = 4  # pixels, drawn inside the nucleus
_OPACITY = 0.5  # of a nucleus's fill
_DIM = 0.7  # brightness of the image: colours pale on white
_DARKEST = 0.2  # start of the colour map: darker colours look black
_TITLE = 110  # maximum characters


def write_uncertainty_map(
    path: str | PathLike[str],
    image: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    values: npt.NDArray[np.floating],
    *,
    spacing: Sequence[float],
    title: str,
    unit: str = "µm",
    spread: npt.NDArray[np.floating] | None = None,
) -> None:
    """Draw the uncertainty of each nucleus into one PNG file.

    Shows grey maximum projections along z and y. Each silhouette has the colour of its nucleus's value, with
    the highest values on top. Colours span 0 to the highest finite value. Nuclei with a non-finite value get
    the highest colour and are counted in the title. A second row shows projections of `spread`, if given.

    Parameters
    ----------
    path : path-like
        Output PNG file.
    image : ndarray, shape (Z, Y, X)
        Intensities, any real dtype.
    labels : ndarray of int, shape (Z, Y, X)
        0 is background, 1..n without gaps.
    values : ndarray of float, shape (n,)
        90 % confidence radii in the order of the labels.
    spacing : sequence of 3 float
        Voxel size (z, y, x) in µm; projections are drawn to scale.
    title : str
        Title, such as the file name.
    unit : str
        Unit of `values`.
    spread : ndarray of float, shape (Z, Y, X), optional
        Standard deviation of each voxel's foreground probability.

    Raises
    ------
    InputError
        If the shapes differ or are not 3-D, `values` has not one entry per label, or `spacing` is invalid.
    OutputError
        If the file cannot be written.
    """
    step = check_spacing(spacing, path)
    _check_shapes(path, image, labels, values, spread)
    figure, rows = _new_figure(image.shape, step, 1 if spread is None else 2)
    finite = values[np.isfinite(values)]
    top = float(finite.max(initial=0)) or 1.0
    colours = _radius_colours()
    levels = np.where(np.isfinite(values), values, top)
    for axes, axis in zip(rows[0], (0, 1), strict=True):
        picture = _silhouettes(image, labels, levels / top, axis, step, colours)
        _show(axes, picture, axis, image.shape, step, "image, maximum")
    _colour_bar(figure, rows[0], colours, top, f"90 % radius, {unit}")
    if spread is not None:
        _draw_spread(figure, rows[1], spread, step)
    heading = title if len(title) <= _TITLE else title[: _TITLE - 1] + "…"
    # a $ in a file name would start a formula
    figure.suptitle(f"{heading}\n{_facts(values, finite, unit)}", fontsize=11, parse_math=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)


def _check_shapes(
    path: str | PathLike[str],
    image: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    values: npt.NDArray[np.floating],
    spread: npt.NDArray[np.floating] | None,
) -> None:
    shapes = [image.shape, labels.shape] + ([] if spread is None else [spread.shape])
    if image.ndim != 3 or image.size == 0 or len(set(shapes)) > 1:
        raise InputError(
            f"{path}: expected image, labels and spread of the same 3-D shape, got "
            f"{' and '.join(map(str, shapes))}: give arrays of one volume"
        )
    n = int(labels.max())
    if values.shape != (n,):
        raise InputError(
            f"{path}: expected one value for each of the {n} labels, got shape {values.shape}: "
            "give values of the same labels"
        )


def _new_figure(
    shape: tuple[int, ...], spacing: tuple[float, float, float], n_rows: int
) -> tuple[Figure, npt.NDArray[Any]]:
    """Return a figure sized to its panels, and the panels' axes (n_rows, 2)."""
    from matplotlib.figure import Figure

    depth, height, width = (n * size for n, size in zip(shape, spacing, strict=True))
    panel = 0.4 * _WIDTH * min(2.0, max(depth, height) / width)
    figure = Figure(figsize=(_WIDTH, 0.8 + n_rows * (panel + 0.6)), layout="constrained")
    return figure, figure.subplots(n_rows, 2, squeeze=False)


def _silhouettes(
    image: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    levels: npt.NDArray[np.floating],
    axis: int,
    spacing: tuple[float, float, float],
    colours: Colormap,
) -> RGB:
    """Draw a projection; colour nuclei by level from 0 to 1, the highest on top."""
    from PIL import Image
    from scipy.ndimage import binary_erosion, find_objects

    flat = image.max(axis=axis)
    sizes = [n * step for i, (n, step) in enumerate(zip(image.shape, spacing, strict=True)) if i != axis]
    high, wide = (max(1, round(size * _FINE / max(sizes))) for size in sizes)
    grey = Image.fromarray(stretch(flat, ends_of(flat))).resize((wide, high), Image.Resampling.BICUBIC)
    canvas: RGB = np.repeat((_DIM * np.asarray(grey)).astype(np.uint8)[:, :, None], 3, axis=2)
    rows, columns = (
        ((np.arange(m) + 0.5) * n / m).astype(np.intp) for m, n in zip((high, wide), flat.shape, strict=True)
    )
    boxes = find_objects(labels)
    tints = np.rint(255 * colours(levels)[:, :3])
    for index in np.argsort(levels, kind="stable"):
        box = boxes[index]
        if box is None:
            continue
        mask = (labels[box] == index + 1).any(axis=axis)
        down, across = (side for i, side in enumerate(box) if i != axis)
        i = np.flatnonzero((rows >= down.start) & (rows < down.stop))
        j = np.flatnonzero((columns >= across.start) & (columns < across.stop))
        large = mask[np.ix_(rows[i] - down.start, columns[j] - across.start)]
        edge = large & ~binary_erosion(large, iterations=_OUTLINE)
        part = canvas[np.ix_(i, j)]
        part[large] = (1 - _OPACITY) * part[large] + _OPACITY * tints[index]
        part[edge] = tints[index]
        canvas[np.ix_(i, j)] = part
    return canvas


def _draw_spread(
    figure: Figure,
    panels: npt.NDArray[Any],
    spread: npt.NDArray[np.floating],
    spacing: tuple[float, float, float],
) -> None:
    from matplotlib import colormaps

    highest = float(spread.max()) or 1.0
    for axes, axis in zip(panels, (0, 1), strict=True):
        picture = colormaps["magma"](spread.max(axis=axis) / highest)[..., :3]
        _show(axes, picture, axis, spread.shape, spacing, "spread, maximum")
    _colour_bar(figure, panels, colormaps["magma"], highest, "standard deviation of the probability")


def _show(
    axes: Axes,
    picture: npt.NDArray[Any],
    axis: int,
    shape: tuple[int, ...],
    spacing: tuple[float, float, float],
    what: str,
) -> None:
    """Show a projection to scale, with axes in µm."""
    depth, height, width = (n * size for n, size in zip(shape, spacing, strict=True))
    down, name = (height, "y") if axis == 0 else (depth, "z")
    axes.imshow(picture, extent=(0, width, down, 0), interpolation="nearest")
    axes.set(title=f"{what} along {'zy'[axis]}", xlabel="x, µm", ylabel=f"{name}, µm")
    axes.spines[:].set_visible(False)


def _radius_colours() -> Colormap:
    """Return a perceptually uniform colour map that is visible on black."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("radius", colormaps["viridis"](np.linspace(_DARKEST, 1, 256)))


def _colour_bar(
    figure: Figure, axes: npt.NDArray[Any], colours: Colormap, highest: float, label: str
) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(0, highest), colours)
    figure.colorbar(scale, ax=list(axes), label=label, shrink=0.8, pad=0.02)


def _facts(values: npt.NDArray[np.floating], finite: npt.NDArray[np.floating], unit: str) -> str:
    """Summarise the number of nuclei, the median value and the non-finite values."""
    facts = ["1 nucleus" if len(values) == 1 else f"{len(values)} nuclei"]
    if len(finite):
        facts.append(f"median radius {np.median(finite):.3g} {unit}")
    if len(finite) < len(values):
        facts.append(f"{len(values) - len(finite)} without a finite radius, drawn as the highest")
    return " · ".join(facts)
