"""Growth of an embryo."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from qcanet_monai.simulator.lineage import Embryo
from qcanet_monai.simulator.nuclei import Phase
from qcanet_monai.simulator.parameters import Growth
from qcanet_monai.simulator.settings import shipped

WHOLE_SERIES = np.linspace(0.1, 6.3, 32)


def embryo(seed=0, **growth):
    return Embryo(Growth(**growth), (seed,))


def places(nuclei):
    return np.array([n.centre_um for n in nuclei])


def volume(nucleus):
    return 4 / 3 * np.pi * np.prod(nucleus.semi_axes_um)


def until_two(growing, step=0.01):
    for time in np.arange(step, 2, step):
        nuclei = growing.at(time).nuclei
        if len(nuclei) == 2:
            return nuclei
    raise AssertionError("expected a division")


def same(one, two):
    return len(one) == len(two) and all(
        all(np.array_equal(a, b) for a, b in zip(m, n, strict=True)) for m, n in zip(one, two, strict=True)
    )


@pytest.mark.parametrize("seed", range(6))
def test_nuclei_grow_from_one_to_about_64_and_never_become_fewer(seed):
    growth = shipped().draw((seed,)).growth.model_copy(update={"apoptosis": 0.0})
    growing = Embryo(growth, (seed,))
    counts = [len(growing.at(time).nuclei) for time in WHOLE_SERIES]
    assert counts[0] == 1
    assert np.all(np.diff(counts) >= 0)
    assert 40 <= counts[-1] <= 85


def test_without_asynchrony_all_cells_divide_at_once():
    growing = embryo(asynchrony=0.0)
    assert [len(growing.at(n + 0.5).nuclei) for n in range(7)] == [1, 2, 4, 8, 16, 32, 64]


def test_more_asynchrony_spreads_the_divisions():
    def between(asynchrony):
        growing = embryo(asynchrony=asynchrony)
        counts = [len(growing.at(time).nuclei) for time in np.arange(0.1, 5, 0.05)]
        return sum(count not in (1, 2, 4, 8, 16, 32) for count in counts)

    assert between(0.02) < between(0.1) < between(0.25)


def test_a_seed_fixes_the_embryo_and_another_gives_another():
    one, two, other = (embryo(seed, apoptosis=0.2).at(5.5) for seed in (3, 3, 4))
    assert same(one.nuclei, two.nuclei)
    assert same(one.others, two.others)
    assert not same(one.nuclei, other.nuclei)


def test_the_embryo_does_not_grow_backwards():
    growing = embryo()
    growing.at(1.0)
    with pytest.raises(ValueError, match=r"not before 1\.0, got 0\.9: an embryo grows forward"):
        growing.at(0.9)


def test_a_division_replaces_one_identity_by_two_daughters():
    growing = embryo()
    (mother,) = growing.at(0.2).nuclei
    daughters = growing.at(1.4).nuclei
    assert (mother.number, mother.parent) == (1, 0)
    assert [n.number for n in daughters] == [2, 3]
    assert [n.parent for n in daughters] == [1, 1]


def test_identities_are_unique_for_ever_and_each_parent_is_gone_when_its_daughters_are_there():
    growing, known = embryo(), {}
    for time in WHOLE_SERIES:
        nuclei = growing.at(time).nuclei
        present = {n.number for n in nuclei}
        assert len(present) == len(nuclei)
        for n in nuclei:
            assert known.setdefault(n.number, n.parent) == n.parent < n.number
            assert n.parent not in present
    families = [n for n in known if n in known.values()]
    assert all(list(known.values()).count(parent) <= 2 for parent in families)


def test_one_nucleus_condenses_before_it_divides_and_is_small_again_after():
    growing = embryo(polar_bodies=0)
    cycle = growing.cells[0].lifetime
    phases = {}
    for age in (0.01, 0.04, 0.5, 0.92, 0.97):
        (one,) = growing.at(age * cycle).nuclei
        phases[one.phase] = one
        assert one.number == 1
    order = [Phase.ANAPHASE, Phase.TELOPHASE, Phase.INTERPHASE, Phase.PROPHASE, Phase.METAPHASE]
    assert list(phases) == order
    resting, dividing = phases[Phase.INTERPHASE], phases[Phase.METAPHASE]
    assert volume(dividing) < 0.3 * volume(resting)
    assert dividing.concentration > 2 * resting.concentration
    assert volume(phases[Phase.ANAPHASE]) < volume(phases[Phase.TELOPHASE]) < 0.35 * volume(resting)
    # a plate: thin across the spindle's axis
    assert dividing.semi_axes_um[0] < 0.75 * dividing.semi_axes_um[1:].min()


@pytest.mark.parametrize("seed", range(12))
def test_right_after_a_division_two_parallel_plates_face_each_other(seed):
    growing = embryo(seed)
    one, two = until_two(growing)
    assert one.phase is two.phase is Phase.ANAPHASE
    between = one.centre_um - two.centre_um
    apart = np.linalg.norm(between)
    assert apart > one.semi_axes_um[0] + two.semi_axes_um[0]
    assert np.linalg.norm(one.centre_um + two.centre_um) / 2 < 0.3 * growing.growth.radius_um
    for plate in (one, two):
        assert abs(plate.rotation[:, 0] @ between) > 0.95 * apart
        assert plate.semi_axes_um[0] < 0.5 * plate.semi_axes_um[1:].min()


def test_a_frame_of_axes_is_orthonormal_in_every_phase():
    growing = embryo(cavity=0.6, debris=2, apoptosis=0.2)
    for time in np.arange(0.1, 6.4, 0.13):
        population = growing.at(time)
        for one in [*population.nuclei, *population.others]:
            assert_allclose(one.rotation.T @ one.rotation, np.eye(3), atol=1e-9)


def test_nuclear_volumes_fall_from_thousands_to_hundreds():
    growing = embryo()
    one = [volume(n) for n in growing.at(0.5).nuclei]
    many = [volume(n) for n in growing.at(6.0).nuclei]
    assert 5000 < np.median(one) < 10_000
    assert 200 < np.median(many) < 1000


@pytest.mark.parametrize("exponent", [0.4, 0.65, 1.0])
def test_nuclear_volume_goes_with_the_cells_volume_to_the_exponent(exponent):
    growing = embryo(volume_exponent=exponent, size_spread=0.0, asynchrony=0.0)
    medians = [np.median([volume(n) for n in growing.at(n + 0.5).nuclei]) for n in range(7)]
    assert_allclose(np.log2(medians[0] / medians), exponent * np.arange(7), atol=0.15)


@pytest.mark.parametrize(("spread", "of"), [("size_spread", volume), ("brightness_spread", None)])
def test_a_spread_varies_the_nuclei_that_much_and_no_spread_not_at_all(spread, of):
    def deviation(value):
        settings = {"size_spread": 0.0, "brightness_spread": 0.0, "condensation": 0.0, spread: value}
        growing = embryo(asynchrony=0.0, volume_exponent=0.0, **settings)
        return np.std([np.log(of(n) if of else n.concentration) for n in growing.at(6.5).nuclei])

    assert deviation(0.0) < 0.01
    # half of a daughter's logarithm is the mother's, so the variance falls to a third
    assert deviation(0.4) == pytest.approx(0.4 / np.sqrt(3), rel=0.35)


@pytest.mark.parametrize("cavity", [0.0, 0.7])
def test_nuclei_stay_inside_the_zona(cavity):
    growing = embryo(cavity=cavity)
    for time in (0.5, 2.5, 4.5, 6.0, 6.6):
        assert np.linalg.norm(places(growing.at(time).nuclei), axis=1).max() < growing.growth.radius_um


def test_a_flat_embryo_is_that_much_shorter_along_one_axis():
    def extents(flatness):
        found = [places(embryo(seed, flatness=flatness).at(5.5).nuclei) for seed in range(5)]
        return np.mean([np.sqrt(np.linalg.eigvalsh(np.cov(centres.T))) for centres in found], axis=0)

    shortest, middle, longest = extents(1.0)
    assert shortest / longest > 0.85
    shortest, middle, longest = extents(0.5)
    assert shortest / middle == pytest.approx(0.6, abs=0.08)
    assert middle / longest > 0.85


def test_compaction_draws_the_cells_together():
    def nearest(compaction):
        found = places(embryo(3, compaction=compaction).at(4.5).nuclei)
        distances = np.linalg.norm(found[:, None] - found[None], axis=-1)
        return np.median(np.sort(distances, axis=1)[:, 1])

    assert nearest(0.6) < 0.8 * nearest(0.9)


def test_polar_bodies_stay_as_many_as_asked_and_where_they_are():
    growing = embryo(polar_bodies=3)
    early, late = growing.at(0.1).others, growing.at(3.0).others
    assert len(early) == 3
    assert same(early, late)
    for body in early:
        assert body.number == 0
        assert body.phase is Phase.FRAGMENT
        assert 0.8 < np.linalg.norm(body.centre_um) / growing.growth.radius_um < 1.1
    assert embryo(polar_bodies=0).at(0.1).others == []


def test_polar_bodies_lose_light_exponentially_and_shrink_to_no_less_than_half_their_area():
    growing, still = embryo(polar_bodies=2, polar_decay=0.4), embryo(polar_bodies=2)
    for time in (0.5, 1.0, 4.0):
        left = np.exp(-0.4 * time)
        for body, before in zip(growing.at(time).others, still.at(time).others, strict=True):
            assert body.concentration == pytest.approx(left * before.concentration)
            assert_allclose(body.semi_axes_um, np.sqrt(max(left, 0.5)) * before.semi_axes_um)
            assert_array_equal(body.centre_um, before.centre_um)


def test_debris_are_specks_of_half_to_two_micrometres_that_stay():
    growing = embryo(polar_bodies=0, debris=40, polar_decay=1.0)
    early, late = growing.at(0.1).others, growing.at(3.0).others
    assert len(early) == 40
    assert same(early, late)
    diameters = np.array([2 * np.prod(speck.semi_axes_um) ** (1 / 3) for speck in early])
    assert 0.4 < diameters.min() < 0.8
    assert 1.5 < diameters.max() < 2.5
    assert {speck.number for speck in early} == {0}


def test_glare_is_large_and_far_brighter_than_nuclei_and_stays_where_it_is():
    growing = embryo(polar_bodies=0, glare=20, polar_decay=1.0)
    early, late = growing.at(0.1).others, growing.at(3.0).others
    assert len(early) == 20
    assert same(early, late)
    assert same(early[:3], embryo(polar_bodies=0, glare=3).at(0.1).others)
    assert {body.number for body in early} == {0}
    diameters = np.array([2 * np.prod(body.semi_axes_um) ** (1 / 3) for body in early])
    assert 2 < diameters.min() < 5
    assert 7 < diameters.max() < 13
    brightness = [body.concentration for body in early]
    assert 2 <= min(brightness) < 3
    assert 7 < max(brightness) <= 10
    assert 0.9 < np.abs(places(early)).max() / growing.growth.radius_um <= 1.2


def test_neither_polar_bodies_nor_debris_nor_glare_change_the_nuclei():
    bare, littered = (embryo(polar_bodies=n, debris=n, glare=n, polar_decay=n / 5).at(4.5) for n in (0, 5))
    assert same(bare.nuclei, littered.nuclei)


def test_cells_die_into_fragments_from_the_16_cell_stage_on_and_never_come_back():
    growing, whole = embryo(polar_bodies=0, apoptosis=0.5), embryo(polar_bodies=0)
    for time in np.arange(0.25, 4.25, 0.25):
        population = growing.at(time)
        assert population.others == []
        assert same(population.nuclei, whole.at(time).nuclei)
    counts = [growing.at(time) for time in (4.75, 5.25, 5.75, 6.25)]
    assert np.all(np.diff([len(p.others) for p in counts]) >= 0)
    assert len(counts[-1].others) > 2 * 8
    for before, after in pairwise(counts):
        pieces = {piece.texture_seed for piece in after.others}
        assert {piece.texture_seed for piece in before.others} <= pieces
        assert not pieces & {n.texture_seed for n in after.nuclei}
    assert len(counts[-1].nuclei) < 0.6 * len(whole.at(6.25).nuclei)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_the_share_of_dead_cells_is_as_asked(share):
    dead = born = 0
    for seed in range(12):
        growing = embryo(seed, polar_bodies=0, apoptosis=share, asynchrony=0.0)
        growing.at(4.5)
        population = growing.at(5.5)
        dead += len({piece.texture_seed for piece in population.others})
        born += 16
    assert dead / born == pytest.approx(share, abs=0.07)


def widest_gap(nuclei, radius_um):
    """Radius of the largest ball in the embryo without a nuclear centre."""
    line = np.linspace(-radius_um, radius_um, 24)
    grid = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 1, 3)
    nearest = np.linalg.norm(grid - places(nuclei), axis=-1).min(1)
    return np.minimum(nearest, radius_um - np.linalg.norm(grid[:, 0], axis=1)).max()


def test_the_cavity_pushes_the_nuclei_out():
    solid, hollow = embryo(3), embryo(3, cavity=0.75)
    for time in (1.0, 3.0, 4.75):
        assert same(solid.at(time).nuclei, hollow.at(time).nuclei)
    assert widest_gap(solid.at(6.4).nuclei, 43.0) < 0.45 * 43
    assert widest_gap(hollow.at(6.4).nuclei, 43.0) > 0.95 * 0.75 * 43
    distances = [np.linalg.norm(places(e.at(6.4).nuclei), axis=1).mean() for e in (solid, hollow)]
    assert distances[1] > 1.15 * distances[0]


def test_the_cavity_flattens_the_nuclei_beside_it_against_the_zona_and_leaves_the_others_round():
    growing = embryo(3, cavity=0.75, elongation=0.0)

    def thinness(time):
        resting = [n for n in growing.at(time).nuclei if n.phase is Phase.INTERPHASE]
        return resting, np.array([n.semi_axes_um[0] / n.semi_axes_um[2] for n in resting])

    assert_allclose(thinness(4.7)[1], 1)
    nuclei, thin = thinness(6.4)
    flat = thin < 0.99
    assert 0.3 < flat.mean() < 0.95
    assert_allclose(thin[flat], 0.55**1.5)
    assert_allclose(thin[~flat], 1)
    for one, is_flat in zip(nuclei, flat, strict=True):
        if is_flat:
            outward = one.centre_um / np.linalg.norm(one.centre_um)
            assert abs(outward @ one.rotation[:, 0]) > 0.95
