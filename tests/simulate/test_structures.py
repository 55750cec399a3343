"""Simulated structures: deterministic, dense, where they should be."""

import numpy as np
import pytest

from nstm.simulate.structures import SPACING_UM, Area, Points, er_network, filaments, ribbon, through_depth

AREA = Area(-1.0, -1.0, 5.0, 7.0)


@pytest.mark.parametrize("make", [er_network, filaments])
def test_same_seed_same_structure_inside_the_area(make):
    first, again, other = make(3, AREA), make(3, AREA), make(4, AREA)
    np.testing.assert_array_equal(first.position, again.position)
    np.testing.assert_array_equal(first.weight, again.weight)
    assert other.position.shape != first.position.shape
    assert np.all(first.weight > 0)
    assert np.all((first.position >= [-1, -1]) & (first.position <= [5, 7]))


def test_structures_reach_into_every_part_of_the_area():
    position = er_network(1, AREA).position
    quarter = (position[:, 0] > 2).astype(int) * 2 + (position[:, 1] > 3)
    assert np.all(np.bincount(quarter, minlength=4) > 0.1 * len(position))


def test_a_ribbon_has_its_light_and_width():
    n = 501
    path = np.stack([np.zeros(n), np.arange(n) * SPACING_UM], axis=1)
    points = ribbon(path, np.full(n, 2.0), sigma_um=0.03)
    assert points.weight.sum() == pytest.approx(2.0 * n * SPACING_UM)
    width = np.sqrt(np.average(points.position[:, 0] ** 2, weights=points.weight))
    assert width == pytest.approx(0.03, rel=0.15)


def test_points_must_fit_their_weights():
    with pytest.raises(ValueError, match="weights"):
        Points(np.zeros((3, 2)), np.ones(4))
    with pytest.raises(ValueError, match="weights"):
        Points(np.zeros((3, 4)), np.ones(3))


def test_merged_emitters_keep_light_and_centre_of_mass():
    points = er_network(1, AREA)
    fewer = points.merged(0.03)
    assert len(fewer.weight) < 0.5 * len(points.weight)
    assert fewer.weight.sum() == pytest.approx(points.weight.sum())
    np.testing.assert_allclose(fewer.weight @ fewer.position, points.weight @ points.position)


def test_a_structure_through_depth_keeps_its_places_and_fills_the_depth():
    points = er_network(1, AREA)
    deep = through_depth(points, 4, -0.2, 0.9)
    np.testing.assert_array_equal(deep.position[:, 1:], points.position)
    z = deep.position[:, 0]
    assert -0.2 <= z.min() < 0
    assert 0.7 < z.max() <= 0.9
    slope = np.abs(np.diff(z)) / np.maximum(np.hypot(*np.diff(points.position, axis=0).T), 1e-9)
    assert np.median(slope) < 1
