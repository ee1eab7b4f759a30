"""Files that are not one whole 3-D image are refused with a one-line reason."""

import contextlib
import gzip
import os
import struct
from importlib.util import find_spec

import nibabel
import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from PIL import Image

from qcanet_monai.errors import InputError
from qcanet_monai.io import read_volume, write_volume
from qcanet_monai.io.axes import choose_axes

SPACING = (1.75, 0.8, 0.8)
STACK = "expected a 3-D stack of one channel (Z, Y, X), got "
FOLDER = "expected an image file or an OME-Zarr image, got a folder: give one of its files"


def stack(shape=(5, 12, 14), dtype="uint16"):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def refusal(path, **options):
    with pytest.raises(InputError) as caught:
        read_volume(path, **{"spacing": SPACING} | options)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(str(path)).strip(" :")


@pytest.mark.parametrize(
    ("shape", "axes", "said"),
    [
        ((120, 122), "YX", STACK + "a 2-D image of 120 × 122 pixels: save"),
        ((1, 120, 122), "ZYX", STACK + "a 2-D image of 120 × 122 pixels"),
        ((120, 122, 3), "YXS", STACK + "an RGB image"),
        ((5, 12, 14, 3), "ZYXS", STACK + "an RGB image"),
        ((5, 3, 12, 14), "ZCYX", "has 3 channels: choose one with --channel 0..2"),
        ((11, 5, 12, 14), "TZYX", "has 11 time points: choose one with --frame 0..10"),
        ((11, 12, 14), "TYX", STACK + "11 time points of 12 × 14 pixels without a z axis"),
        ((3, 12, 14), "CYX", STACK + "3 channels of 12 × 14 pixels without a z axis"),
    ],
)
def test_what_is_no_single_stack_says_what_it_is(tmp_path, shape, axes, said):
    dtype = "uint8" if "S" in axes else "uint16"
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack(shape, dtype), imagej=True, metadata={"axes": axes})
    assert refusal(path).startswith(said)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"frame": 0}, "has 3 channels: choose one with --channel 0..2"),
        ({"frame": 0, "channel": 3}, "has 3 channels, got number 3: choose one with --channel 0..2"),
        ({"frame": 2, "channel": 0}, "has 2 time points, got number 2: choose one with --frame 0..1"),
        ({"frame": -1, "channel": 0}, "has 2 time points, got number -1"),
    ],
)
def test_a_choice_out_of_range_says_the_range(tmp_path, options, said):
    tifffile.imwrite(tmp_path / "a.tif", stack((2, 5, 3, 12, 14)), imagej=True, metadata={"axes": "TZCYX"})
    assert refusal(tmp_path / "a.tif", **options).startswith(said)


def test_a_choice_where_there_is_none_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack())
    assert refusal(tmp_path / "a.tif", channel=1) == "has 1 channel, got number 1: leave --channel out"
    assert refusal(tmp_path / "a.tif", frame=4) == "has 1 time point, got number 4: leave --frame out"


def test_slices_one_pixel_wide_are_refused():
    with pytest.raises(InputError, match="got 5 slices of 12 × 1 pixels: crop less"):
        choose_axes("ZY", (5, 12), channel=None, frame=None, source="a.tif")


def test_four_dimensions_without_names_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack((2, 5, 12, 14)))
    assert refusal(tmp_path / "a.tif").startswith(STACK + "unnamed dimensions 2 × 5 × 12 × 14")


def test_several_images_in_one_file_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(stack())
        writer.write(stack((6, 9, 9)))
    assert refusal(tmp_path / "a.tif").startswith(
        "expected a single stack, got 2 separate images (5 × 12 × 14, 6 × 9 × 9)"
    )


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -1, 1), (1, 1, np.nan), (1, np.inf, 1), (1, 1), "abc", 3])
def test_spacing_must_be_three_positive_numbers(tmp_path, spacing):
    tifffile.imwrite(tmp_path / "a.tif", stack())
    assert "expected a voxel size of 3 finite positive numbers in µm, got" in refusal(
        tmp_path / "a.tif", spacing=spacing
    )


@pytest.mark.parametrize(
    ("metadata", "known"),
    [
        ({"unit": "micron"}, " in full (only y 0.8, x 0.8 µm)"),
        ({"unit": "pixel", "spacing": 2.0}, ""),
        ({"spacing": 2.0}, ""),
        ({"unit": "um", "spacing": -2.0}, " in full (only y 0.8, x 0.8 µm)"),
        ({"unit": "um", "spacing": 0.0}, " in full (only y 0.8, x 0.8 µm)"),
    ],
)
def test_a_voxel_size_stated_in_part_is_asked_for(tmp_path, metadata, known):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack(), imagej=True, resolution=(1.25, 1.25), metadata={"axes": "ZYX"} | metadata)
    said = f"does not state its voxel size{known}: give it in µm with --spacing Z Y X"
    assert refusal(path, spacing=None).startswith(said)


@pytest.mark.parametrize(
    "sizes", [{}, {"PhysicalSizeX": 1.0, "PhysicalSizeY": 1.0}, {"PhysicalSizeZUnit": "pixel"}]
)
def test_an_ome_voxel_size_stated_in_part_is_asked_for(tmp_path, sizes):
    tifffile.imwrite(tmp_path / "a.ome.tif", stack(), metadata={"axes": "ZYX"} | sizes)
    assert "--spacing Z Y X" in refusal(tmp_path / "a.ome.tif", spacing=None)


def test_a_nifti_size_without_unit_is_asked_for(tmp_path):
    nibabel.save(nibabel.Nifti1Image(stack(), np.diag([0.8, 0.8, 1.75, 1])), tmp_path / "a.nii")
    assert "--spacing Z Y X" in refusal(tmp_path / "a.nii", spacing=None)


@pytest.mark.parametrize(
    ("shape", "said"),
    [((12, 14), STACK + "a 2-D image of 14 × 12"), ((4, 5, 6, 1, 2), "has 2 channels")],
)
def test_a_nifti_of_other_dimensions_is_refused(tmp_path, shape, said):
    nibabel.save(nibabel.Nifti1Image(stack(shape), np.eye(4)), tmp_path / "a.nii")
    assert refusal(tmp_path / "a.nii").startswith(said)


def test_files_that_are_no_images_are_refused(tmp_path):
    assert refusal(tmp_path / "gone.tif") == "does not exist"
    assert refusal(tmp_path) == FOLDER
    (tmp_path / "folder.tif").mkdir()
    assert refusal(tmp_path / "folder.tif") == FOLDER
    (tmp_path / "a.png").write_bytes(b"x")
    assert refusal(tmp_path / "a.png").startswith(
        "expected .tif, .tiff, .nii, .nii.gz or an OME-Zarr folder, got"
    )
    os.mkfifo(tmp_path / "pipe.tif")
    assert refusal(tmp_path / "pipe.tif").startswith("expected an image file, got a pipe or device")


@pytest.mark.parametrize("name", ["a.tif", "a.nii", "a.nii.gz"])
# fixed mtime: parallel processes must name the test alike
@pytest.mark.parametrize(
    "content", [b"", b"I", b"not an image" * 99, bytes(999), gzip.compress(b"x" * 999, mtime=0)]
)
def test_garbage_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    said = (
        "is empty (0 bytes)" if not content else "TIFF" if name == "a.tif" else "expected a whole NIfTI file"
    )
    assert said in refusal(tmp_path / name)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (stack(dtype="complex64"), "expected real numbers, got complex64 voxels"),
        (np.full((5, 12, 14), 3, np.uint8), "no contrast (every voxel is 3)"),
        (np.where(stack() > 100, np.nan, 1.0), "expected finite voxels, got"),
    ],
)
def test_voxels_without_meaning_are_refused(tmp_path, array, said):
    tifffile.imwrite(tmp_path / "a.tif", array)
    assert said in refusal(tmp_path / "a.tif")


def test_xml_that_defines_entities_is_refused_before_it_is_parsed(tmp_path):
    xml = b'<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><OME>&b;</OME>'
    tifffile.imwrite(tmp_path / "a.ome.tif", stack(), description=xml, metadata=None)
    assert refusal(tmp_path / "a.ome.tif").startswith("expected OME-XML without a DOCTYPE")


def test_a_compression_that_needs_another_package_names_it(tmp_path):
    first, *rest = (Image.fromarray(page) for page in stack())
    first.save(tmp_path / "a.tif", save_all=True, append_images=rest, compression="tiff_lzw")
    if find_spec("imagecodecs"):
        assert_array_equal(read_volume(tmp_path / "a.tif", spacing=SPACING).array, stack())
    else:
        assert "pip install imagecodecs" in refusal(tmp_path / "a.tif")


def imagej(path, **options):
    resolution = (1 / 0.8, 1 / 0.8)
    metadata = {"axes": "ZYX", "spacing": 1.75, "unit": "um"}
    tifffile.imwrite(path, stack(), imagej=True, resolution=resolution, metadata=metadata, **options)


def by_pillow(path):
    first, *rest = (Image.fromarray(page) for page in stack())
    first.save(path, save_all=True, append_images=rest)


MAKERS = {
    "imagej.tif": imagej,
    "imagej_zlib.tif": lambda path: imagej(path, compression="zlib"),
    "virtual.tif": lambda path: tifffile.imwrite(
        path, stack(), imagej=True, truncate=True, metadata={"axes": "ZYX"}
    ),
    "shaped.tif": lambda path: tifffile.imwrite(path, stack()),
    "one_directory.tif": lambda path: tifffile.imwrite(path, stack(), truncate=True),
    "plain.tif": lambda path: tifffile.imwrite(path, stack(), metadata=None),
    "plain_zlib.tif": lambda path: tifffile.imwrite(path, stack(), metadata=None, compression="zlib"),
    "tiled.tif": lambda path: tifffile.imwrite(path, stack(), tile=(16, 16)),
    "big.tif": lambda path: tifffile.imwrite(path, stack(), bigtiff=True),
    "ome.tif": lambda path: tifffile.imwrite(path, stack(), ome=True, metadata={"axes": "ZYX"}),
    "ome_zlib.tif": lambda path: tifffile.imwrite(
        path, stack(), ome=True, metadata={"axes": "ZYX"}, compression="zlib"
    ),
    "pillow.tif": by_pillow,
    "a.nii": lambda path: write_volume(path, stack(), spacing=SPACING),
    "a.nii.gz": lambda path: write_volume(path, stack(), spacing=SPACING),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_file_cut_off_anywhere_is_refused_or_lacks_nothing(tmp_path, name, capfd):
    whole, cut = tmp_path / name, tmp_path / f"cut_{name}"
    MAKERS[name](whole)
    data = whole.read_bytes()
    assert_array_equal(read_volume(whole, spacing=SPACING).array, stack())
    padding = 0
    for size in sorted({1, 4, 7, 8, 16, *range(20, len(data), 211), *range(len(data) - 40, len(data))}):
        cut.write_bytes(data[:size])
        with contextlib.suppress(InputError):
            assert_array_equal(read_volume(cut, spacing=SPACING).array, stack())
            padding = max(padding, len(data) - size)
    assert padding <= 16  # writers pad to their alignment
    assert capfd.readouterr() == ("", "")


def test_a_writer_stopped_before_the_last_plane_is_noticed(tmp_path):
    """An ImageJ file that states five slices but ends after two."""
    path = tmp_path / "a.tif"
    description = b"ImageJ=1.53t\nimages=5\nslices=5\n"
    tifffile.imwrite(path, stack()[:2], metadata=None, extratags=[(270, 2, None, description, True)])
    assert refusal(path).startswith("is truncated or damaged: it declares 5 planes and holds 2")


def test_damaged_compressed_data_are_refused(tmp_path):
    for name in ("a.tif", "a.nii.gz"):
        path = tmp_path / name
        write_volume(path, stack(), spacing=SPACING)
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        if name == "a.tif":  # inside a page's data, not among its tags
            with tifffile.TiffFile(path) as tif:
                middle = tif.pages[2].dataoffsets[0] + tif.pages[2].databytecounts[0] // 2
        data[middle : middle + 8] = b"\xff\x00" * 4
        path.write_bytes(data)
        assert refusal(path)


def test_directories_in_a_ring_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    entry = struct.pack("<HHII", 256, 3, 1, 14)
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 8))
    assert refusal(path) == "expected a chain of TIFF directories, got a loop: export it again"


def test_an_unfinished_file_is_refused(tmp_path):
    (tmp_path / "a.tif").write_bytes(struct.pack("<2sHI", b"II", 42, 0) + bytes(99))
    assert refusal(tmp_path / "a.tif") == "expected a TIFF image, got an unfinished file: export it again"
