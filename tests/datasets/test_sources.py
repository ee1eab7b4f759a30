"""Datasets from a local server or folders: complete, exact, no hostile archive."""

import functools
import hashlib
import http.server
import io
import json
import re
import threading
import zipfile

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from qcanet_monai.cli.data import app
from qcanet_monai.datasets import sources as datasets
from qcanet_monai.datasets.download import download, unpack
from qcanet_monai.datasets.sources import Dataset, bbbc050, ctc, own
from qcanet_monai.datasets.writer import UNFINISHED
from qcanet_monai.errors import InputError
from qcanet_monai.io import read_labels, read_volume, write_labels, write_volume
from qcanet_monai.io.dataset import split
from qcanet_monai.transforms.volumes import LoadVolumed

ALL = ("NSN", "NDN", "QCANet")
SHAPE = (9, 30, 40)
TRAIN = ("Emb01_t001.tif", "Emb01_t251.tif", "Emb02_t001.tif")
TEST = ("Emb01_t501.tif",)


def noise(seed, shape=SHAPE):
    return np.random.default_rng(seed).integers(0, 60_000, shape).astype(np.uint16)


def nuclei(*numbers):
    """Boxes of 3 x 5 x 5 voxels in a row, labelled; centres at (4, 7, 7 + 10 i)."""
    labels = np.zeros(SHAPE, np.uint16)
    for i, number in enumerate(numbers):
        labels[3:6, 5:10, 5 + 10 * i : 10 + 10 * i] = number
    return labels


def balls(*centres):
    out = np.zeros(SHAPE, np.uint8)
    for centre in centres:
        distance = np.linalg.norm(np.indices(SHAPE) - np.reshape(centre, (3, 1, 1, 1)), axis=0)
        out[distance <= 2] = 255
    return out


def tiff(array):
    """Encode a plain TIFF without a voxel size."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, photometric="minisblack")
    return stream.getvalue()


def archive(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return stream.getvalue()


@functools.cache
def archives():
    """BBBC050 in small; one voxel marks its NDN truth, to tell it from derived truth."""
    images = {"Images/train/": b"", "Images/.DS_Store": b"x", "Images/train/Images/._Emb01_t001.tif": b"x"}
    truth = {}
    marked = np.zeros(SHAPE, np.uint8)
    marked[4, 7, 7] = 255
    for i, name in enumerate(TRAIN):
        images[f"Images/train/Images/{name}"] = tiff(noise(i))
        truth[f"GroundTruth/train/GroundTruth_QCANet/{name}"] = tiff(nuclei(2, 7))
        truth[f"GroundTruth/train/GroundTruth_NSN/{name}"] = tiff((nuclei(1, 1) * 255).astype(np.uint8))
        truth[f"GroundTruth/train/GroundTruth_NDN/{name}"] = tiff(marked)
    images[f"Images/test/Images/{TEST[0]}"] = tiff(noise(9))
    truth[f"GroundTruth/test/GroundTruth_QCANet/{TEST[0]}"] = tiff(nuclei(5, 3))
    return {"Images.zip": archive(images), "GroundTruth.zip": archive(truth)}


def sums(files):
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


class Server:
    """HTTP server; `cut` truncates the next answers, `asked` logs paths and ranges."""

    def __init__(self):
        self.files, self.ranges, self.cut, self.asked, self.sent = {}, True, None, [], 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._http.shutdown()
        self._http.server_close()

    def answer(self, request):
        name, wanted = request.path.lstrip("/"), request.headers["Range"]
        self.asked.append((name, wanted))
        if name not in self.files:
            request.send_error(404)
            return
        content = self.files[name]
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.ranges else 0
        if start and start >= len(content):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        body = content[start:][: self.cut]
        request.wfile.write(body)
        self.sent += len(body)


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture
def site(server):
    server.files = archives()
    server.get = functools.partial(bbbc050, base_url=server.url, checksums=sums(server.files))
    return server


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- BBBC050


def test_bbbc050_is_written_with_its_voxel_sizes_and_the_truths_it_lacks(site, tmp_path):
    folder = tmp_path / "d"
    assert site.get(folder) == Dataset(train=3, embryos=2, test=1, new=True)
    for part, names, spacing in (("train", TRAIN, (1.75, 0.8, 0.8)), ("test", TEST, (2.0, 0.8, 0.8))):
        for name in names:
            for kind in (f"Images/{part}/Images", *(f"GroundTruth/{part}/GroundTruth_{t}" for t in ALL)):
                assert read_volume(folder / kind / name).spacing == spacing
    for i, name in enumerate(TRAIN):
        assert np.array_equal(read_volume(folder / f"Images/train/Images/{name}").array, noise(i))
        truth = {t: read_labels(folder / f"GroundTruth/train/GroundTruth_{t}/{name}").array for t in ALL}
        assert np.array_equal(truth["QCANet"], nuclei(2, 7))
        assert np.array_equal(truth["NSN"], nuclei(255, 255))
        assert np.argwhere(truth["NDN"] == 255).tolist() == [[4, 7, 7]]
    truth = {t: read_labels(folder / f"GroundTruth/test/GroundTruth_{t}/{TEST[0]}").array for t in ALL}
    assert np.array_equal(truth["QCANet"], nuclei(5, 3))
    assert np.array_equal(truth["NSN"], nuclei(255, 255))
    assert np.array_equal(truth["NDN"], balls((4, 7, 7), (4, 7, 17)))
    assert np.count_nonzero(truth["NDN"]) == 2 * 33


def test_datalists_name_every_file_from_the_datasets_folder_on(site, tmp_path):
    site.get(tmp_path)
    train, test = (
        json.loads((tmp_path / f"datalists/{part}.json").read_text()) for part in ("train", "test")
    )
    assert [(item["embryo"], item["frame"]) for item in train] == [("Emb01", 1), ("Emb01", 251), ("Emb02", 1)]
    assert test == [
        {
            "image": "Images/test/Images/Emb01_t501.tif",
            "label_nsn": "GroundTruth/test/GroundTruth_NSN/Emb01_t501.tif",
            "label_ndn": "GroundTruth/test/GroundTruth_NDN/Emb01_t501.tif",
            "label_qcanet": "GroundTruth/test/GroundTruth_QCANet/Emb01_t501.tif",
            "embryo": "Emb01",
            "frame": 501,
        }
    ]
    assert {path.name for path in tmp_path.iterdir()} == {
        "Images", "GroundTruth", "datalists", "dataset.json"
    }  # fmt: skip


def test_a_training_splits_it_by_embryos_and_reads_its_spacing(site, tmp_path):
    site.get(tmp_path)
    for target in ALL:
        pairs = split(tmp_path, target, "train")
        assert [pair["image"].rpartition("/")[2] for pair in pairs] == ["Emb02_t001.tif"]
        loaded = LoadVolumed(("image", "label"))(pairs[0])
        assert loaded["image"].pixdim.tolist() == pytest.approx([1.75, 0.8, 0.8])
        assert loaded["label"].shape == (1, *SHAPE)


def test_a_rerun_of_a_whole_dataset_asks_for_nothing_and_changes_nothing(site, tmp_path):
    site.get(tmp_path)
    before, site.asked = tree(tmp_path), []
    assert site.get(tmp_path) == Dataset(train=3, embryos=2, test=1, new=False)
    assert (site.asked, tree(tmp_path)) == ([], before)


def test_an_interrupted_download_goes_on_where_it_stopped(site, tmp_path):
    whole = len(site.files["Images.zip"])
    site.cut = 70_000
    with pytest.raises(InputError, match=r"Images\.zip cannot be downloaded: .*run again"):
        site.get(tmp_path / "d")
    (part,) = [path for path in (tmp_path / "d").rglob("*") if path.is_file()]
    kept = part.stat().st_size
    assert part.name == "Images.zip.part"
    assert 0 < kept <= 70_000 < whole
    site.cut, site.sent, site.asked = None, 0, []
    assert site.get(tmp_path / "d").new
    assert site.asked == [("Images.zip", f"bytes={kept}-"), ("GroundTruth.zip", None)]
    assert site.sent == whole - kept + len(site.files["GroundTruth.zip"])


def test_what_was_downloaded_whole_is_not_fetched_again_when_writing_was_interrupted(site, tmp_path):
    def interrupt(what, *_):
        if what == "writing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        site.get(tmp_path / "d", progress=interrupt)
    assert sorted(tree(tmp_path / "d")) == [".download/GroundTruth.zip", ".download/Images.zip"]
    site.asked = []
    assert site.get(tmp_path / "d").new
    assert site.asked == []


def test_progress_tells_bytes_and_images(site, tmp_path):
    told = []
    site.get(tmp_path, progress=lambda *step: told.append(step))
    size = len(site.files["Images.zip"])
    assert ("Images.zip", size, size) in told
    assert [step for step in told if step[0] == "writing"] == [("writing", i, 4) for i in (1, 2, 3, 4)]


def test_a_wrong_archive_is_named_and_removed_and_a_rerun_starts_anew(site, tmp_path):
    right = site.files
    site.files = right | {"GroundTruth.zip": b"something else"}
    with pytest.raises(InputError) as caught:
        site.get(tmp_path / "d")
    assert sums(right)["GroundTruth.zip"] in str(caught.value)
    assert sums(site.files)["GroundTruth.zip"] in str(caught.value)
    assert list(tree(tmp_path / "d")) == [".download/Images.zip"]
    site.files, site.asked = right, []
    assert site.get(tmp_path / "d").new
    assert site.asked == [("GroundTruth.zip", None)]


def test_a_server_without_the_file_or_no_server_leaves_no_folder(site, tmp_path):
    site.files = {}
    with pytest.raises(InputError, match=r"Images\.zip, got status 404"):
        site.get(tmp_path / "d")
    with pytest.raises(InputError, match="cannot be downloaded: ConnectionError"):
        site.get(tmp_path / "d", base_url="http://127.0.0.1:1")
    assert not list(tmp_path.iterdir())


def test_a_bad_image_names_itself_and_nothing_appears(site, tmp_path):
    files = dict.fromkeys(["Images/train/Images/Emb01_t001.tif"], b"this is no image" * 50)
    truth = {"GroundTruth/train/GroundTruth_QCANet/Emb01_t001.tif": tiff(nuclei(1))}
    site.files = {"Images.zip": archive(files), "GroundTruth.zip": archive(truth)}
    with pytest.raises(InputError, match=r"Images/train/Images/Emb01_t001\.tif: expected a TIFF"):
        site.get(tmp_path / "d", checksums=sums(site.files))
    assert sorted(tree(tmp_path / "d")) == [".download/GroundTruth.zip", ".download/Images.zip"]


@pytest.mark.parametrize(
    ("truth", "named"),
    [
        ({}, r"instance labels of .*Emb01_t001\.tif"),
        (
            {"GroundTruth/train/GroundTruth_QCANet/Emb01_t001.tif": tiff(noise(0, (9, 30, 41)) % 2)},
            r"GroundTruth_QCANet/Emb01_t001\.tif to have the shape of its image, \(9, 30, 40\), got",
        ),
    ],
)
def test_an_image_without_labels_of_its_shape_is_refused(site, tmp_path, truth, named):
    images = {"Images/train/Images/Emb01_t001.tif": tiff(noise(0))}
    site.files = {"Images.zip": archive(images), "GroundTruth.zip": archive(truth)}
    with pytest.raises(InputError, match=named):
        site.get(tmp_path / "d", checksums=sums(site.files))


def test_a_hostile_archive_whose_checksum_fits_touches_nothing_outside(site, tmp_path):
    site.files = dict(site.files) | {"GroundTruth.zip": archive({"../../../outside.tif": b"x"})}
    with pytest.raises(InputError, match="leads out of its folder"):
        site.get(tmp_path / "a" / "d", checksums=sums(site.files))
    assert not list(tmp_path.rglob("outside.tif"))
    assert not list((tmp_path / "a" / "d").rglob("*.tif"))


# --- one file, one archive


def test_a_server_that_ignores_ranges_sends_all_again(server, tmp_path):
    content = noise(0, (100_000,)).tobytes()
    server.files, server.ranges = {"f": content}, False
    (tmp_path / "f.part").write_bytes(b"an earlier beginning")
    download(f"{server.url}/f", tmp_path / "f", sha256=hashlib.sha256(content).hexdigest())
    assert server.asked == [("f", "bytes=20-")]
    assert tree(tmp_path) == {"f": content}


def test_a_part_that_is_whole_already_is_taken(server, tmp_path):
    """The process was killed just before the rename: no bytes are left to fetch."""
    server.files = {"f": b"content"}
    (tmp_path / "f.part").write_bytes(b"content")
    download(f"{server.url}/f", tmp_path / "f", sha256=hashlib.sha256(b"content").hexdigest())
    assert tree(tmp_path) == {"f": b"content"}
    assert server.sent == 0


def test_a_part_of_something_else_is_removed(server, tmp_path):
    server.files = {"f": b"content"}
    (tmp_path / "f.part").write_bytes(b"longer than the content")
    with pytest.raises(InputError, match=r"expected .*/f to have the sha256"):
        download(f"{server.url}/f", tmp_path / "f", sha256=hashlib.sha256(b"content").hexdigest())
    assert tree(tmp_path) == {}


def entry(name, kind):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, kind << 16
    return info


def declare(content, size):
    """Change the stated uncompressed size of the archive's only file."""
    made = bytearray(content)
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        place = made.index(signature) + offset
        made[place : place + 4] = size.to_bytes(4, "little")
    return bytes(made)


HOSTILE = {
    "parent": (archive({"good.tif": b"x", "a/../../out.tif": b"x"}), "leads out of its folder"),
    "absolute": (archive({"good.tif": b"x", "/tmp/out.tif": b"x"}), "leads out of its folder"),
    "drive": (archive({"good.tif": b"x", "C:/out.tif": b"x"}), "leads out of its folder"),
    "backslash": (archive({"good.tif": b"x", "..\\out.tif": b"x"}), "leads out of its folder"),
    "link": (archive({"good.tif": b"x", entry("l.tif", 0o120777): b"/etc"}), "'l.tif', neither a file nor"),
    "device": (archive({"good.tif": b"x", entry("l.tif", 0o060666): b""}), "'l.tif', neither a file nor"),
    "bomb": (
        archive({"good.tif": b"x", "b.tif": bytes(2_000_000)}),
        "at most 0.001 GB, it declares 0.002 GB",
    ),
    "no archive": (b"PK nothing of the kind", "cannot be unpacked"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_before_anything_is_written(tmp_path, kind):
    content, named = HOSTILE[kind]
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError, match=named):
        unpack(tmp_path / "a.zip", tmp_path / "d", wanted=lambda _: True, limit=1_000_000)
    assert list(tree(tmp_path)) == ["a.zip"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_that_comes_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr("a.tif", b"x")
        opened.writestr("a.tif", b"y")
    with pytest.raises(InputError, match=r"'a\.tif' twice"):
        unpack(tmp_path / "a.zip", tmp_path / "d", wanted=lambda _: True)
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("size", [10, 2_000])
def test_a_file_of_another_size_than_declared_is_refused(tmp_path, size):
    (tmp_path / "a.zip").write_bytes(declare(archive({"a.tif": bytes(1_000)}), size))
    with pytest.raises(InputError, match=r"a\.zip"):
        unpack(tmp_path / "a.zip", tmp_path / "d", wanted=lambda _: True)


def test_only_what_is_wanted_is_unpacked(tmp_path):
    (tmp_path / "a.zip").write_bytes(archive({"a/b.tif": b"x", "a/": b"", "a/c.txt": b"y"}))
    unpack(tmp_path / "a.zip", tmp_path / "d", wanted=lambda name: name.endswith(".tif"))
    assert tree(tmp_path / "d") == {"a/b.tif": b"x"}


# --- Cell Tracking Challenge


@pytest.fixture
def challenge(tmp_path):
    """Two sequences labelled by track; full truth of 3 frames, one slice of a fourth."""
    source = tmp_path / "Fluo"
    for sequence, frame, numbers in (("01", 0, (7,)), ("01", 12, (300, 7)), ("02", 3, (1, 65_000))):
        for name, array in (
            (f"{sequence}/t{frame:03d}.tif", noise(frame)),
            (f"{sequence}_GT/SEG/man_seg{frame:03d}.tif", nuclei(*numbers)),
            (f"{sequence}_GT/TRA/man_track{frame:03d}.tif", nuclei(*numbers)),
        ):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(tiff(array))
    (source / "01/t001.tif").write_bytes(tiff(noise(1)))
    (source / "01_GT/SEG/man_seg_001_004.tif").write_bytes(tiff(nuclei(7)[4]))
    return source


def test_frames_of_the_challenge_with_whole_truth_become_embryos_to_train_on(challenge, tmp_path):
    folder, spacing = tmp_path / "d", (1.0, 0.09, 0.09)
    assert ctc(folder, challenge, spacing=spacing) == Dataset(train=3, embryos=2, test=0, new=True)
    names = ["Emb01_t000.tif", "Emb01_t012.tif", "Emb02_t003.tif"]
    assert sorted(path.name for path in (folder / "Images/train/Images").iterdir()) == names
    assert [path.name for path in (folder / "datalists").iterdir()] == ["train.json"]
    image = read_volume(folder / "Images/train/Images/Emb01_t012.tif")
    assert np.array_equal(image.array, noise(12))
    assert image.spacing == pytest.approx(spacing)
    truth = {t: read_labels(folder / f"GroundTruth/train/GroundTruth_{t}/{names[1]}") for t in ALL}
    assert np.array_equal(truth["QCANet"].array, nuclei(2, 1))
    assert np.array_equal(truth["NSN"].array, nuclei(255, 255))
    assert np.array_equal(truth["NDN"].array, balls((4, 7, 7), (4, 7, 17)))
    assert truth["NDN"].spacing == pytest.approx(spacing)
    assert [len(split(folder, target, "train", folds=2)) for target in ALL] == [1, 1, 1]


def test_the_challenges_voxel_size_is_asked_for(challenge, tmp_path):
    with pytest.raises(InputError, match=r"01/t000\.tif does not state its voxel size.*--spacing Z Y X"):
        ctc(tmp_path / "d", challenge)
    assert not (tmp_path / "d").exists()


def test_2_d_sequences_are_refused(challenge, tmp_path):
    for name in ("01/t000.tif", "01_GT/SEG/man_seg000.tif"):
        (challenge / name).write_bytes(tiff(noise(0)[4]))
    with pytest.raises(
        InputError, match=r"01/t000\.tif: expected a 3-D stack .* got a 2-D image of 30 × 40 pixels"
    ):
        ctc(tmp_path / "d", challenge, spacing=(1, 1, 1))


def test_a_folder_without_whole_truth_is_refused(challenge, tmp_path):
    for path in challenge.glob("*_GT/SEG/man_seg0*.tif"):
        path.unlink()
    for source in (challenge, challenge / "01", tmp_path / "absent"):
        with pytest.raises(
            InputError, match=r"expected 01_GT/SEG/man_seg000\.tif and the like in .*, found none"
        ):
            ctc(tmp_path / "d", source, spacing=(1, 1, 1))


def test_a_truth_without_its_image_names_it(challenge, tmp_path):
    (challenge / "02/t003.tif").unlink()
    with pytest.raises(InputError, match=r"02/t003\.tif does not exist"):
        ctc(tmp_path / "d", challenge, spacing=(1, 1, 1))
    assert not (tmp_path / "d").exists()


# --- own images


@pytest.fixture
def mine(tmp_path):
    """A TIFF and a NIfTI of two embryos, both with voxel sizes."""
    source = tmp_path / "mine"
    for name in ("images", "labels"):
        (source / name).mkdir(parents=True)
    write_volume(source / "images/a_t01.tif", noise(1), spacing=(2.0, 0.5, 0.5))
    write_volume(source / "images/b_t02.nii.gz", noise(2), spacing=(1.5, 0.4, 0.4))
    (source / "labels/a_t01.tif").write_bytes(tiff(nuclei(9, 4).astype(np.int32)))
    write_labels(source / "labels/b_t02.tif", nuclei(), spacing=(1.5, 0.4, 0.4))
    return source


def test_own_images_need_instance_labels_alone(mine, tmp_path):
    folder = tmp_path / "d"
    assert own(folder, mine) == Dataset(train=2, embryos=2, test=0, new=True)
    for name, seed, spacing, labels, centres in (
        ("a_t01.tif", 1, (2.0, 0.5, 0.5), (2, 1), [(4, 7, 7), (4, 7, 17)]),
        ("b_t02.tif", 2, (1.5, 0.4, 0.4), (), []),
    ):
        image = read_volume(folder / "Images/train/Images" / name)
        truth = {t: read_labels(folder / f"GroundTruth/train/GroundTruth_{t}/{name}") for t in ALL}
        assert np.array_equal(image.array, noise(seed))
        assert np.array_equal(truth["QCANet"].array, nuclei(*labels))
        assert np.array_equal(truth["NSN"].array, nuclei(*[255 for _ in labels]))
        assert np.array_equal(truth["NDN"].array, balls(*centres))
        assert {volume.spacing for volume in (image, *truth.values())} == {spacing}
    assert [pair["image"][-9:] for pair in split(folder, "NSN", "train")] == ["b_t02.tif"]


def test_a_given_voxel_size_wins(mine, tmp_path):
    own(tmp_path / "d", mine, spacing=(3, 1, 1))
    assert read_volume(tmp_path / "d/Images/train/Images/a_t01.tif").spacing == (3, 1, 1)


def test_each_time_point_of_a_movie_is_an_image(tmp_path):
    for name, frames in (("images", [noise(1), noise(2)]), ("labels", [nuclei(1), nuclei(1, 2)])):
        (tmp_path / "mine" / name).mkdir(parents=True)
        stack = np.stack(frames)
        tifffile.imwrite(tmp_path / "mine" / name / "Emb.tif", stack, imagej=True, metadata={"axes": "TZYX"})
    made = own(tmp_path / "d", tmp_path / "mine", spacing=(2, 1, 1))
    assert made == Dataset(train=2, embryos=1, test=0, new=True)
    assert np.array_equal(read_volume(tmp_path / "d/Images/train/Images/Emb_t001.tif").array, noise(2))
    labels = read_labels(tmp_path / "d/GroundTruth/train/GroundTruth_QCANet/Emb_t001.tif")
    assert np.array_equal(labels.array, nuclei(1, 2))


@pytest.mark.parametrize(("low", "dtype"), [(0, "uint16"), (-5, "float32")])
def test_signed_grey_values_are_kept(mine, tmp_path, low, dtype):
    values = (noise(3) // 4).astype(np.int32) + low
    (mine / "images/a_t01.tif").write_bytes(tiff(values))
    own(tmp_path / "d", mine, spacing=(1, 1, 1))
    written = read_volume(tmp_path / "d/Images/train/Images/a_t01.tif").array
    assert written.dtype == dtype
    assert np.array_equal(written, values)


def test_an_image_without_labels_is_named(mine, tmp_path):
    (mine / "labels/b_t02.tif").unlink()
    with pytest.raises(InputError, match=r"1 of 2 are missing, the first is that of .*b_t02\.nii\.gz"):
        own(tmp_path / "d", mine)
    assert not (tmp_path / "d").exists()


# --- the folder


def test_a_folder_with_other_files_is_refused_and_left_alone(mine, tmp_path):
    folder = tmp_path / "d"
    (folder / ".download").mkdir(parents=True)
    (folder / ".download/Images.zip.part").write_bytes(b"of another command")
    with pytest.raises(InputError, match=r"new or empty folder for the dataset, .*d holds \.download"):
        own(folder, mine)
    assert tree(folder) == {".download/Images.zip.part": b"of another command"}


def test_a_dataset_of_other_settings_or_of_files_that_changed_is_refused_and_left_alone(mine, tmp_path):
    folder = tmp_path / "d"
    own(folder, mine)
    before = tree(folder)
    with pytest.raises(InputError, match="made from other files or settings"):
        own(folder, mine, spacing=(3, 1, 1))
    write_labels(mine / "labels/b_t02.tif", nuclei(1), spacing=(1.5, 0.4, 0.4))
    with pytest.raises(InputError, match="made from other files or settings"):
        own(folder, mine)
    assert tree(folder) == before


def test_a_dataset_of_which_a_file_is_gone_is_not_taken_for_whole(mine, tmp_path):
    own(tmp_path / "d", mine)
    (tmp_path / "d/GroundTruth/train/GroundTruth_NDN/b_t02.tif").unlink()
    with pytest.raises(InputError, match=r"GroundTruth_NDN/b_t02\.tif is missing: remove the folder"):
        own(tmp_path / "d", mine)


@pytest.mark.parametrize("moved", [(), ("Images",), ("Images", "GroundTruth", "datalists")])
def test_a_run_killed_before_or_while_its_parts_were_renamed_is_completed(mine, tmp_path, moved):
    own(tmp_path / "whole", mine)
    expected = tree(tmp_path / "whole")
    folder = tmp_path / "d"
    (folder / UNFINISHED).mkdir(parents=True)
    for path in (tmp_path / "whole").iterdir():
        path.rename((folder if path.name in moved else folder / UNFINISHED) / path.name)
    own(folder, mine)
    assert tree(folder) == expected


def test_a_run_killed_while_writing_is_made_anew(mine, tmp_path):
    images = tmp_path / "d" / UNFINISHED / "Images/train/Images"
    images.mkdir(parents=True)
    (images / "Emb99_t001.tif").write_bytes(b"half")
    assert own(tmp_path / "d", mine).new
    assert not list((tmp_path / "d").rglob("Emb99*"))


# --- the command line


def test_the_commands_say_what_was_done_and_that_nothing_had_to_be(
    site, challenge, mine, tmp_path, monkeypatch
):
    run = CliRunner()
    monkeypatch.setattr(datasets, "bbbc050", functools.partial(bbbc050, checksums=sums(site.files)))
    size = ["--spacing", "1", "0.5", "0.5"]
    for words, said in (
        (
            ["bbbc050", tmp_path / "1", "--url", site.url],
            "3 images of 2 embryos to train on, 1 to test on in",
        ),
        (["ctc", tmp_path / "2", "--source", challenge, *size], "3 images of 2 embryos to train on in"),
        (["own", tmp_path / "3", "--source", mine], "2 images of 2 embryos to train on in"),
    ):
        first, again = (run.invoke(app, [str(word) for word in words]) for _ in range(2))
        assert (first.exit_code, again.exit_code) == (0, 0), (first.output, again.output)
        assert first.output.startswith(said)
        assert "nothing was done" not in first.output
        assert "nothing was done" in " ".join(again.output.split())


def test_one_embryo_is_told_to_be_too_few_to_train_on(mine, tmp_path):
    (mine / "images/b_t02.nii.gz").unlink()
    done = CliRunner().invoke(app, ["own", str(tmp_path / "d"), "--source", str(mine)])
    assert "training needs at least 2 embryos" in " ".join(done.output.split())
