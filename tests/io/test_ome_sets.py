"""An OME-TIFF over several files is one image."""

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal

from qcanet_monai.errors import InputError
from qcanet_monai.io import read_volume
from qcanet_monai.io.names import Frame, frames_of, list_images

MOVIE = np.random.default_rng(0).integers(0, 200, (3, 4, 12, 14)).astype(np.uint16)


@pytest.fixture
def written(tmp_path):
    """Write the movie (T, Z, Y, X) with `parts` planes per file; return the folder."""

    def write(planes, prefix=""):
        flat = MOVIE.reshape(-1, planes, 12, 14)
        names = [f"{prefix}emb_{number:03d}.ome.tif" for number in range(len(flat))]
        blocks = "".join(
            f'<TiffData FirstT="{number * planes // 4}" FirstZ="{number * planes % 4}" FirstC="0" IFD="0" '
            f'PlaneCount="{planes}"><UUID FileName="{name}">urn:uuid:{number:032d}</UUID></TiffData>'
            for number, name in enumerate(names)
        )
        text = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels '
            'ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="14" SizeY="12" SizeZ="4" SizeC="1" '
            'SizeT="3" PhysicalSizeX="0.8" PhysicalSizeY="0.8" PhysicalSizeZ="2"><Channel ID="Channel:0:0" '
            f'SamplesPerPixel="1"/>{blocks}</Pixels></Image></OME>'
        )
        for name, part in zip(names, flat, strict=True):
            path = tmp_path / name.replace("../", "")
            tifffile.imwrite(path, part, description=text, metadata=None, photometric="minisblack")
        return tmp_path

    return write


@pytest.mark.parametrize("planes", [1, 2, 4])
def test_the_files_of_a_set_are_one_image(written, planes):
    images = list_images([written(planes)])
    assert [path.name for path in images] == ["emb_000.ome.tif"]
    assert frames_of(images) == [Frame(images[0], number) for number in range(3)]
    for frame, truth in enumerate(MOVIE):
        volume = read_volume(images[0], frame=frame)
        assert_array_equal(volume.array, truth)
        assert volume.spacing == (2, 0.8, 0.8)


@pytest.mark.parametrize("planes", [1, 4])
def test_a_missing_file_is_named_and_other_frames_are_read(written, planes):
    folder = written(planes)
    last = sorted(folder.iterdir())[-1]
    last.unlink()
    (path,) = list_images([folder])
    for frame in (0, 1):
        assert_array_equal(read_volume(path, frame=frame).array, MOVIE[frame])
    with pytest.raises(InputError, match=rf"one of several files .*; {last.name} is missing: copy"):
        read_volume(path, frame=2)


def test_a_set_outside_its_folder_is_refused(written):
    folder = written(4, prefix="../")
    with pytest.raises(InputError, match=r"expected the parts of an image in its folder, got \.\./emb_000"):
        read_volume(sorted(folder.iterdir())[0], frame=0)
