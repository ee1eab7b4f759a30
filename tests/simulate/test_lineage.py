"""How an embryo grows."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from qcanet_monai.simulate.lineage import Embryo, GrowthSettings, Phase


def embryo(seed=0, **settings):
    return Embryo(GrowthSettings(**settings), np.random.default_rng(seed))


def volume(nucleus):
    return 4 / 3 * np.pi * np.prod(nucleus.semi_axes_um)


@pytest.mark.parametrize("seed", range(4))
def test_nuclei_grow_from_one_to_about_64_and_never_become_fewer(seed):
    rng = np.random.default_rng(seed)
    growing = Embryo(GrowthSettings.draw(rng), rng)
    counts = [len(growing.nuclei_at(time)[0]) for time in np.linspace(0.1, 6.3, 32)]
    assert counts[0] == 1
    assert np.all(np.diff(counts) >= 0)
    assert 45 <= counts[-1] <= 80


def test_a_division_replaces_one_identity_by_two_daughters():
    growing = embryo()
    before = growing.nuclei_at(0.2)[0]
    after = growing.nuclei_at(1.4)[0]
    assert [n.number for n in before] == [1]
    assert [n.number for n in before] == sorted({n.parent for n in after})
    assert len(after) == 2
    assert len({n.number for n in after} - {1}) == 2


def test_the_embryo_does_not_grow_backwards():
    growing = embryo()
    growing.nuclei_at(1.0)
    with pytest.raises(ValueError, match="grows forward"):
        growing.nuclei_at(0.9)


def test_one_nucleus_condenses_before_it_divides_and_is_small_again_after():
    growing = embryo(polar_bodies=0)
    cycle = growing.cells[0].lifetime
    phases = {}
    for age in (0.02, 0.5, 0.92, 0.97):
        (nucleus,), _ = growing.nuclei_at(age * cycle)
        phases[nucleus.phase] = nucleus
        assert nucleus.number == 1
    assert list(phases) == [Phase.TELOPHASE, Phase.INTERPHASE, Phase.PROPHASE, Phase.METAPHASE]
    resting, dividing = phases[Phase.INTERPHASE], phases[Phase.METAPHASE]
    assert volume(dividing) < 0.3 * volume(resting)
    assert dividing.concentration > 2 * resting.concentration
    assert volume(phases[Phase.TELOPHASE]) < 0.3 * volume(resting)
    # a plate: thin across the spindle's axis
    assert dividing.semi_axes_um[0] < 0.75 * dividing.semi_axes_um[1:].min()


def test_a_frame_of_axes_is_orthonormal_in_every_phase():
    growing = embryo()
    for time in np.arange(0.1, 4, 0.13):
        nuclei, bodies = growing.nuclei_at(time)
        for nucleus in [*nuclei, *bodies]:
            assert_allclose(nucleus.rotation.T @ nucleus.rotation, np.eye(3), atol=1e-9)


def test_nuclear_volumes_fall_from_thousands_to_hundreds():
    growing = embryo()
    one = [volume(n) for n in growing.nuclei_at(0.5)[0]]
    many = [volume(n) for n in growing.nuclei_at(6.0)[0]]
    assert 5000 < np.median(one) < 10_000
    assert 200 < np.median(many) < 1000


def test_nuclei_stay_inside_the_zona():
    growing = embryo()
    for time in (0.5, 2.5, 4.5, 6.0):
        for nucleus in growing.nuclei_at(time)[0]:
            assert np.linalg.norm(nucleus.centre_um) < growing.settings.radius_um


def test_polar_bodies_stay_as_many_as_asked_and_where_they_are():
    growing = embryo(polar_bodies=3)
    early, late = growing.nuclei_at(0.1)[1], growing.nuclei_at(3.0)[1]
    assert len(early) == 3
    assert_allclose([b.centre_um for b in early], [b.centre_um for b in late])
    assert embryo(polar_bodies=0).nuclei_at(0.1)[1] == []
