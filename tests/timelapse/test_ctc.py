"""Cell Tracking Challenge files: read as written, or refused in one line."""

import numpy as np
import pytest
import tifffile

from qcanet_monai.core.metrics.tracks import Track
from qcanet_monai.errors import InputError
from qcanet_monai.timelapse.ctc import is_tracked, mask_name, read_tracks, tracked_images, write_tracks

TRACKS = [Track(1, 0, 1, 0), Track(2, 2, 3, 1), Track(30, 2, 2, 1)]


def test_tracks_come_back_as_they_were(tmp_path):
    write_tracks(tmp_path / "res_track.txt", TRACKS)
    assert (tmp_path / "res_track.txt").read_text() == "1 0 1 0\n2 2 3 1\n30 2 2 1\n"
    assert read_tracks(tmp_path / "res_track.txt") == TRACKS


@pytest.mark.parametrize("text", ["1 0 1", "1 0 one 0", "1 0 1 0 0", "1 2 1 0", "2 0 1 1"])
def test_what_is_no_table_of_tracks_is_refused(tmp_path, text):
    (tmp_path / "res_track.txt").write_text(text + "\n")
    with pytest.raises(InputError):
        read_tracks(tmp_path / "res_track.txt")


def test_images_come_by_frame(tmp_path):
    write_tracks(tmp_path / "res_track.txt", TRACKS)
    assert is_tracked(tmp_path)
    for frame in (1, 0, 10, *range(2, 10)):
        tifffile.imwrite(tmp_path / mask_name(frame), np.zeros((2, 4, 4), np.uint16))
    paths, tracks = tracked_images(tmp_path)
    assert [path.name for path in paths] == [f"mask{frame:03d}.tif" for frame in range(11)]
    assert tracks == TRACKS
    (tmp_path / mask_name(3)).unlink()
    with pytest.raises(InputError, match="got 10 images"):
        tracked_images(tmp_path)


def test_a_folder_without_tracks_is_refused(tmp_path):
    assert not is_tracked(tmp_path)
    with pytest.raises(InputError, match=r"expected res_track\.txt or man_track\.txt"):
        tracked_images(tmp_path)
