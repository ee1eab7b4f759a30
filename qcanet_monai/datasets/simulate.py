"""Simulated datasets in BBBC050's layout."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.core.metrics.tracks import tracks_of
from qcanet_monai.errors import InputError
from qcanet_monai.io import check_spacing, output_folder, write_labels, write_volume
from qcanet_monai.io.dataset import image_path, tracks_folder, truth_path
from qcanet_monai.simulator.series import simulate_series
from qcanet_monai.simulator.settings import Simulation, Spacing, read_simulation
from qcanet_monai.timelapse.ctc import mask_name, write_tracks


def simulate_dataset(
    folder: str | Path,
    *,
    embryos: int = 4,
    timepoints: int = 11,
    seed: int = 0,
    test_embryos: int = 0,
    spacing: Spacing | None = None,
    generations: float | None = None,
    settings: str | Path | None = None,
    tissue_fraction: float | None = None,
    workers: int | None = None,
    progress: Callable[[], None] = lambda: None,
) -> int:
    """Write simulated series in BBBC050's layout and return the number of images.

    Parameters
    ----------
    folder
        New or empty folder, written completely or not at all.
    embryos, test_embryos
        Number of series in ``train`` and in ``test``, each named Emb01, Emb02, …
    timepoints
        Frames per series.
    seed
        Seed of every voxel; the result does not depend on the number of workers.
    spacing
        Voxel size (z, y, x) in µm; drawn per series if None.
    generations
        Time of the last frame in cell cycles since the zygote; from the settings if None.
    settings
        YAML of simulation settings, or "simulation" (embryos, the default), "cells" or "spindle".
    tissue_fraction
        Fraction of series that show tissue instead of an embryo, 0 to 1; from the settings if None.
    workers, progress
        Number of processes (one per core if None), and function called after each series.

    Raises
    ------
    InputError
        If a number or the settings are invalid, or the folder is not empty.

    Examples
    --------
    >>> import qcanet_monai as qcanet
    >>> qcanet.simulate("data", embryos=1, timepoints=2, spacing=(4.0, 2.0, 2.0), workers=1)
    2
    """
    if embryos < 1 or timepoints < 1 or test_embryos < 0:
        raise InputError(
            f"expected at least 1 embryo and 1 time point, got {embryos} embryos ({test_embryos} for test) "
            f"and {timepoints} time points"
        )
    simulation = read_simulation(settings).with_tissue(tissue_fraction)
    folder = Path(folder).resolve()
    output_folder(folder.parent)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"expected a new or empty folder for the dataset, {folder} holds files: choose another"
        )
    if spacing is not None:
        spacing = check_spacing(spacing, folder)
    temporary = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    write = partial(
        _write_series,
        temporary,
        timepoints=timepoints,
        seed=seed,
        spacing=spacing,
        generations=generations,
        simulation=simulation,
    )
    jobs = [("train", i) for i in range(embryos)] + [("test", i) for i in range(test_embryos)]
    try:
        _run(write, jobs, workers, progress)
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return len(jobs) * timepoints


def _run(
    write: Callable[[str, int], None],
    jobs: list[tuple[str, int]],
    workers: int | None,
    progress: Callable[[], None],
) -> None:
    if workers == 1 or len(jobs) == 1:  # a process takes seconds to start
        for part, index in jobs:
            write(part, index)
            progress()
        return
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(write, part, index) for part, index in jobs]
        try:
            for future in as_completed(futures):
                future.result()
                progress()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_series(
    folder: Path,
    part: str,
    index: int,
    *,
    timepoints: int,
    seed: int,
    spacing: Spacing | None,
    generations: float | None,
    simulation: Simulation,
) -> None:
    series = (seed, 0 if part == "train" else 1, index)
    frames = simulate_series(
        series, timepoints=timepoints, spacing=spacing, generations=generations, settings=simulation
    )
    embryo = f"Emb{index + 1:02d}"
    tracks = tracks_folder(folder, part, embryo)
    tracks.mkdir(parents=True)
    parents: dict[int, int] = {}
    shown: list[list[int]] = []
    for time, frame in enumerate(frames, 1):
        name = f"{embryo}_t{time:03d}.tif"
        write_labels(tracks / mask_name(time - 1, kind="man_track"), frame.tracked, spacing=frame.spacing)
        parents |= dict(zip(frame.numbers, frame.parents, strict=True))
        shown.append(frame.numbers)
        truth: dict[str, NDArray[np.unsignedinteger]] = {"QCANet": frame.instances}
        if part == "train":  # as in BBBC050: the test part has instances only
            truth |= {"NSN": frame.nuclei, "NDN": frame.centres}
        for target, array in truth.items():
            path = truth_path(folder, part, target, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_labels(path, array, spacing=frame.spacing)
        path = image_path(folder, part, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(path, frame.image, spacing=frame.spacing)
    write_tracks(tracks / "man_track.txt", tracks_of(shown, parents))
