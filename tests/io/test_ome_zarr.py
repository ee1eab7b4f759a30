"""OME-Zarr by the specification, in both Zarr versions, and refused contents."""

import json
import pickle

import numcodecs
import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal
from zarr.codecs import BloscCodec, BytesCodec, ShardingCodec

from qcanet_monai.errors import InputError
from qcanet_monai.io import count_frames, read_labels, read_volume
from qcanet_monai.io.names import Frame, frames_of, image_stem, interval_of, label_stem, list_images, stem_of
from qcanet_monai.io.volume import read_interval_min

SPACE = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
TIME = {"name": "t", "type": "time", "unit": "second"}
AXES = [TIME, {"name": "c", "type": "channel"}, *SPACE]
SCALE = [600.0, 1.0, 1.75, 0.8, 0.4]


def movie(shape=(3, 2, 6, 12, 14), dtype="uint16"):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def describe(folder, attributes, version):
    folder.mkdir(parents=True, exist_ok=True)
    if version == "0.5":
        state = {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": {"ome": {"version": "0.5", **attributes}},
        }
        (folder / "zarr.json").write_text(json.dumps(state))
    else:
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
        (folder / ".zattrs").write_text(json.dumps(attributes))


def write(folder, array, version="0.4", *, axes=AXES, scale=SCALE, whole=None, path="0", compressors="auto"):
    level = {"path": path}
    if scale:
        level["coordinateTransformations"] = [
            {"type": "translation", "translation": [0.0] * len(scale)}, {"type": "scale", "scale": scale},
        ]  # fmt: skip
    multiscale = {"datasets": [level]} | ({"axes": axes} if axes else {})
    if whole:
        multiscale["coordinateTransformations"] = [{"type": "scale", "scale": whole}]
    describe(folder, {"multiscales": [multiscale]}, version)
    chunks = (1,) * (array.ndim - 3) + array.shape[-3:]
    made = zarr.create_array(
        str(folder / path),
        shape=array.shape,
        chunks=chunks,
        dtype=array.dtype,
        zarr_format=3 if version == "0.5" else 2,
        compressors=compressors,
    )
    made[:] = array
    return folder


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("dtype", ["uint8", ">u2", "float32"])
def test_each_time_point_and_channel_is_read_with_its_voxel_size(tmp_path, version, dtype):
    path = write(tmp_path / "e.ome.zarr", movie(dtype=dtype), version)
    assert count_frames(path) == 3
    assert read_interval_min(path) == 10
    for frame in range(3):
        volume = read_volume(path, frame=frame, channel=1)
        assert_array_equal(volume.array, movie(dtype=dtype)[frame, 1])
        assert volume.array.dtype.isnative
        assert volume.spacing == (1.75, 0.8, 0.4)
    with pytest.raises(InputError, match="has 3 time points: choose one with --frame"):
        read_volume(path, channel=0)
    with pytest.raises(InputError, match="has 2 channels: choose one with --channel"):
        read_volume(path, frame=0)


def test_scales_multiply_and_units_count(tmp_path):
    axes = [{**axis, "unit": "nanometer"} for axis in SPACE]
    path = write(tmp_path / "a.zarr", movie()[0, 0], axes=axes, scale=[1, 1, 2], whole=[1750, 800, 200])
    assert read_volume(path).spacing == pytest.approx((1.75, 0.8, 0.4))
    assert read_interval_min(path) is None


@pytest.mark.parametrize(
    "stated",
    [
        {"axes": [{"name": name} for name in "zyx"], "scale": [1.75, 0.8, 0.8]},  # without unit
        {"axes": ["z", "y", "x"], "scale": None},  # version 0.3
    ],
)
def test_a_voxel_size_that_is_not_stated_is_asked_for(tmp_path, stated):
    path = write(tmp_path / "a.zarr", movie()[0, 0], **stated)
    with pytest.raises(InputError, match="give it in µm with --spacing"):
        read_volume(path)
    assert_array_equal(read_volume(path, spacing=(1, 1, 1)).array, movie()[0, 0])


def test_the_first_versions_have_five_axes_without_names(tmp_path):
    path = write(tmp_path / "a.zarr", movie(), axes=None, scale=None)
    assert count_frames(path) == 3
    assert_array_equal(read_volume(path, spacing=(1, 1, 1), frame=2, channel=0).array, movie()[2, 0])


def test_the_largest_level_is_read_wherever_it_is_named(tmp_path):
    folder = write(tmp_path / "a.ome.zarr", movie())
    described = json.loads((folder / ".zattrs").read_text())
    (level,) = described["multiscales"][0]["datasets"]
    zarr.create_array(str(folder / "half"), shape=(3, 2, 3, 6, 7), dtype="u2", zarr_format=2)
    scale = [{"type": "scale", "scale": [1, 1, 9, 9, 9]}]
    described["multiscales"][0]["datasets"] = [{"path": "half", "coordinateTransformations": scale}, level]
    (folder / ".zattrs").write_text(json.dumps(described))
    assert read_volume(folder, channel=0, frame=0).array.shape == (6, 12, 14)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_bioformats2raw_writes_is_its_only_series(tmp_path, version):
    path = tmp_path / "a.zarr"
    describe(path, {"bioformats2raw.layout": 3}, version)
    write(path / "0", movie(), version)
    assert_array_equal(read_volume(path, frame=1, channel=1).array, movie()[1, 1])
    write(path / "1", movie(), version)
    with pytest.raises(InputError, match=r"expected one image, got several: give .*a\.zarr/0"):
        read_volume(path, frame=1, channel=1)


def test_labels_within_an_image_are_called_as_it_is(tmp_path):
    path = write(tmp_path / "e_1.ome.zarr", movie())
    labels = write(path / "labels/nuclei", movie()[:, 0], axes=[TIME, *SPACE], scale=[600.0, 1.75, 0.8, 0.4])
    assert [image_stem(image) for image in frames_of([path])] == ["e_1_t000", "e_1_t001", "e_1_t002"]
    assert [label_stem(image) for image in frames_of([labels])] == ["e_1_t000", "e_1_t001", "e_1_t002"]
    assert_array_equal(read_labels(labels, frame=2).array, movie()[2, 0])
    assert label_stem(Frame(tmp_path / "a_labels.tif", 4)) == "a_t004"


def test_images_in_a_folder_are_found_with_the_files(tmp_path):
    write(tmp_path / "b.ome.zarr", movie())
    write(tmp_path / "a10", movie()[0, 0], axes=SPACE, scale=[1, 1, 1])
    (tmp_path / "a2.tif").write_bytes(b"x")
    (tmp_path / "other").mkdir()
    assert [path.name for path in list_images([tmp_path])] == ["a2.tif", "a10", "b.ome.zarr"]
    assert [stem_of(path) for path in list_images([tmp_path])] == ["a2", "a10", "b"]
    assert list_images([tmp_path / "b.ome.zarr"]) == [tmp_path / "b.ome.zarr"]
    assert interval_of(frames_of([tmp_path / "b.ome.zarr"])) == 10


def refusal(path):
    with pytest.raises(InputError) as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.fixture
def image(tmp_path):
    return write(tmp_path / "a.zarr", movie()[0, 0], axes=SPACE, scale=[1.75, 0.8, 0.8])


def test_what_is_no_image_is_refused(tmp_path):
    describe(tmp_path / "plate.zarr", {"plate": {"wells": []}}, "0.4")
    assert "expected an OME-Zarr image, got a plate: give the folder of one image" in refusal(
        tmp_path / "plate.zarr"
    )
    describe(tmp_path / "none.zarr", {}, "0.5")
    assert "expected an OME-Zarr image, got no multiscales metadata" in refusal(tmp_path / "none.zarr")
    (tmp_path / "folder").mkdir()
    assert "expected an image file or an OME-Zarr image, got a folder" in refusal(tmp_path / "folder")
    flat = write(tmp_path / "flat.zarr", movie()[0, 0, 0][None], axes=SPACE, scale=[1, 1, 1])
    assert "got a 2-D image of 12 × 14 pixels" in refusal(flat)


@pytest.mark.parametrize("name", [".zattrs", "0/.zarray"])
@pytest.mark.parametrize("text", ["", "{", "[]", '{"multiscales": []}', '{"multiscales": [{"datasets": 3}]}'])
def test_damaged_metadata_are_refused(image, name, text):
    (image / name).write_text(text)
    refusal(image)


def test_a_damaged_chunk_is_refused(image):
    (chunk,) = (path for path in (image / "0").rglob("*") if path.is_file() and "." not in path.name[:1])
    chunk.write_bytes(chunk.read_bytes()[:40])
    assert "expected an OME-Zarr image, got an error" in refusal(image)


@pytest.mark.parametrize(("version", "compressor"), [("0.4", numcodecs.Blosc()), ("0.5", BloscCodec())])
@pytest.mark.parametrize("at", [4, 8, 12])  # bytes, bytes of a block, compressed bytes
def test_a_chunk_of_an_impossible_size_is_refused(tmp_path, version, compressor, at):
    """Blosc would end the process on some."""
    made = write(tmp_path / "a.zarr", movie(), version, compressors=compressor)
    assert_array_equal(read_volume(made, channel=1, frame=2).array, movie()[2, 1])
    chunk = made / ("0/2.1.0.0.0" if version == "0.4" else "0/c/2/1/0/0/0")
    content = chunk.read_bytes()
    chunk.write_bytes(content[:at] + b"\xff\xff\xff\x7f" + content[at + 4 :])
    read_volume(made, channel=0, frame=2)  # other chunks are not looked at
    with pytest.raises(InputError, match="expected a compressed chunk, got a damaged one"):
        read_volume(made, channel=1, frame=2)


def test_shards_of_chunks_are_read(tmp_path):
    made, array = write(tmp_path / "a.zarr", movie(), "0.5"), movie()
    array[2, 1, :3, :6, :7] = (
        0  # a chunk of zeros is left out, and its place in the index is the largest number
    )
    codec = ShardingCodec(
        chunk_shape=(1, 1, 3, 6, 7), codecs=[BytesCodec(), BloscCodec()], index_location="start"
    )
    sharded = zarr.create_array(
        str(made / "0"),
        shape=array.shape,
        chunks=(1, 1, 6, 12, 14),
        dtype=array.dtype,
        serializer=codec,
        compressors=None,
        overwrite=True,
    )
    sharded[:] = array
    assert_array_equal(read_volume(made, channel=1, frame=2).array, array[2, 1])


@pytest.mark.parametrize("place", ["../b.zarr/0", "/etc"])
def test_an_array_outside_of_the_image_is_refused(image, tmp_path, place):
    write(tmp_path / "b.zarr", movie()[0, 0], axes=SPACE, scale=[1, 1, 1])
    text = (image / ".zattrs").read_text()
    (image / ".zattrs").write_text(text.replace('"path": "0"', f'"path": "{place}"'))
    assert f"expected an array in this folder, got {place}" in refusal(image)


class Bomb:
    """Object that creates a file when unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


@pytest.mark.parametrize("dtype", ["|O", "<u2"])
def test_nothing_is_unpickled(image, tmp_path, dtype, monkeypatch):
    # for versions of numcodecs that allow pickles
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    target = tmp_path / "unpickled"
    meta = json.loads((image / "0/.zarray").read_text())
    meta |= {"dtype": dtype, "compressor": None, "filters": [{"id": "pickle", "protocol": 5}]}
    (image / "0/.zarray").write_text(json.dumps(meta))
    (chunk,) = (path for path in (image / "0").rglob("*") if path.is_file() and "." not in path.name[:1])
    chunk.write_bytes(pickle.dumps(Bomb(target)))
    assert "expected numbers, got pickled objects" in refusal(image)
    assert not target.exists()
    numcodecs.Pickle().decode(chunk.read_bytes())  # what zarr would do
    assert target.exists()


@pytest.mark.parametrize(
    "stated", [{"version": "0.6"}, {"version": "1.0"}, {"coordinateSystems": [{"name": "physical"}]}]
)
def test_a_later_version_is_refused_by_its_number(tmp_path, stated):
    path = write(tmp_path / "a.zarr", movie()[0, 0], "0.5")
    content = json.loads((path / "zarr.json").read_text())
    ome = content["attributes"]["ome"]
    ome["version"] = stated.get("version", "0.6")
    ome["multiscales"][0] |= stated
    (path / "zarr.json").write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        read_volume(path)
    assert f"expected an OME-Zarr image of version 0.1 to 0.5, got {ome['version']}: export" in str(
        caught.value
    )
