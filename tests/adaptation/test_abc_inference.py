"""ABC inference: nearest synthetic matches, and distributions within the prior."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from qcanet_monai.adaptation import abc_inference as posterior
from qcanet_monai.adaptation.abc_inference import (
    ROUNDS,
    Posterior,
    _narrowed,
    abc_inference,
    narrowed,
    rounds_of,
)
from qcanet_monai.adaptation.image_part import prior_for
from qcanet_monai.adaptation.synthetic_matches import (
    SyntheticMatch,
    draw_match,
    draw_matches,
    median_diameter,
)
from qcanet_monai.core.appearance import appearance
from qcanet_monai.errors import InputError
from qcanet_monai.simulator.distributions import Distribution
from qcanet_monai.simulator.series import simulate_frame
from qcanet_monai.simulator.settings import GROUPS, Simulation

SHAPE, SPACING = (20, 44, 44), (2.0, 1.0, 1.0)
SMALL = (8, 32, 32)
FIRST = 128  # synthetic matches of the first round, shared by all images of SHAPE
CRISP = {
    "view": {
        "lateral_um": 1.0,
        "shift_z_um": 0,
        "shift_y_um": 0,
        "shift_x_um": 0,
        "oval": 0,
        "first": 1.5,
    },
    "optics": {"axial_um": 1.6, "lateral_um": 0.6, "haze": 0.1, "attenuation": 0, "gradient": 0},
    "camera": {"kind": "scmos", "photons": 60, "dark": 0.3, "bits": 16},
}
CLEAN = {"polar_bodies": 0, "debris": 0, "apoptosis": 0, "empty": 0}


def prior() -> Simulation:
    return prior_for(2.0)


@pytest.fixture(scope="module")
def in_process():
    """Draw matches in this process and cache them."""
    drawn: dict[tuple, SyntheticMatch] = {}

    def draw(simulation, seeds, shape, *, workers=None, progress=lambda: None):
        assert workers is None or workers > 0
        for seed in seeds:
            key = (simulation.model_dump_json(), seed, shape)
            if key not in drawn:
                drawn[key] = draw_match(simulation, seed, shape=shape)
            progress()
        return [drawn[simulation.model_dump_json(), seed, shape] for seed in seeds]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(posterior, "draw_matches", draw)
        yield draw


def settings_only(simulation, count) -> list[SyntheticMatch]:
    """Draw matches with settings only, without simulated images."""
    twins = []
    for i in range(count):
        recording = simulation.draw((i,))
        settings = {
            f"{group}.{name}": getattr(getattr(recording, group), name)
            for group in GROUPS
            for name in getattr(simulation, group)
        }
        twins.append(SyntheticMatch((i,), simulation, settings, {}, 1, 10.0))
    return twins


# distributions


def narrow(kind, values) -> Distribution:
    return Distribution.model_validate(_narrowed(Distribution.model_validate(kind), list(values)))


@pytest.mark.parametrize("kind", ["uniform", "log_uniform", "normal", "integers"])
@pytest.mark.parametrize(("low", "high"), [(2.0, 3.0), (1.0, 2.0), (9.0, 13.0), (13.0, 13.0), (1.0, 13.0)])
@pytest.mark.parametrize("probability", [1.0, 0.5])
def test_numbers_are_narrowed_to_where_the_twins_are_and_stay_inside_the_prior(kind, low, high, probability):
    before = Distribution.model_validate(
        {kind: (7.0, 2.0) if kind == "normal" else (1, 13), "probability": probability}
    )
    values = np.linspace(low, high, 31)
    values = np.rint(values).astype(int) if kind == "integers" else values
    if probability < 1:
        values = np.concatenate([values, np.zeros(31, values.dtype)])
    after = Distribution.model_validate(_narrowed(before, values.tolist()))
    assert getattr(after, "uniform" if kind == "normal" else kind) is not None
    assert after.probability == probability
    first, last = after.ends()[:2]
    assert before.ends()[0] <= first <= last <= before.ends()[1]
    inside = (values[:31] >= first) & (values[:31] <= last)
    assert inside.mean() >= 0.9
    reach = (last - first) - (high - low)
    assert reach <= max(0.3 * (high - low), 1e-9) * (2 if kind == "log_uniform" else 1)
    drawn = [after.draw(np.random.default_rng(i)) for i in range(20)]
    assert all(value == 0 or first <= value <= last for value in drawn)


def test_a_uniform_one_reaches_a_little_beyond_its_twins():
    low, high = narrow({"uniform": (0, 100)}, np.linspace(40, 60, 21)).uniform
    # 5th and 95th percentile, widened by 15 % of the distance between them
    assert (low, high) == pytest.approx((41 - 0.15 * 18, 59 + 0.15 * 18))


def test_a_log_uniform_one_reaches_by_ratios():
    low, high = narrow({"log_uniform": (0.01, 100)}, np.geomspace(1, 16, 21)).log_uniform
    first, last = np.quantile(np.geomspace(1, 16, 21), (0.05, 0.95))
    assert low * high == pytest.approx(first * last)
    assert high / low == pytest.approx((last / first) ** 1.3)


def test_words_keep_their_share_and_rare_ones_are_dropped():
    kinds = {"choices": {"a": 0.2, "b": 0.2, "c": 0.5, "d": 0.1}}
    found = narrow(kinds, ["a"] * 12 + ["b"] * 27 + ["c"])
    assert found.choices == pytest.approx({"a": 0.3, "b": 0.675})
    assert narrow(kinds, ["d"] * 3).choices == {"d": 1.0}


def test_numbers_among_words_keep_their_share():
    assert narrow({"choices": {"16": 0.6, "12": 0.1, "8": 0.3}}, [8, 16, 8, 8]).choices == {
        "16": 0.25,
        "8": 0.75,
    }


def test_how_often_something_is_there_is_the_share_of_twins_that_have_it():
    often = {"uniform": (1, 5), "probability": 0.3}
    some = narrow(often, [0] * 15 + [2.0] * 5)
    assert (some.probability, some.uniform) == (0.25, (2, 2))
    assert narrow(often, [0] * 40 + [2.0]).ends() == [0]
    assert narrow(often, [0] + [2.0] * 39).ends() == [2, 2]
    assert narrow({"integers": (1, 9), "probability": 0.3}, [0, 2, 3, 3]).probability == 0.75


def test_a_switch_stays_a_switch():
    switch = {"always": 1, "probability": 0.15}
    assert narrow(switch, [True, False, False, True, False]) == Distribution(always=1, probability=0.4)
    assert narrow(switch, [True] * 5) == Distribution(always=1)
    assert narrow(switch, [False] * 5) == Distribution(always=0)


@pytest.mark.parametrize("count", [1, 5, 40])
def test_no_parameter_of_the_prior_is_widened_or_lost(count):
    before = prior()
    after = narrowed(before, settings_only(before, count))
    for group in GROUPS:
        assert getattr(after, group).keys() == getattr(before, group).keys()
        for name, old in getattr(before, group).items():
            new = getattr(after, group)[name]
            if len(old.ends()) == 1:
                assert new == old, name
            elif old.choices is not None:
                assert set(new.choices) <= set(old.choices), name
            else:
                assert min(old.ends()) <= min(new.ends()) <= max(new.ends()) <= max(old.ends()), name
    after.draw((0,))


def test_twins_alike_in_one_setting_narrow_that_one_alone():
    before = prior()
    twins = settings_only(before, 200)
    chosen = [twin for twin in twins if 50 < twin.settings["camera.photons"] < 70]
    assert len(chosen) > 10
    low, high = narrowed(before, chosen).camera["photons"].log_uniform
    assert 45 < low < high < 78
    lowest, highest = narrowed(before, twins).camera["photons"].log_uniform
    assert highest / lowest > 15


# synthetic matches


@pytest.mark.parametrize("anisotropy", [1.0, 2.5])
def test_the_median_diameter_is_that_of_a_ball_of_the_median_volume(anisotropy):
    labels = np.zeros((6, 20, 20), np.uint16)
    labels[:2, :5, :5], labels[3:5, :5, :10], labels[:5, 10:, 10:] = 1, 2, 7
    assert median_diameter(labels, anisotropy=anisotropy) == pytest.approx(
        2 * (3 * 100 * anisotropy / (4 * np.pi)) ** (1 / 3)
    )


def test_without_nuclei_there_is_no_median_diameter():
    assert np.isnan(median_diameter(np.zeros((2, 3, 4), np.uint16), anisotropy=2.0))


def test_a_twin_says_what_it_is_made_of_and_can_be_drawn_again():
    simulation = prior().changed({"view": {"first": 3.0}})
    twin = draw_match(simulation, (4, 2), shape=SMALL)
    recording = simulation.draw((4, 2))
    assert twin.settings["camera.photons"] == recording.camera.photons
    assert twin.settings["growth.kind"] == recording.growth.kind
    assert twin.settings.keys() == {f"{g}.{name}" for g in GROUPS for name in getattr(simulation, g)}
    frame = twin.frame(SMALL)
    assert frame.image.shape == SMALL
    assert twin.looks == appearance(frame.image, spacing=frame.spacing)
    assert twin.nuclei == frame.instances.max()
    assert twin.diameter == pytest.approx(median_diameter(frame.instances, anisotropy=2.0), nan_ok=True)


def test_processes_draw_what_one_does_in_the_order_of_the_seeds():
    seeds = [(0, 3), (0, 1), (0, 2)]
    moved = []
    twins = draw_matches(prior(), seeds, SMALL, workers=2, progress=lambda: moved.append(1))
    assert [twin.seed for twin in twins] == seeds
    assert len(moved) == 3
    alone = draw_match(prior(), seeds[1], shape=SMALL)
    assert twins[1].settings == alone.settings
    assert list(twins[1].looks.values()) == pytest.approx(list(alone.looks.values()), nan_ok=True)


def test_an_interrupt_ends_the_drawing():
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_matches(prior(), [(0, i) for i in range(20)], SMALL, workers=1, progress=interrupt)


@pytest.mark.parametrize("twins", [30, 100, sum(ROUNDS)])
def test_twins_are_shared_out_to_rounds_of_the_usual_proportions(twins):
    rounds = rounds_of(twins)
    assert len(rounds) == len(ROUNDS)
    assert abs(sum(rounds) - twins) <= 1
    assert np.array(rounds) / twins == pytest.approx(np.array(ROUNDS) / sum(ROUNDS), abs=0.02)


def test_too_few_twins_are_refused():
    with pytest.raises(InputError, match="at least 30 synthetic matches, got 29: 640 is the default"):
        rounds_of(29)


# posterior


def look(image, rounds, seed=0, **options) -> Posterior:
    return abc_inference(image, prior(), spacing=SPACING, seed=seed, rounds=rounds, **options)


@pytest.fixture(scope="module")
def small_image():
    return simulate_frame((5,), settings=prior(), shape=SMALL).image


@pytest.mark.usefixtures("in_process")
def test_a_seed_fixes_the_twins(small_image):
    one, two, other = (look(small_image, (12, 10), seed) for seed in (1, 1, 2))
    assert [twin.seed for twin in one.matches] == [twin.seed for twin in two.matches]
    assert one.simulation == two.simulation
    assert one.ood_score == two.ood_score
    assert not {twin.seed for twin in one.matches} & {twin.seed for twin in other.matches}


@pytest.mark.usefixtures("in_process")
def test_every_round_draws_from_what_the_last_one_found(small_image):
    moved = []
    found = look(small_image, (12, 10), 1, progress=lambda: moved.append(1))
    assert len(moved) == 22
    first = look(small_image, (12,), 1)
    assert all(twin.simulation == prior() for twin in first.matches)
    assert {twin.simulation.model_dump_json() for twin in found.matches} <= {
        prior().model_dump_json(),
        first.simulation.model_dump_json(),
    }
    assert any(twin.simulation == first.simulation for twin in found.matches)
    assert found.simulation == narrowed(prior(), found.matches)  # a round may widen again


@pytest.mark.usefixtures("in_process")
def test_an_image_of_other_counts_has_the_same_twins(small_image, monkeypatch):
    def brighter(image, *, spacing):
        looks = appearance(image, spacing=spacing)
        return {name: value + 50 * name.startswith("level_") for name, value in looks.items()}

    one = look(small_image, (24,), 1)
    monkeypatch.setattr(posterior, "appearance", brighter)
    two = look(small_image, (24,), 1)
    assert [twin.seed for twin in one.matches] == [twin.seed for twin in two.matches]
    assert one.simulation == two.simulation
    assert one.ood_score == two.ood_score


@pytest.mark.usefixtures("in_process")
def test_a_thin_image_is_read_without_a_warning(small_image):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        look(small_image, (12,), 1)


def crisp(**growth):
    """Return a well-lit image, its number of nuclei and their diameter in voxels."""
    settings = prior().changed({**CRISP, "growth": {**CLEAN, **growth}})
    frame = simulate_frame((5,), settings=settings, shape=SHAPE)
    return frame.image, len(frame.numbers), median_diameter(frame.instances, anisotropy=2.0)


@pytest.fixture(scope="module")
def first(in_process):
    """Draw the synthetic matches of the first round from the prior."""
    return in_process(prior(), [(0, 7, 0, i) for i in range(FIRST)], SHAPE)


@pytest.fixture(scope="module")
def read(first):
    """Infer the settings of crisp images of many small and of two large nuclei."""
    assert len(first) == FIRST
    made = {
        "small": crisp(kind="tissue", diameter_um=8.5, crowding=1.5),
        "large": crisp(kind="embryo", radius_um=20, zygote_volume_um3=11_000),
    }
    return {name: (*truth, look(truth[0], (FIRST, 48))) for name, truth in made.items()}


def miss(twins, diameter, nuclei):
    """Mean absolute log ratio of the matches' diameter and number to the truth."""
    far = [abs(np.log(twin.diameter / diameter)) for twin in twins if twin.nuclei]
    return np.mean(far), np.mean([abs(np.log1p(twin.nuclei) - np.log1p(nuclei)) for twin in twins])


@pytest.mark.parametrize("name", ["small", "large"])
def test_the_nearest_twins_nuclei_are_as_large_and_as_many_as_the_images(first, read, name):
    _, nuclei, diameter, found = read[name]
    usual, nearest = (miss(twins, diameter, nuclei) for twins in (first, found.matches))
    assert nearest[0] < 0.65 * usual[0]
    assert nearest[1] < 0.75 * usual[1]
    told, middle = (np.nanmedian([twin.diameter for twin in twins]) for twins in (found.matches, first))
    assert abs(np.log(told / diameter)) < 0.75 * abs(np.log(middle / diameter))


def test_small_nuclei_are_told_from_large_ones(read):
    small, large = ([twin.diameter for twin in read[name][3].matches] for name in ("small", "large"))
    assert np.nanquantile(small, 0.75) < np.nanquantile(large, 0.25)


def test_a_simulated_image_is_not_strange(read):
    for *_, found in read.values():
        assert 0.6 < found.ood_score < 1.5


def places():
    return np.indices(SHAPE).astype(float)


def checkerboard():
    z, y, x = places()
    return (z // 3 + y // 6 + x // 6) % 2


def membranes():
    z, y, x = places()
    seeds = np.random.default_rng(1).random((40, 3)) * (40, 44, 44)
    points = np.stack([2 * z, y, x], -1)[..., None, :] - seeds
    nearest = np.sort(np.sqrt((points**2).sum(-1)), axis=-1)
    return np.exp(-((nearest[..., 1] - nearest[..., 0]) ** 2) / 8)


def holes():
    z, y, x = places()
    return 1 - np.exp(-((2 * (z - 10)) ** 2 + (y - 20) ** 2 + (x - 20) ** 2) / 50)


def ramp():
    return places()[2] / SHAPE[2]


@pytest.mark.parametrize(
    ("make", "least"), [(checkerboard, 1.6), (holes, 1.6), (membranes, 1.3), (ramp, 1.2)]
)
def test_images_of_no_nuclei_are_stranger_than_any_simulated_one(read, make, least):
    usual = max(look(image, (FIRST,)).ood_score for image, *_ in read.values())
    strange = np.random.default_rng(0).poisson(10 + 60 * make()).astype(np.uint16)
    assert look(strange, (FIRST,)).ood_score > least * usual


def test_no_twin_is_found_twice_and_a_seed_finds_the_same(read):
    for *_, found in read.values():
        keys = [(twin.simulation.model_dump_json(), twin.seed) for twin in found.matches]
        assert len(keys) == len(set(keys)) >= 10
    image, _, _, found = read["small"]
    one = look(image, (FIRST, 48))
    assert_array_equal([twin.seed for twin in one.matches], [twin.seed for twin in found.matches])
