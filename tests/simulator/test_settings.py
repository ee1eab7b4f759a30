"""Simulation settings: the shipped YAML is valid, a user's file is checked."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml

from qcanet_monai.errors import InputError
from qcanet_monai.simulator.parameters import Camera, Growth, Optics, View
from qcanet_monai.simulator.settings import (
    GROUPS,
    Recording,
    Simulation,
    read_simulation,
    shipped,
    stream,
)

SHIPPED = [(group, name) for group in GROUPS for name in getattr(shipped(), group)]
SEEDS = range(40)


def parameters(recording):
    return {
        (group, name): value
        for group, drawn in recording._asdict().items()
        for name, value in drawn.model_dump().items()
    }


@pytest.fixture
def read(tmp_path):
    """Write a text or YAML content to a file, and read the settings."""

    def read(content):
        path = tmp_path / "mine.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return read_simulation(path)

    return read


@pytest.mark.parametrize("group", GROUPS)
def test_the_shipped_yaml_states_every_field_of_every_model(group):
    assert set(getattr(shipped(), group)) == set(GROUPS[group].model_fields)


@pytest.mark.parametrize(("group", "name"), SHIPPED)
def test_every_end_of_a_shipped_distribution_is_a_value_of_its_field(group, name):
    for end in getattr(shipped(), group)[name].ends():
        GROUPS[group].model_validate({name: end})


@pytest.mark.parametrize("model", GROUPS.values())
def test_every_field_is_explained(model):
    assert all(field.description for field in model.model_fields.values())


def test_the_shipped_settings_draw_all_words_and_no_value_beyond_an_end():
    drawn = [parameters(shipped().draw((seed,))) for seed in SEEDS]
    for group, name in SHIPPED:
        distribution = getattr(shipped(), group)[name]
        values = [recording[group, name] for recording in drawn]
        if distribution.choices is not None or isinstance(distribution.always, str):
            assert {str(value) for value in values} == set(distribution.ends())
        else:
            assert min(distribution.ends()) <= min(values) <= max(values) <= max(distribution.ends())


def test_what_is_left_out_has_the_models_defaults():
    assert Simulation().draw((0,)) == Recording(View(), Growth(), Optics(), Camera())
    drawn = Simulation.model_validate({"optics": {"haze": 0.4}}).draw((0,))
    assert drawn == Recording(View(), Growth(), Optics(haze=0.4), Camera())


def test_a_views_spacing_is_its_lateral_edge_stretched_along_z():
    assert View(lateral_um=0.5, anisotropy=4).spacing == (2.0, 0.5, 0.5)
    assert View().spacing == pytest.approx((1.75, 0.8, 0.8))


def test_the_same_seed_draws_the_same_recording_and_another_seed_another():
    assert shipped().draw((1, 2)) == shipped().draw((1, 2))
    assert shipped().draw((1, 2)) != shipped().draw((1, 3)) != shipped().draw((2, 1))


@pytest.mark.parametrize(("group", "name"), SHIPPED)
def test_another_distribution_of_one_parameter_shifts_no_other_parameters_draw(group, name):
    old = getattr(shipped(), group)[name]
    end = old.ends()[-1]
    fixed = {"choices": {end: 1}} if isinstance(end, str) else {"uniform": [end, end]}
    if old.integers or isinstance(old.always, str) or name == "oval":
        fixed = end
    changed = shipped().changed({group: {name: fixed}})
    for seed in range(3):
        before, after = parameters(shipped().draw((seed,))), parameters(changed.draw((seed,)))
        assert {key for key in before if before[key] != after[key]} <= {(group, name)}
        assert after[group, name] == GROUPS[group].model_validate({name: end}).model_dump()[name]


def test_parameters_of_the_same_distribution_are_drawn_independently():
    same = {"uniform": [0.3, 0.6]}
    drawn = Simulation.model_validate(
        {
            "view": {"lateral_um": same},
            "optics": {"lateral_um": same, "haze": same},
            "growth": {"empty": same},
        }
    )
    values = np.array(
        [
            (r.view.lateral_um, r.optics.lateral_um, r.optics.haze, r.growth.empty)
            for r in (drawn.draw((seed,)) for seed in range(200))
        ]
    )
    assert np.abs(np.corrcoef(values.T) - np.eye(4)).max() < 0.2


def test_streams_differ_by_name_and_by_seed():
    first = {
        (name, seed): stream(seed, name).random() for name in ("a", "b") for seed in ((1,), (2,), (1, 2))
    }
    assert len(set(first.values())) == 6
    assert stream((1,), "a").random() == first["a", (1,)]


def test_changed_replaces_what_is_named_and_keeps_the_rest():
    changed = shipped().changed({"optics": {"haze": 0.25}, "camera": {"photons": {"uniform": [20, 30]}}})
    for seed in SEEDS:
        before, after = shipped().draw((seed,)), changed.draw((seed,))
        assert after.optics == before.optics.model_copy(update={"haze": 0.25})
        assert 20 <= after.camera.photons <= 30
        assert after.camera == before.camera.model_copy(update={"photons": after.camera.photons})
        assert (after.view, after.growth) == (before.view, before.growth)
    assert shipped().optics["haze"].uniform is not None


@pytest.mark.parametrize(("share", "low", "high"), [(0, 0, 0), (0.3, 0.2, 0.4), (1, 1, 1)])
def test_with_tissue_draws_tissues_that_often_and_shifts_nothing_else(share, low, high):
    mixed, count = shipped().with_tissue(share), 0
    for seed in range(200):
        before, after = shipped().draw((seed,)), mixed.draw((seed,))
        assert after.growth == before.growth.model_copy(update={"kind": after.growth.kind})
        count += after.growth.kind == "tissue"
    assert low <= count / 200 <= high


def test_without_a_share_of_tissues_the_settings_stay():
    assert shipped().with_tissue(None) is shipped()


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_of_tissues_beyond_0_and_1_is_refused(share):
    with pytest.raises(InputError, match="share of tissues between 0 and 1, got"):
        shipped().with_tissue(share)


def test_settings_travel_to_other_processes():
    assert pickle.loads(pickle.dumps(shipped())) == shipped()


def test_no_file_means_the_shipped_settings():
    assert read_simulation(None) is shipped()


@pytest.mark.parametrize(
    ("name", "kind"), [("simulation", "embryo"), ("cells", "cells"), ("spindle", "spindle")]
)
def test_a_shipped_file_is_read_by_name_and_draws_its_kind(tmp_path, monkeypatch, name, kind):
    monkeypatch.chdir(tmp_path)
    assert read_simulation(name) is read_simulation(Path(name))
    assert {read_simulation(name).draw((seed,)).growth.kind for seed in range(5)} == {kind}
    (tmp_path / name).mkdir()
    assert read_simulation(name).draw((0,)).growth.kind == kind


def test_a_file_of_a_shipped_ones_name_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells").write_text("growth: {kind: tissue}")
    assert read_simulation("cells").draw((0,)).growth.kind == "tissue"


def test_a_name_that_does_not_ship_is_refused_with_those_that_do():
    with pytest.raises(InputError, match="one of simulation, cells, spindle, cannot read plants"):
        read_simulation("plants")


def test_a_file_replaces_what_it_names_and_keeps_the_shipped_rest(read):
    mine = read("growth:\n  radius_um: 50\noptics:\n  haze: {uniform: [0.1, 0.2]}\n")
    assert mine == shipped().changed(
        {"growth": {"radius_um": 50}, "optics": {"haze": {"uniform": [0.1, 0.2]}}}
    )
    assert mine.draw((0,)).growth.radius_um == 50


def test_true_and_false_are_values_of_a_switch(read):
    assert read("view: {oval: true}").draw((0,)).view.oval is True
    assert read("view: {oval: false}").draw((0,)).view.oval is False


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"growth": {"radios_um": 3}}, "growth.radios_um"),
        ({"cells": {"radius_um": 3}}, "cells"),
        ({"growth": {"radius_um": -3}}, "growth.radius_um can be -3: input should be greater than 1"),
        ({"growth": {"radius_um": {"uniform": [0.5, 40]}}}, "growth.radius_um can be 0.5"),
        ({"growth": {"radius_um": {"normal": [40, 20]}}}, "growth.radius_um can be -20"),
        ({"growth": {"radius_um": {"uniform": [40, 30]}}}, "growth.radius_um: expected the lower end first"),
        ({"growth": {"radius_um": {"uniform": ["a", "b"]}}}, "growth.radius_um.uniform"),
        ({"growth": {"radius_um": {"triangular": [1, 2]}}}, "growth.radius_um.triangular"),
        ({"growth": {"radius_um": [30, 40]}}, "growth.radius_um"),
        ({"growth": {"radius_um": None}}, "growth.radius_um"),
        ({"growth": {"radius_um": {"uniform": [30, 40], "probability": 0.5}}}, "growth.radius_um can be 0"),
        (
            {"growth": {"kind": "plant"}},
            "growth.kind can be plant: input should be 'embryo', 'tissue', 'cells' or 'spindle'",
        ),
        ({"growth": {"kind": {"choices": {"embryo": 1, "plant": 1}}}}, "growth.kind can be plant"),
        ({"growth": {"polar_bodies": 1.5}}, "growth.polar_bodies can be 1.5"),
        ({"camera": {"kind": 0}}, "camera.kind can be 0"),
        ({"camera": {"bits": 10}}, "camera.bits can be 10"),
        ({"camera": {"bits": {"choices": {"ten": 1}}}}, "camera.bits can be ten"),
        ({"optics": {"outline": 1}}, "optics.outline can be 1"),
        ({"view": {"oval": 2}}, "view.oval can be 2"),
    ],
)
def test_a_parameter_that_cannot_be_is_named_in_one_line(read, content, named):
    with pytest.raises(InputError) as refused:
        read(content)
    assert "mine.yaml" in str(refused.value)
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"growth": {"polar_bodies": {"uniform": [0, 3]}}}, "growth.polar_bodies"),
        ({"growth": {"debris": {"log_uniform": [1, 8]}}}, "growth.debris"),
        ({"view": {"most": {"normal": [100, 10]}}}, "view.most"),
        ({"view": {"oval": {"uniform": [0, 1]}}}, "view.oval"),
        ({"camera": {"bits": {"integers": [8, 16]}}}, "camera.bits"),
        ({"camera": {"kind": {"choices": {"emccd": -1, "scmos": 2}}}}, "camera.kind"),
        ({"view": {"depth_um": {"uniform": [30, float("inf")]}}}, "view.depth_um"),
        ({"view": {"shift_z_um": {"uniform": [float("nan"), 1]}}}, "view.shift_z_um"),
    ],
)
def test_what_would_fail_between_possible_ends_is_refused_as_it_is_read(read, content, named):
    with pytest.raises(InputError, match=named):
        read(content)


@pytest.mark.parametrize("content", ["", "growth", "[1, 2]", "growth: 3", "growth: [radius_um]", "growth:"])
def test_what_holds_no_groups_is_refused_with_their_names(read, content):
    with pytest.raises(InputError, match="groups view, growth, optics, camera") as refused:
        read(content)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", ["growth: {radius_um: 3", "a: b: c", "\tgrowth: 3"])
def test_what_is_no_yaml_is_refused(read, content):
    with pytest.raises(InputError, match=r"expected YAML in .*mine\.yaml"):
        read(content)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "image.tif").write_bytes(bytes(np.arange(256, dtype=np.uint8)))
    with pytest.raises(InputError, match="expected YAML"):
        read_simulation(tmp_path / "image.tif")


@pytest.mark.parametrize(("name", "why"), [("absent.yaml", "No such file"), (".", "directory")])
def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path, name, why):
    with pytest.raises(InputError, match=f"cannot read .*{why}"):
        read_simulation(tmp_path / name)
