"""Files that belong together, and their splits over embryos or time."""

import json
from pathlib import Path

import pytest

from qcanet_monai.errors import InputError
from qcanet_monai.io.dataset import TARGETS, embryo_of, image_path, pairs, split, truth_path, write_datalists


def make(root, names, part="train", targets=TARGETS):
    for name in names:
        for path in (image_path(root, part, name), *(truth_path(root, part, t, name) for t in targets)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


def names_of(items):
    return [Path(item["image"]).name for item in items]


def embryos_of(items):
    return {embryo_of(name) for name in names_of(items)}


@pytest.fixture
def eleven(tmp_path):
    return make(tmp_path, [f"Emb{e:02}_t{t}.tif" for e in range(1, 12) for t in range(10)])


def test_files_lie_where_the_public_dataset_has_them():
    assert image_path(Path("d"), "test", "a.tif") == Path("d/Images/test/Images/a.tif")
    assert truth_path(Path("d"), "train", "NDN", "a.tif") == Path("d/GroundTruth/train/GroundTruth_NDN/a.tif")


@pytest.mark.parametrize("name", ["Emb01_t003.tif", "Emb01-3.tif", "Emb01.tif", "Emb01 3.tif"])
def test_a_name_begins_with_its_embryo(name):
    assert embryo_of(name) == "Emb01"


def test_pairs_come_in_natural_order_each_with_its_own_truth(tmp_path):
    make(tmp_path, ["Emb1_t10.tif", "Emb1_t2.tif", "Emb10_t1.tif", "Emb2_t1.tif"], part="test")
    found = pairs(str(tmp_path), "test", "QCANet")
    assert names_of(found) == ["Emb1_t2.tif", "Emb1_t10.tif", "Emb2_t1.tif", "Emb10_t1.tif"]
    for item in found:
        name = Path(item["image"]).name
        assert item == {
            "image": str(image_path(tmp_path, "test", name)),
            "label": str(truth_path(tmp_path, "test", "QCANet", name)),
        }


def test_hidden_and_other_files_are_no_images(tmp_path):
    make(tmp_path, ["Emb1_t1.tif"])
    for name in ("._Emb1_t1.tif", "notes.txt"):
        image_path(tmp_path, "train", name).touch()
    assert names_of(pairs(tmp_path, "train", "NSN")) == ["Emb1_t1.tif"]


def test_an_image_without_truth_is_refused_with_its_path(tmp_path):
    make(tmp_path, ["Emb1_t1.tif", "Emb1_t2.tif", "Emb1_t3.tif"])
    missing = truth_path(tmp_path, "train", "NDN", "Emb1_t2.tif")
    missing.unlink()
    with pytest.raises(InputError, match="1 of 3 are missing") as refusal:
        pairs(tmp_path, "train", "NDN")
    assert str(missing) in str(refusal.value)
    assert len(pairs(tmp_path, "train", "NSN")) == 3


def test_a_folder_without_images_is_refused_with_what_to_do(tmp_path):
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="qcanet simulate DIR"):
            pairs(root, "train", "NSN")
    make(tmp_path, ["Emb1_t1.tif"], part="test")
    with pytest.raises(InputError, match="found none"):
        pairs(tmp_path, "train", "NSN")


@pytest.mark.parametrize("folds", [2, 3, 11])
def test_no_embryo_is_on_both_sides_and_each_is_held_out_once(eleven, folds):
    held_out = []
    for fold in range(folds):
        train, validation = (split(eleven, "NSN", s, folds=folds, fold=fold) for s in ("train", "validation"))
        assert embryos_of(train).isdisjoint(embryos_of(validation))
        assert sorted(names_of(train + validation)) == sorted(names_of(pairs(eleven, "train", "NSN")))
        held_out += sorted(embryos_of(validation))
    assert sorted(held_out) == [f"Emb{i:02}" for i in range(1, 12)]


def test_embryo_i_is_held_out_in_fold_i_modulo_folds(eleven):
    assert embryos_of(split(eleven, "NDN", "validation", folds=11, fold=4)) == {"Emb05"}
    assert embryos_of(split(eleven, "NDN", "validation", folds=4, fold=1)) == {"Emb02", "Emb06", "Emb10"}


def test_split_pairs_carry_the_asked_target(eleven):
    for target in TARGETS:
        labels = [item["label"] for item in split(eleven, target, "validation")]
        assert len(labels) == 10
        assert all(f"GroundTruth_{target}/" in Path(label).as_posix() for label in labels)


@pytest.mark.parametrize(
    ("at_most", "kept"),
    [(None, range(10)), (1, [5]), (2, [2, 7]), (5, [1, 3, 5, 7, 9]), (10, range(10)), (99, range(10))],
)
def test_at_most_keeps_pairs_evenly_spread(eleven, at_most, kept):
    found = split(eleven, "NSN", "validation", at_most=at_most)
    assert names_of(found) == [f"Emb01_t{t}.tif" for t in kept]


@pytest.mark.parametrize("at_most", range(1, 101, 9))
def test_at_most_keeps_exactly_as_many_distinct_pairs_in_order(eleven, at_most):
    everything = names_of(split(eleven, "NSN", "train"))
    places = [everything.index(name) for name in names_of(split(eleven, "NSN", "train", at_most=at_most))]
    assert len(places) == at_most
    assert places == sorted(set(places))


@pytest.mark.parametrize("at_most", [0, -1])
def test_keeping_no_pair_is_refused(eleven, at_most):
    with pytest.raises(InputError, match="at_most"):
        split(eleven, "NSN", "validation", at_most=at_most)


def test_a_misspelt_subset_is_refused_instead_of_giving_the_other_side(eleven):
    with pytest.raises(InputError, match="train, validation, got 'val'"):
        split(eleven, "NSN", "val")


@pytest.mark.parametrize(("folds", "fold"), [(1, 0), (0, 0), (3, 3), (3, -1)])
def test_a_fold_that_does_not_exist_is_refused(eleven, folds, fold):
    with pytest.raises(InputError, match=r"fold in 0\.\.folds-1"):
        split(eleven, "NSN", "train", folds=folds, fold=fold)


@pytest.mark.parametrize(("embryos", "fold"), [(1, 0), (1, 1), (3, 3)])
def test_too_few_embryos_for_a_fold_are_refused(tmp_path, embryos, fold):
    make(tmp_path, [f"Emb{e}_t{t}.tif" for e in range(embryos) for t in range(2)])
    with pytest.raises(InputError, match=f"got {embryos} embryos for fold {fold}"):
        split(tmp_path, "NSN", "train", fold=fold)


@pytest.mark.parametrize("folds", [2, 5])
def test_by_time_every_embryo_is_on_both_sides_and_each_time_point_is_held_out_once(eleven, folds):
    held_out = []
    for fold in range(folds):
        train, validation = (
            split(eleven, "NSN", s, folds=folds, fold=fold, by="time") for s in ("train", "validation")
        )
        assert embryos_of(train) == embryos_of(validation)
        times = {int(name.split("_t")[1].split(".")[0]) % folds for name in names_of(validation)}
        assert times == {fold}
        held_out += names_of(validation)
    assert sorted(held_out) == sorted(names_of(pairs(eleven, "train", "NSN")))


def test_a_split_by_something_else_is_refused(eleven):
    with pytest.raises(InputError, match="expected a split by embryo or time, got 'stage'"):
        split(eleven, "NSN", "train", by="stage")
    with pytest.raises(InputError, match="got 10 time points for fold 10 of 11"):
        split(eleven, "NSN", "train", by="time", fold=10)


@pytest.mark.parametrize("by", ["embryo", "time"])
def test_datalists_hold_the_pairs_of_each_fold_wherever_they_lie(eleven, tmp_path, by):
    lists = write_datalists(eleven, tmp_path / "splits", folds=3, by=by)
    assert [path.name for path in lists] == ["fold00.json", "fold01.json", "fold02.json"]
    for fold, path in enumerate(lists):
        assert not Path(json.loads(path.read_text())["training"][0]["image"]).is_absolute()
        for target in TARGETS:
            for subset in ("train", "validation"):
                wanted = split(eleven, target, subset, folds=3, fold=fold, by=by)
                found = split("nowhere", target, subset, datalist=path)
                assert resolved(found) == resolved(wanted)
    assert names_of(split("nowhere", "NSN", "train", datalist=lists[0], at_most=1))


def resolved(items):
    return [{key: Path(value).resolve() for key, value in item.items()} for item in items]


def test_a_datalist_of_monai_itself_names_its_labels_plainly(eleven, tmp_path):
    image, label = pairs(eleven, "train", "NSN")[0].values()
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"training": [{"image": image, "label": label}], "validation": []}))
    assert split("nowhere", "NDN", "train", datalist=path) == [{"image": image, "label": label}]
    with pytest.raises(InputError, match=r"files in validation of .*list\.json, got none"):
        split("nowhere", "NDN", "validation", datalist=path)


@pytest.mark.parametrize("text", ["", "[]", '{"training": 3}', '{"training": [{"image": "a"}]}'])
def test_what_is_no_datalist_is_refused(tmp_path, text):
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"list\.json: expected a datalist, got"):
        split("nowhere", "NSN", "train", datalist=path)
    path.write_text('{"training": [{"image": "a.tif", "label": "b.tif"}]}')
    with pytest.raises(InputError, match=r"a\.tif is missing"):
        split("nowhere", "NSN", "train", datalist=path)


@pytest.fixture
def partly(tmp_path):
    """Three embryos of two time points; some lack instances, some all but a mask."""
    make(tmp_path, [f"Emb{e}_t{t}.tif" for e in (1, 2, 3) for t in (0, 1)])
    truth_path(tmp_path, "train", "QCANet", "Emb1_t0.tif").unlink()
    for target in ("QCANet", "NDN"):
        truth_path(tmp_path, "train", target, "Emb2_t1.tif").unlink()
    return tmp_path


def annotations(items):
    return {Path(item["image"]).stem: item["annotation"] for item in items}


def test_a_truth_of_another_kind_stands_in_for_missing_instances_and_says_so(partly):
    found = {Path(item["image"]).stem: item for item in pairs(partly, "train", "QCANet", partial=True)}
    assert annotations(found.values()) == dict.fromkeys(found, "instances") | {
        "Emb1_t0": "centres",
        "Emb2_t1": "mask",
    }
    for stem, target in (("Emb1_t0", "NDN"), ("Emb2_t1", "NSN"), ("Emb3_t0", "QCANet")):
        assert found[stem]["label"] == str(truth_path(partly, "train", target, f"{stem}.tif"))
    with pytest.raises(InputError, match="2 of 6 are missing"):
        pairs(partly, "train", "QCANet")


def test_centres_come_before_a_mask_where_an_image_has_both(partly):
    assert truth_path(partly, "train", "NSN", "Emb1_t0.tif").is_file()
    assert annotations(pairs(partly, "train", "QCANet", partial=True))["Emb1_t0"] == "centres"


def test_without_partial_no_item_has_an_annotation(eleven):
    assert {frozenset(item) for item in split(eleven, "QCANet", "train")} == {frozenset(("image", "label"))}
    whole = split(eleven, "QCANet", "train", partial=True)
    assert {item.pop("annotation") for item in whole} == {"instances"}
    assert whole == split(eleven, "QCANet", "train")


def test_an_image_without_any_truth_is_refused_even_so(partly):
    truth_path(partly, "train", "NDN", "Emb1_t0.tif").unlink()
    truth_path(partly, "train", "NSN", "Emb1_t0.tif").unlink()
    with pytest.raises(InputError, match="1 of 6 are missing") as refusal:
        pairs(partly, "train", "QCANet", partial=True)
    assert str(truth_path(partly, "train", "QCANet", "Emb1_t0.tif")) in str(refusal.value)


def test_images_without_instances_train_and_never_validate(partly):
    for fold, (training, validation) in enumerate(
        [({"Emb2_t1": "mask"}, {"Emb1_t1"}), ({"Emb1_t0": "centres"}, {"Emb2_t0"})]
    ):
        train, held_out = (
            split(partly, "QCANet", subset, partial=True, folds=3, fold=fold)
            for subset in ("train", "validation")
        )
        assert len(train) == 4
        assert training.items() <= annotations(train).items()
        assert annotations(held_out) == dict.fromkeys(validation, "instances")
    # the held-out embryo does not depend on the annotation
    assert len(split(partly, "QCANet", "train", partial=True, folds=3, fold=2)) == 4


def test_at_most_counts_what_may_validate(partly):
    found = split(partly, "QCANet", "validation", partial=True, folds=2, fold=0, at_most=2)
    assert annotations(found) == dict.fromkeys(["Emb1_t1", "Emb3_t1"], "instances")


def test_a_fold_without_instances_cannot_validate(partly):
    truth_path(partly, "train", "QCANet", "Emb1_t1.tif").unlink()
    with pytest.raises(InputError, match="validation images with instances, fold 0 has none"):
        split(partly, "QCANet", "validation", partial=True, folds=3)
    train = split(partly, "QCANet", "train", partial=True, folds=3)
    assert annotations(train)["Emb2_t1"] == "mask"


@pytest.fixture
def listed(partly):
    """Write a datalist whose items name their files; some only centres or a mask."""

    def entry(stem, *targets):
        paths = {f"label_{t.lower()}": str(truth_path(partly, "train", t, f"{stem}.tif")) for t in targets}
        return {"image": str(image_path(partly, "train", f"{stem}.tif")), **paths}

    def write(**sides):
        path = partly / "list.json"
        path.write_text(json.dumps({side: [entry(*one) for one in items] for side, items in sides.items()}))
        return path

    return write


def test_a_datalist_says_by_the_labels_it_names_what_is_annotated(listed):
    path = listed(
        training=[
            ("Emb1_t0", "NDN"),
            ("Emb2_t1", "NSN"),
            ("Emb3_t0", "NSN", "NDN"),
            ("Emb3_t1", "NSN", "NDN", "QCANet"),
        ],
        validation=[("Emb1_t0", "NDN"), ("Emb1_t1", "QCANet")],
    )
    train = split("nowhere", "QCANet", "train", partial=True, datalist=path)
    expected = {"Emb1_t0": "centres", "Emb2_t1": "mask", "Emb3_t0": "centres", "Emb3_t1": "instances"}
    assert annotations(train) == expected
    assert [Path(item["label"]).parent.name.removeprefix("GroundTruth_") for item in train] == (
        ["NDN", "NSN", "NDN", "QCANet"]
    )
    held_out = split("nowhere", "QCANet", "validation", partial=True, datalist=path)
    assert annotations(held_out) == {"Emb1_t1": "instances"}


def test_a_datalist_of_centres_alone_validates_nothing(listed):
    path = listed(training=[("Emb1_t0", "NDN")], validation=[("Emb1_t0", "NDN")])
    assert annotations(split("nowhere", "QCANet", "train", partial=True, datalist=path)) == {
        "Emb1_t0": "centres"
    }
    with pytest.raises(InputError, match="validation images with instances"):
        split("nowhere", "QCANet", "validation", partial=True, datalist=path)
    with pytest.raises(InputError, match="expected a datalist, got"):  # only instances are asked for
        split("nowhere", "QCANet", "train", datalist=path)


def test_a_datalists_plain_labels_are_instances(eleven, tmp_path):
    image, label = pairs(eleven, "train", "QCANet")[0].values()
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"training": [{"image": image, "label": label, "label_ndn": "no.tif"}]}))
    found = split("nowhere", "QCANet", "train", partial=True, datalist=path)
    assert found == [{"image": image, "label": label, "annotation": "instances"}]
