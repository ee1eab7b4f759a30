"""Chainer weights give the same results in a bundle as in a NumPy network."""

import io
import json
import pickle
import resource
import zipfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner

from qcanet_monai.bundle.bundle import SHIPPED, Bundle
from qcanet_monai.cli.import_chainer import import_chainer as verb
from qcanet_monai.errors import ModelError, OutputError
from qcanet_monai.exchange.chainer import import_chainer, names
from qcanet_monai.io import Volume
from qcanet_monai.nn.unet import UNet3D, count_parameters
from qcanet_monai.segmentation.load import load_segmenter

NSN = (2, 16, 3)
SMALL = (1, 2, 3)
ISOTROPIC = (0.8, 0.8, 0.8)


def chainer_arrays(depth, channels, kernel_size, seed=0, classes=2) -> dict[str, np.ndarray]:
    """Make random arrays as Chainer's save_npz writes them for this architecture."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}

    def convolution(name, outer, inner, k, transposed=False):
        shape = (inner, outer) if transposed else (outer, inner)
        arrays[f"{name}/W"] = rng.normal(0, (2 / (inner * k**3)) ** 0.5, (*shape, k, k, k))
        arrays[f"{name}/b"] = rng.normal(0, 0.1, outer)

    def block(name, outer, inner):
        convolution(name, outer, inner, kernel_size)
        variance = rng.uniform(0.5, 1.5, outer)
        gamma = rng.uniform(0.5, 1.5, outer) * rng.choice([-1, 1, 1], outer)
        small = rng.random(outer) < 0.5  # where the epsilons matter
        variance[small] *= 1e-5
        arrays[f"bn{name}/gamma"] = gamma * np.where(small, 5e-3, 1)
        arrays[f"bn{name}/beta"] = rng.normal(0.1, 0.2, outer)
        arrays[f"bn{name}/avg_mean"] = rng.normal(0, 0.2, outer)
        arrays[f"bn{name}/avg_var"] = variance

    width = [channels * 2**level for level in range(depth + 2)]
    for level in range(depth + 1):
        block(f"c{2 * level}", width[level], width[level] if level else 1)
        block(f"c{2 * level + 1}", width[level + 1], width[level])
    for position, level in enumerate(reversed(range(depth))):
        convolution(f"dc{3 * position}", width[level + 2], width[level + 2], 2, transposed=True)
        block(f"dc{3 * position + 1}", width[level + 1], width[level + 1] + width[level + 2])
        block(f"dc{3 * position + 2}", width[level + 1], width[level + 1])
    convolution(f"dc{3 * depth}", classes, width[1], 1)
    arrays = {key: array.astype(np.float32) for key, array in arrays.items()}
    norms = {key.split("/")[0] for key in arrays if key.startswith("bn")}
    return arrays | {f"{norm}/N": np.asarray(0) for norm in norms}


def written(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def same_convolution(x, weights, bias):
    k = weights.shape[-1]
    padded = np.pad(x, [(0, 0)] + 3 * [(k // 2, k // 2)])
    nz, ny, nx = x.shape[1:]
    out = np.zeros((len(weights), nz, ny, nx)) + bias[:, None, None, None]
    for z, y, x0 in product(range(k), repeat=3):
        seen = padded[:, z : z + nz, y : y + ny, x0 : x0 + nx]
        out += np.tensordot(weights[:, :, z, y, x0], seen, axes=1)
    return out


def doubled(x, weights, bias):
    out = np.zeros((weights.shape[1], *(2 * n for n in x.shape[1:]))) + bias[:, None, None, None]
    for z, y, x0 in product(range(2), repeat=3):
        out[:, z::2, y::2, x0::2] += np.tensordot(weights[:, :, z, y, x0], x, axes=(0, 0))
    return out


def halved(x):
    channels, nz, ny, nx = x.shape
    return x.reshape(channels, nz // 2, 2, ny // 2, 2, nx // 2, 2).max(axis=(2, 4, 6))


def forward(arrays, image, eps=2e-5):
    """Logits (2, Z, Y, X) in float64 of the authors' Chainer networks."""
    values = {key: array.astype(np.float64) for key, array in arrays.items()}

    def block(x, name):
        x = same_convolution(x, values[f"{name}/W"], values[f"{name}/b"])
        gamma, beta, mean, variance = (
            values[f"bn{name}/{part}"][:, None, None, None]
            for part in ("gamma", "beta", "avg_mean", "avg_var")
        )
        return np.maximum(gamma * (x - mean) / np.sqrt(variance + eps) + beta, 0)

    depth = sum(key.startswith("c") and key.endswith("/W") for key in arrays) // 2 - 1
    x, skips = image[None].astype(np.float64), []
    for level in range(depth + 1):
        x = block(block(x, f"c{2 * level}"), f"c{2 * level + 1}")
        if level < depth:
            skips.append(x)
            x = halved(x)
    for position in range(depth):
        up = doubled(x, values[f"dc{3 * position}/W"], values[f"dc{3 * position}/b"])
        x = np.concatenate([up, skips.pop()])
        x = block(block(x, f"dc{3 * position + 1}"), f"dc{3 * position + 2}")
    return same_convolution(x, values[f"dc{3 * depth}/W"], values[f"dc{3 * depth}/b"])


def photograph(shape, seed=1):
    return np.random.default_rng(seed).integers(90, 4000, shape).astype(np.uint16)


def scaled(image):
    low, high = image.min(), image.max()
    return ((image - np.float32(low)) / np.float32(high - low)).astype(np.float32)


def largest_difference(one, other):
    return np.abs(one - other).max() / np.abs(other).max()


@pytest.mark.parametrize("net", ["nsn", "ndn"])
@pytest.mark.parametrize("layout", [(1, 2, 3), (1, 3, 5), (2, 3, 1), (3, 2, 3), NSN])
def test_logits_are_those_of_a_forward_pass_in_numpy(tmp_path, layout, net):
    arrays = chainer_arrays(*layout)
    found = import_chainer(written(tmp_path / "a.npz", arrays), tmp_path / "out", net=net)
    assert found == layout
    edge = 2 ** layout[0]
    image = np.random.default_rng(2).random((edge, 2 * edge, 3 * edge), np.float32)
    predictor = Bundle(tmp_path / "out").predictor(device="$torch.device('cpu')")
    with torch.inference_mode():
        logits = predictor.network(torch.from_numpy(image)[None, None])[0].numpy()
    assert logits.shape == (2, *image.shape)
    assert largest_difference(logits, forward(arrays, image)) < 1e-4
    # the comparison is sensitive to another epsilon
    assert largest_difference(logits, forward(arrays, image, eps=1e-5)) > 1e-2


def test_the_authors_layouts_have_their_number_of_parameters(tmp_path):
    found = import_chainer(written(tmp_path / "a.npz", chainer_arrays(*NSN)), tmp_path / "out", net="nsn")
    assert count_parameters(UNet3D(**found._asdict())) == 1_147_618


@pytest.mark.parametrize(
    ("depth", "arrays"), [(2, 6 * 7 + 2 * 2 + 4 * 7 + 2), (4, 10 * 7 + 4 * 2 + 8 * 7 + 2)]
)
def test_every_array_has_one_place_in_the_network(depth, arrays):
    with torch.device("meta"):
        state = UNet3D(depth=depth).state_dict()
    assert len(names(depth)) == arrays
    assert sorted(names(depth).values()) == sorted(state)


def test_a_predictor_gives_the_papers_probability(tmp_path):
    arrays = chainer_arrays(*NSN)
    import_chainer(written(tmp_path / "a.npz", arrays), tmp_path / "out", net="nsn")
    image = photograph((8, 12, 16))
    probability = Bundle(tmp_path / "out").predictor()(image, spacing=ISOTROPIC)
    background, nucleus = forward(arrays, scaled(image))
    assert np.abs(probability - 1 / (1 + np.exp(background - nucleus))).max() < 1e-4


@pytest.mark.parametrize("net", ["nsn", "ndn"])
def test_a_bundle_sees_and_judges_as_the_authors_scripts(tmp_path, net):
    import_chainer(written(tmp_path / "a.npz", chainer_arrays(*SMALL)), tmp_path / "out", net=net)
    predictor = Bundle(tmp_path / "out").predictor()
    assert (predictor.threshold, predictor.min_size) == (0.5, 1)
    assert (predictor.isotropic_spacing_um, predictor.max_diameter_voxels, predictor.precision) == (
        None,
        None,
        "fp32",
    )
    # linear from minimum to maximum, on cubes of the finest spacing
    image = photograph((4, 8, 8))
    assert torch.equal(
        predictor.preprocess(image, spacing=ISOTROPIC)[0, 0].cpu(), torch.from_numpy(scaled(image))
    )
    assert predictor.preprocess(image, spacing=(1.6, 0.8, 0.8)).shape[2:] == (8, 8, 8)


def test_segmentation_leaves_no_voxel_of_the_mask_out(tmp_path):
    arrays, image = chainer_arrays(*SMALL), photograph((8, 16, 16))
    background, nucleus = forward(arrays, scaled(image))
    most = np.quantile(nucleus - background, 0.8).astype(np.float32)
    arrays["dc3/b"][1] -= most  # leaves specks only
    import_chainer(written(tmp_path / "a.npz", arrays), tmp_path / "out", net="nsn")
    segmenter = load_segmenter(nsn=tmp_path / "out", ndn="none")
    volume = Volume(image, ISOTROPIC, Path("a.tif"))
    found = segmenter(volume)
    above = nucleus - background - most
    assert np.abs(above).min() > 1e-5  # rounding moves no voxel over the threshold
    assert np.array_equal(found.labels > 0, above > 0)
    ours = load_segmenter(nsn=tmp_path / "out", ndn="none", min_relative_intensity=0.15)  # not the authors'
    assert len(ours(volume).table["label"]) < len(found.table["label"])


def test_imported_networks_segment_together(tmp_path):
    for net, layout in (("nsn", SMALL), ("ndn", (2, 2, 5))):
        import_chainer(written(tmp_path / "a.npz", chainer_arrays(*layout)), tmp_path / net, net=net)
    segmenter = load_segmenter(nsn=tmp_path / "nsn", ndn=tmp_path / "ndn")
    assert segmenter.predictors["ndn"].preprocesses_as(segmenter.predictors["nsn"])
    assert segmenter(Volume(photograph((8, 16, 16)), ISOTROPIC, Path("a.tif"))).labels.shape == (8, 16, 16)


def test_a_bundle_has_the_shipped_ones_configurations_and_the_weights_alone(tmp_path):
    import_chainer(written(tmp_path / "a.npz", chainer_arrays(2, 3, 5)), tmp_path / "out", net="nsn")
    shipped = {path.name for path in (SHIPPED / "nsn" / "configs").iterdir()}
    assert {path.name for path in (tmp_path / "out/configs").iterdir()} == shipped
    assert [path.name for path in (tmp_path / "out/models").iterdir()] == ["model.pt"]
    with torch.device("meta"):
        expected = UNet3D(depth=2, channels=3, kernel_size=5).state_dict()
    state = torch.load(tmp_path / "out/models/model.pt", weights_only=True)
    assert {name: (t.shape, t.dtype) for name, t in state.items()} == {
        name: (t.shape, t.dtype) for name, t in expected.items()
    }
    train = yaml.safe_load((tmp_path / "out/configs/train.yaml").read_text(encoding="utf-8"))
    knobs = [
        train[key]
        for key in (
            "depth",
            "channels",
            "kernel_size",
            "normalisation",
            "isotropic_spacing_um",
            "max_diameter_voxels",
        )
    ]
    assert knobs == [2, 3, 5, "min_max", None, None]
    assert (
        json.loads((tmp_path / "out/configs/inference.json").read_text())["network_def"]["kernel_size"] == 5
    )


def test_metadata_claim_nothing_about_the_weights_but_the_file(tmp_path):
    import_chainer(written(tmp_path / "a.npz", chainer_arrays(*SMALL)), tmp_path / "out", net="nsn")
    metadata = json.loads((tmp_path / "out/configs/metadata.json").read_text(encoding="utf-8"))
    assert "a.npz, sha256 " in metadata["data_source"]
    assert "eval_metrics" not in metadata
    assert metadata["network_data_format"]["outputs"]["pred"]["spatial_shape"] == ["2*n"] * 3


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "new/out").mkdir(parents=True)
    path = written(tmp_path / "a.npz", chainer_arrays(*SMALL))
    import_chainer(path, tmp_path / "new/out", net="nsn")
    import_chainer(path, tmp_path / "newer/still/out", net="nsn")
    for folder in ("new", "newer/still"):
        assert [inner.name for inner in (tmp_path / folder).iterdir()] == ["out"]
        Bundle(tmp_path / folder / "out").predictor()


def refused(path, match, net="nsn"):
    """Check that the import fails in one line naming the file, and leaves no files."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(ModelError, match=match) as caught:
        import_chainer(path, path.parent / "new" / "out", net=net)
    assert path.name in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert sorted(path.parent.rglob("*")) == before


def filled(array, value):
    changed = array.copy()
    changed.flat[-1] = value
    return changed


@pytest.mark.parametrize(
    ("key", "change", "match"),
    [
        ("c3/b", lambda a: a[:-1], r"c3/b of shape \(8,\), got \(7,\)"),
        ("c2/W", lambda a: a[..., :1], r"c2/W of shape \(4, 4, 3, 3, 3\), got \(4, 4, 3, 3, 1\)"),
        ("dc1/W", lambda a: a.swapaxes(0, 1), r"dc1/W of shape \(4, 12, 3, 3, 3\), got \(12, 4, 3, 3, 3\)"),
        ("c0/W", lambda a: np.repeat(a, 2, axis=1), r"c0/W of shape \(2, 1, 3, 3, 3\), got \(2, 2, 3"),
        ("c0/W", lambda a: a[..., 0], r"c0/W of shape \(channels, 1, k, k, k\), k odd, got \(2, 1, 3, 3\)"),
        ("c0/W", lambda a: a[:, :, :2, :2, :2], r"k odd, got \(2, 1, 2, 2, 2\)"),
        ("c0/W", lambda a: a[:0], r"k odd, got \(0, 1, 3, 3, 3\)"),
        ("bnc1/N", lambda a: a[None], r"bnc1/N of shape \(\), got \(1,\)"),
        ("bnc1/N", lambda a: a.astype(np.float32), "bnc1/N of an integer, got float32"),
        ("dc0/W", lambda a: a.astype(np.float64), "dc0/W of float32, got float64"),
        ("dc0/W", lambda a: a.astype(">f4"), "dc0/W of float32, got >f4"),
        ("bnc0/gamma", lambda a: a.astype(np.complex64), "bnc0/gamma of float32, got complex64"),
        ("bnc0/beta", lambda a: np.full(a.shape, "x"), "bnc0/beta of float32, got <U1"),
        ("c1/W", lambda a: filled(a, np.nan), "c1/W of finite values, got NaN or infinity"),
        ("bndc2/avg_mean", lambda a: filled(a, -np.inf), "bndc2/avg_mean of finite values"),
        ("bndc2/avg_var", lambda a: filled(a, -0.5), "bndc2/avg_var of a variance of 0 or more, got -0.5"),
    ],
)
def test_an_array_that_is_not_as_it_should_be_is_named(tmp_path, key, change, match):
    arrays = chainer_arrays(*SMALL)
    arrays[key] = change(arrays[key])
    refused(written(tmp_path / "bad.npz", arrays), match)


@pytest.mark.parametrize("classes", [1, 3])
def test_a_network_of_other_than_two_classes_is_refused(tmp_path, classes):
    path = written(tmp_path / "bad.npz", chainer_arrays(*SMALL, classes=classes))
    refused(path, rf"dc3/W of shape \(2, 4, 1, 1, 1\), got \({classes}, 4, 1, 1, 1\)")


@pytest.mark.parametrize("key", ["c0/W", "c3/b", "dc0/b", "dc6/W", "bnc5/N", "bndc4/avg_var"])
def test_a_missing_array_is_named(tmp_path, key):
    arrays = chainer_arrays(2, 1, 1)
    del arrays[key]
    refused(written(tmp_path / "bad.npz", arrays), f"it lacks '{key}'$")


@pytest.mark.parametrize("layer", ["c5", "c4", "dc3", "bndc5"])
def test_a_missing_layer_is_named(tmp_path, layer):
    arrays = {k: a for k, a in chainer_arrays(2, 1, 1).items() if k.split("/")[0] != layer}
    refused(written(tmp_path / "bad.npz", arrays), f"it lacks '{layer}/[^']+', '{layer}/[^']+'")


@pytest.mark.parametrize("key", ["c6/W", "bndc0/gamma", "fc/W", "new\nline", "dc13/W"])
def test_an_array_too_many_is_named(tmp_path, key):
    path = written(tmp_path / "bad.npz", chainer_arrays(2, 1, 1) | {key: np.zeros(1)})
    refused(path, "it also has '" + key.replace("\n", r"\\n") + "'$")


def test_an_array_that_comes_twice_is_named(tmp_path):
    path = written(tmp_path / "bad.npz", chainer_arrays(*SMALL))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("c1/b.npy", archive.read("c1/b.npy"))
    refused(path, "it also has 'c1/b'$")


def test_arrays_of_something_else_are_refused_with_the_first_that_are_missing(tmp_path):
    refused(written(tmp_path / "bad.npz", {"arr_0": np.zeros(3)}), "lacks 'bnc0/N', .* and also has 'arr_0'$")


class Trap:
    """Object that creates a file when unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("key", ["c0/W", "bndc2/beta", "bnc0/N", "another"])
def test_pickled_objects_are_refused_unopened(tmp_path, key):
    trap = np.empty((), object)
    trap[()] = Trap(tmp_path / "sprung")
    path = written(tmp_path / "bad.npz", chainer_arrays(*SMALL) | {key: trap})
    refused(path, f"{key} cannot be read as an array of numbers: Object arrays" if "/" in key else "also has")
    with np.load(path, allow_pickle=True) as archive:
        archive[key]
    assert (tmp_path / "sprung").exists()  # the trap works


def plain_array(_: Path) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        lambda _: b"",
        lambda _: b"CDF\x01 of another program",
        lambda path: pickle.dumps(Trap(path.parent / "sprung")),
        plain_array,
        lambda path: written(path, chainer_arrays(*SMALL)).read_bytes()[:-100],
    ],
    ids=["empty", "other", "pickle", "npy", "cut"],
)
def test_files_that_are_no_archive_are_refused(tmp_path, content):
    path = tmp_path / "bad.npz"
    path.write_bytes(content(path))
    refused(path, "expected an .npz archive of Chainer's save_npz, got .*bad.npz$")
    assert not (tmp_path / "sprung").exists()


def test_a_damaged_array_is_named(tmp_path):
    path = tmp_path / "bad.npz"
    np.savez(path, **chainer_arrays(*SMALL))
    with zipfile.ZipFile(path) as archive:
        begin = archive.getinfo("dc2/W.npy").header_offset
    content = bytearray(path.read_bytes())
    content[begin + 300] ^= 0xFF
    path.write_bytes(content)
    refused(path, "dc2/W cannot be read as an array of numbers: Bad CRC-32")


def test_what_is_no_array_is_named(tmp_path):
    arrays = chainer_arrays(*SMALL)
    del arrays["c1/b"]
    path = written(tmp_path / "bad.npz", arrays)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("c1/b", b"text")
    refused(path, "expected an array as c1/b, got something else")


def test_a_missing_file_is_refused(tmp_path):
    refused(tmp_path / "none.npz", "found no such file")


def test_another_network_is_refused(tmp_path):
    path = written(tmp_path / "a.npz", chainer_arrays(*SMALL))
    with pytest.raises(ModelError, match="expected a network nsn or ndn, got 'qcanet'"):
        import_chainer(path, tmp_path / "out", net="qcanet")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("folder", [True, False])
def test_what_is_there_already_is_left_alone(tmp_path, folder):
    path = written(tmp_path / "a.npz", chainer_arrays(*SMALL))
    mine = tmp_path / "out" / "mine" if folder else tmp_path / "out"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine", encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match="expected a new or empty folder"):
        import_chainer(path, tmp_path / "out", net="nsn")
    assert sorted(tmp_path.rglob("*")) == before
    assert mine.read_text(encoding="utf-8") == "mine"


def test_a_disk_that_refuses_leaves_nothing(tmp_path):
    path = written(tmp_path / "a.npz", chainer_arrays(1, 6, 3))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(file.stat().st_size for file in (SHIPPED / "nsn" / "configs").iterdir())
    assert path.stat().st_size > 2 * largest  # the weights exceed the limit, everything before them does not
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * largest, limits[1]))
        with pytest.raises(OutputError, match=r"cannot write .*/out: file too large"):
            import_chainer(path, tmp_path / "out", net="nsn")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def qcanet():
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("import-chainer")(verb)
    app.callback()(lambda: None)
    return lambda *words: CliRunner().invoke(app, ["import-chainer", *map(str, words)])


def test_the_command_line_makes_a_bundle_and_says_what_it_is(tmp_path, qcanet):
    path = written(tmp_path / "learned_nsn.npz", chainer_arrays(2, 2, 3))
    done = qcanet(path, "--net", "nsn", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "NSN of 2 poolings, 2 channels and kernels of 3³ voxels in" in done.output
    assert f"--nsn {tmp_path / 'out'}" in done.output
    Bundle(tmp_path / "out").predictor()


@pytest.mark.parametrize("given", [("--net", "nsn"), ("--out", "out")])
def test_the_command_line_asks_for_both_options(tmp_path, qcanet, given):
    assert qcanet(tmp_path / "a.npz", *given).exit_code == 2


def test_the_command_line_hands_errors_on(tmp_path, qcanet):
    done = qcanet(tmp_path / "none.npz", "--net", "ndn", "--out", tmp_path / "out")
    assert isinstance(done.exception, ModelError)
    assert list(tmp_path.iterdir()) == []
