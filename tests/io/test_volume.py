"""Volumes of every file type are read as they were written."""

import warnings

import nibabel
import numpy as np
import pytest
import skimage.io
import tifffile
from helpers import SHARED
from numpy.testing import assert_array_equal

from qcanet_monai.errors import DataWarning, InputError, OutputError
from qcanet_monai.io import (
    check_content,
    count_frames,
    read_labels,
    read_volume,
    write_labels,
    write_volume,
)
from qcanet_monai.io.spacing import to_minutes
from qcanet_monai.io.volume import read_interval_min

SPACING = (1.75, 0.8, 0.4666)
DATA = SHARED / "data"


def stack(dtype="uint16", shape=(5, 12, 14)):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def imagej(path, array, axes="ZYX", *, spacing=2.0, unit="micron", per_unit=1.25):
    metadata = {"axes": axes} | ({"spacing": spacing} if spacing else {}) | ({"unit": unit} if unit else {})
    tifffile.imwrite(path, array, imagej=True, resolution=(per_unit, per_unit), metadata=metadata)
    return path


def ome(path, array, axes="ZYX", photometric="minisblack", **metadata):
    tifffile.imwrite(path, array, ome=True, photometric=photometric, metadata={"axes": axes} | metadata)
    return path


def nifti(path, array, zooms=(0.8, 0.8, 1.75), unit="micron"):
    image = nibabel.Nifti1Image(array, np.diag([*zooms, 1.0]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".tif", ".TIFF", ".ome.tif", ".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_written_volume_reads_back_the_same(tmp_path, suffix, dtype):
    path = tmp_path / f"a{suffix}"
    write_volume(path, stack(dtype), spacing=SPACING)
    volume = read_volume(path)
    assert volume.array.dtype == dtype
    assert volume.array.dtype.isnative
    assert volume.array.flags.c_contiguous
    assert_array_equal(volume.array, stack(dtype))
    assert volume.spacing == pytest.approx(SPACING, rel=1e-7)
    assert (volume.source, volume.time_index) == (path, None)


@pytest.mark.parametrize("suffix", [".tif", ".nii.gz"])
@pytest.mark.parametrize(("top", "dtype"), [(65_535, "uint16"), (65_536, "uint32"), (2**32 - 1, "uint32")])
def test_labels_are_written_in_the_smaller_type_that_holds_them(tmp_path, suffix, top, dtype):
    path = tmp_path / f"a{suffix}"
    labels = stack("int64")
    labels[0, 0, 0] = top
    write_labels(path, labels, spacing=SPACING)
    back = read_labels(path)
    assert back.array.dtype == dtype
    assert_array_equal(back.array, labels)
    assert back.spacing == pytest.approx(SPACING, rel=1e-7)
    if suffix == ".tif":
        assert_array_equal(tifffile.imread(path), labels)
        assert_array_equal(skimage.io.imread(path), labels)


@pytest.mark.parametrize("top", [7, 70_000])
@pytest.mark.parametrize("shape", [(3, 12, 14), (4, 12, 14), (5, 12, 3), (5, 12, 4)])
def test_three_or_four_of_anything_are_no_colours(tmp_path, shape, top):
    labels = stack(shape=shape, dtype="uint32")
    labels[0, 0, 0] = top
    write_labels(tmp_path / "a.tif", labels, spacing=SPACING)
    assert_array_equal(read_labels(tmp_path / "a.tif").array, labels)


def test_small_labels_are_an_imagej_file_with_its_unit(tmp_path):
    write_labels(tmp_path / "a.tif", stack(), spacing=SPACING)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.imagej_metadata["spacing"] == 1.75
        assert tif.imagej_metadata["unit"] == "micron"
        assert tif.pages[0].tags["YResolution"].value == (5, 4)
        assert tif.pages[0].compression.name == "ADOBE_DEFLATE"


@pytest.mark.parametrize("dtype", ["float64", "float16", "bool"])
def test_other_types_become_what_imagej_can_hold(tmp_path, dtype):
    write_volume(tmp_path / "a.tif", stack(dtype), spacing=SPACING)
    volume = read_volume(tmp_path / "a.tif")
    assert volume.array.dtype == ("uint8" if dtype == "bool" else "float32")
    assert_array_equal(volume.array, stack(dtype))


@pytest.mark.parametrize(
    ("unit", "um"),
    [
        ("micron", 1),
        ("µm", 1),
        ("μm", 1),
        ("um", 1),
        ("\\u00B5m", 1),
        ("nm", 1e-3),
        ("mm", 1e3),
        ("inch", 25400),
    ],
)
def test_imagej_units_become_um(tmp_path, unit, um):
    text = f"ImageJ=1.53t\nimages=5\nslices=5\nunit={unit}\nspacing={2.0 / um}\n"
    metadata = text.encode() if unit == "μm" else text.encode("latin-1", "replace")
    tifffile.imwrite(
        tmp_path / "a.tif",
        stack(),
        metadata=None,
        resolution=(1.25 * um, 2.5 * um),
        extratags=[(270, 2, None, metadata, True)],
    )
    assert read_volume(tmp_path / "a.tif").spacing == pytest.approx((2, 0.4, 0.8))


def test_ome_units_become_um(tmp_path):
    sizes = {
        "PhysicalSizeZ": 0.00175,
        "PhysicalSizeZUnit": "mm",
        "PhysicalSizeY": 800,
        "PhysicalSizeYUnit": "nm",
    }
    ome(tmp_path / "a.tif", stack(), **sizes, PhysicalSizeX=0.8)
    assert read_volume(tmp_path / "a.tif").spacing == pytest.approx((1.75, 0.8, 0.8))


@pytest.mark.parametrize(("unit", "um"), [("micron", 1), ("mm", 1e3), ("meter", 1e6)])
def test_nifti_is_turned_to_zyx_and_um(tmp_path, unit, um):
    array = stack(shape=(14, 12, 5))
    zooms = tuple(size / um for size in (0.8, 0.8, 1.75))
    volume = read_volume(nifti(tmp_path / "a.nii", array, zooms, unit=unit))
    assert_array_equal(volume.array, array.transpose(2, 1, 0))
    assert volume.spacing == pytest.approx((1.75, 0.8, 0.8))


def test_a_nifti_with_two_voxel_sizes_is_refused(tmp_path):
    path = nifti(tmp_path / "a.nii", stack(shape=(14, 12, 5)))
    image = nibabel.load(path)
    image.header.set_zooms((0.4, 0.4, 0.9))
    nibabel.save(image, tmp_path / "b.nii")
    said = r"got 0\.9 × 0\.4 × 0\.4 \(pixdim\) and 1\.75 × 0\.8 × 0\.8 \(sform\): give .* --spacing Z Y X"
    with pytest.raises(InputError, match=said):
        read_volume(tmp_path / "b.nii")
    assert read_volume(tmp_path / "b.nii", spacing=(1, 2, 3)).spacing == (1, 2, 3)


@pytest.mark.parametrize(("spacing", "unit"), [(0.5, "inch"), (1.75, "cm"), (1.75, "pm"), (0.04, "m")])
def test_a_voxel_size_that_no_image_of_nuclei_has_is_refused(tmp_path, spacing, unit):
    path = imagej(tmp_path / "a.tif", stack(), spacing=spacing, unit=unit, per_unit=72)
    with pytest.raises(InputError, match=r"expected voxels of 0\.005 to 20 µm.*--spacing Z Y X"):
        read_volume(path)
    assert read_volume(path, spacing=SPACING).spacing == SPACING


def test_min_is_white_is_told_and_inverted_on_request(tmp_path):
    for dtype in ("uint8", "int16", "float32"):
        path = tmp_path / f"{dtype}.tif"
        ome(
            path,
            stack(dtype) + 3,
            photometric="miniswhite",
            PhysicalSizeZ=2,
            PhysicalSizeY=1,
            PhysicalSizeX=1,
        )
        plain = read_volume(path)
        assert "MinIsWhite" in plain.doubts[0]
        assert_array_equal(plain.array, stack(dtype) + 3)
        assert read_volume(path, invert=False).doubts == ()
        inverted = read_volume(path, invert=True)
        assert inverted.doubts == ()
        assert inverted.array.dtype == dtype
        assert_array_equal(inverted.array, stack(dtype).max() - stack(dtype) + 3)


def test_given_spacing_wins_over_the_stated_one(tmp_path):
    path = imagej(tmp_path / "a.tif", stack())
    assert read_volume(path).spacing == (2.0, 0.8, 0.8)
    assert read_volume(path, spacing=(3, 2, 1)).spacing == (3.0, 2.0, 1.0)


@pytest.mark.parametrize("metadata", [None, {}, {"axes": "QYX"}, {"axes": "ZYX"}])
def test_pages_without_named_axes_are_z_slices(tmp_path, metadata):
    tifffile.imwrite(
        tmp_path / "a.tif", stack(), metadata=metadata, resolution=(300, 300), resolutionunit="INCH"
    )
    assert_array_equal(read_volume(tmp_path / "a.tif", spacing=SPACING).array, stack())
    with pytest.raises(InputError, match=r"does not state its voxel size.*--spacing Z Y X"):
        read_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_big_endian_and_bigtiff_files_are_read(tmp_path, compression, bigtiff):
    tifffile.imwrite(tmp_path / "a.tif", stack(), byteorder=">", bigtiff=bigtiff, compression=compression)
    volume = read_volume(tmp_path / "a.tif", spacing=SPACING)
    assert volume.array.dtype.isnative
    assert_array_equal(volume.array, stack())


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_frame_and_a_channel_are_chosen(tmp_path, compression):
    array = stack(shape=(3, 4, 2, 12, 14))
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, imagej=True, metadata={"axes": "TZCYX"}, compression=compression)
    volume = read_volume(path, frame=2, channel=1, spacing=SPACING)
    assert volume.time_index == 2
    assert_array_equal(volume.array, array[2, :, 1])
    assert count_frames(path) == 3


def test_ome_axes_in_any_order_become_zyx(tmp_path):
    array = stack(shape=(2, 3, 4, 12, 14))
    volume = read_volume(ome(tmp_path / "a.tif", array, "TCZYX"), frame=1, channel=2, spacing=SPACING)
    assert_array_equal(volume.array, array[1, 2])


def test_a_nifti_frame_is_chosen(tmp_path):
    array = stack(shape=(14, 12, 5, 3))
    path = nifti(tmp_path / "a.nii.gz", array)
    assert_array_equal(read_volume(path, frame=1).array, array[..., 1].T)
    assert count_frames(path) == 3
    with pytest.raises(InputError, match=r"has 3 time points: choose one with --frame 0\.\.2"):
        read_volume(path)


def test_first_frame_and_channel_of_one_may_be_named(tmp_path):
    assert read_volume(imagej(tmp_path / "a.tif", stack()), frame=0, channel=0).time_index == 0
    assert count_frames(tmp_path / "a.tif") == 1


def test_labels_may_lack_a_voxel_size_where_none_is_needed(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack("float32"))
    labels = read_labels(tmp_path / "a.tif", need_spacing=False)
    assert np.isnan(labels.spacing).all()
    assert labels.array.dtype == "uint16"
    assert read_labels(tmp_path / "a.tif", need_spacing=False, spacing=SPACING).spacing == SPACING
    with pytest.raises(InputError, match="--spacing Z Y X"):
        read_labels(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (-1.0, "negative value -1"),
        (0.5, "fractions or NaN"),
        (np.nan, "fractions or NaN"),
        (2.0**40, "exceeds uint32"),
    ],
)
def test_what_cannot_be_labels_is_refused(tmp_path, value, said):
    array = stack("float64")
    array[1, 2, 3] = value
    tifffile.imwrite(tmp_path / "a.tif", array)
    with pytest.raises(InputError, match=said):
        read_labels(tmp_path / "a.tif", spacing=SPACING)
    with pytest.raises(InputError, match=said):
        write_labels(tmp_path / "b.tif", array, spacing=SPACING)
    assert not (tmp_path / "b.tif").exists()


def test_empty_labels_are_labels_but_no_image(tmp_path):
    write_labels(tmp_path / "a.tif", np.zeros((3, 4, 5), np.uint8), spacing=SPACING)
    assert read_labels(tmp_path / "a.tif").array.max() == 0
    with pytest.raises(InputError, match=r"no contrast \(every voxel is 0\)"):
        read_volume(tmp_path / "a.tif")


def test_content_is_checked():
    check_content(stack("float32"), "a.tif")
    with pytest.raises(InputError, match=r"a\.tif: .* got no contrast \(every voxel is 7\)"):
        check_content(np.full((2, 2, 2), 7), "a.tif")
    bad = stack("float32")
    bad[0, 0, :2] = np.nan, np.inf
    with pytest.raises(InputError, match=r"a\.tif: expected finite voxels, got 2 NaN or infinite"):
        check_content(bad, "a.tif")


@pytest.mark.parametrize(
    ("array", "spacing", "name", "error", "said"),
    [
        (stack(), (1, 1), "a.tif", InputError, "3 finite positive numbers"),
        (
            stack()[0],
            (1, 1, 1),
            "a.tif",
            OutputError,
            r"expected a non-empty \(Z, Y, X\) array, got shape \(12, 14\)",
        ),
        (stack()[:0], (1, 1, 1), "a.tif", OutputError, "expected a non-empty"),
        (stack(), (1, 1, 1), "a.png", OutputError, r"must end in \.tif"),
        (
            stack("int32"),
            (1, 1, 1),
            "a.tif",
            OutputError,
            "expected uint8, uint16 or float32 voxels, got int32",
        ),
        (stack(), (1, 1, 1), "no/a.tif", OutputError, "its folder does not exist"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, array, spacing, name, error, said):
    with pytest.raises(error, match=said):
        write_volume(tmp_path / name, array, spacing=spacing)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("description", "options", "spacing"),
    [
        (  # ImageJ format, written by tifffile
            "ImageJ=1.11a\nimages=5\nslices=5\nhyperstack=true\nmode=grayscale\nspacing=0.28371836\nunit=um",
            {"resolution": (98591 / 12500,) * 2, "resolutionunit": "NONE"},
            (0.28371836, 0.12678642, 0.12678642),
        ),
        (  # written by ImageJ, an image of a series
            "ImageJ=1.53t\nimages=5\nslices=5\nunit=micron\nfinterval=130.26\nspacing=4.0\nloop=false\n",
            {"resolution": (1.206792,) * 2, "resolutionunit": "NONE", "byteorder": ">"},
            (4.0, 0.828643, 0.828643),
        ),
        ("ImageJ=1.49p\nimages=5\nslices=5\nloop=false\nmin=92.0\nmax=1249.0\n", {"byteorder": ">"}, None),
        ("shape=(5,12,14)", {}, None),
        (
            '{"shape": [5, 12, 14], "axes": "ZYX"}',
            {"resolution": (4.29,) * 2, "resolutionunit": "INCH"},
            None,
        ),
        ('{"shape": [5, 12, 14]}', {"resolution": (1, 1), "resolutionunit": "NONE"}, None),
    ],
)
def test_the_voxel_size_is_read_from_descriptions_as_public_files_have_them(
    tmp_path, description, options, spacing
):
    path = tmp_path / "a.tif"
    text = [(270, 2, None, description.encode(), True)]
    tifffile.imwrite(path, stack("uint8"), metadata=None, extratags=text, **options)
    check_voxel_size(path, (5, 12, 14), spacing)


def check_voxel_size(path, shape, spacing):
    """Read an image of known shape with its stated voxel size, or else a given one."""
    if spacing is None:
        with pytest.raises(InputError, match=r"does not state its voxel size.*--spacing Z Y X"):
            read_volume(path)
        spacing = SPACING
        volume = read_volume(path, spacing=spacing)
    else:
        volume = read_volume(path)
    assert volume.array.shape == shape
    assert volume.spacing == pytest.approx(spacing, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "shape", "spacing"),
    [
        ("ovule_nuclei_1135/raw.tif", (100, 100, 100), (0.28371837, 0.12678642, 0.12678642)),
        ("neubias_nuclei/raw.tif", (37, 118, 132), (4.0, 0.828643, 0.828643)),
        ("ovule_membranes/raw.tif", (32, 128, 128), (0.235, 0.15, 0.15)),
        ("qcanet_16cell/raw.tif", (51, 120, 122), None),
        ("qcanet_16cell/authors_output.tif", (51, 120, 122), None),
        ("blastocysts_dapi/E3.5_embryo_13.tif", (15, 135, 167), None),
        ("stardist_synthetic/img3d.tif", (31, 61, 57), None),
    ],
)
def test_real_files_are_read_with_the_voxel_size_they_state(name, shape, spacing):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    check_voxel_size(path, shape, spacing)


@pytest.mark.parametrize(
    ("options", "minutes"),
    [
        ({"imagej": True, "metadata": {"axes": "TZYX", "finterval": 600.0}}, 10),
        ({"imagej": True, "metadata": {"axes": "TZYX", "finterval": 2.0, "tunit": "min"}}, 2),
        ({"imagej": True, "metadata": {"axes": "TZYX"}}, None),
        ({"imagej": True, "metadata": {"axes": "TZYX", "finterval": 0.0}}, None),
        ({"ome": True, "metadata": {"axes": "TZYX", "TimeIncrement": 90.0}}, 1.5),
        (
            {"ome": True, "metadata": {"axes": "TZYX", "TimeIncrement": 0.5, "TimeIncrementUnit": "h"}},
            30,
        ),
        ({"ome": True, "metadata": {"axes": "TZYX"}}, None),
        ({"metadata": None}, None),
    ],
)
def test_the_interval_is_read_where_it_is_stated(tmp_path, options, minutes):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 2, 8, 8), np.uint16), **options)
    assert read_interval_min(tmp_path / "a.tif") == (minutes and pytest.approx(minutes))


@pytest.mark.parametrize(
    ("unit", "value"),
    [
        *(
            ("min", 10),
            ("mins", 10),
            ("Minutes", 10),
            ("min.", 10),
            ("s", 600),
            ("secs", 600),
            ("Seconds", 600),
        ),
        *(("h", 1 / 6), ("hrs", 1 / 6), ("hours", 1 / 6), ("ms", 600_000), ("msecs", 600_000), ("us", 6e8)),
        *(("µs", 6e8), ("\\u00B5s", 6e8), ("ns", 6e11), ("days", 10 / 1440), ("d", 10 / 1440)),
    ],
)
def test_usual_words_for_time_are_known(unit, value):
    assert to_minutes(value, unit) == pytest.approx(10)


@pytest.mark.parametrize("unit", [None, "", "frame", "parsec", "micron", "mm"])
def test_other_words_are_no_time(unit):
    assert to_minutes(10, unit) is None


@pytest.mark.parametrize(("unit", "step"), [("sec", 600), ("msec", 600_000), ("usec", 6e8)])
def test_nifti_states_its_interval(tmp_path, unit, step):
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), np.uint8), np.eye(4))
    image.header.set_xyzt_units("micron", unit)
    image.header["pixdim"][4] = step
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert read_interval_min(tmp_path / "a.nii.gz") == pytest.approx(10)


@pytest.mark.parametrize(("shape", "unit"), [((4, 4, 4), "sec"), ((4, 4, 4, 2), "hz"), ((4, 4, 4, 2), 0)])
def test_nifti_without_time_states_no_interval(tmp_path, shape, unit):
    image = nibabel.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4))
    image.header.set_xyzt_units("micron", unit)
    nibabel.save(image, tmp_path / "a.nii")
    assert read_interval_min(tmp_path / "a.nii") is None


def test_a_frame_without_contrast_is_named(tmp_path):
    movie = np.arange(3 * 2 * 8 * 8, dtype=np.uint16).reshape(3, 2, 8, 8)
    movie[1] = 7
    tifffile.imwrite(tmp_path / "a.tif", movie, imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(InputError, match=r"a\.tif, frame 1: expected an image of nuclei, got no contrast"):
        read_volume(tmp_path / "a.tif", spacing=(1, 1, 1), frame=1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_grey_values_are_no_labels(tmp_path, dtype):
    rng = np.random.default_rng(0)
    for name, grey in {"bright": rng.poisson(90, (9, 30, 30)), "dim": rng.poisson(1, (9, 30, 30))}.items():
        write_volume(tmp_path / f"{name}.tif", grey.astype(dtype), spacing=SPACING)
        with pytest.raises(InputError, match=r"expected labels .*, got grey values .*: give the label image"):
            read_labels(tmp_path / f"{name}.tif")


@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_of_several_objects_is_doubted(tmp_path, value):
    mask = np.zeros((5, 12, 14), np.uint8)
    mask[1:4, 2:5, 2:5] = mask[1:4, 7:10, 8:12] = value
    write_labels(tmp_path / "a.tif", mask, spacing=SPACING)
    with pytest.warns(DataWarning, match=rf"a\.tif: one label, {value}, covers 2 separate objects"):
        assert_array_equal(read_labels(tmp_path / "a.tif").array, mask)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_labels(tmp_path / "a.tif", instances=False)
        mask[1:4, 7:10, 8:12] = 2
        mask[4, 11, 13] = 1  # a speck
        write_labels(tmp_path / "a.tif", mask, spacing=SPACING)
        read_labels(tmp_path / "a.tif")
