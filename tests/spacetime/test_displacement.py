"""Material displacement: the sign that users see, its inverse, and where it is not determined."""

import numpy as np
import pytest

from nstm.spacetime.displacement import determined, material_displacement, trajectories


def backward_of_shift(shift_yx, shape=(64, 80)):
    """Backward warp of a sample that has moved by ``shift`` since the canonical time."""
    return -np.broadcast_to(np.asarray(shift_yx, np.float32)[:, None, None], (2, *shape))


def test_a_sample_that_moved_plus_eight_in_x_has_plus_x_displacement():
    moved = material_displacement(backward_of_shift((0, 8)), backward_of_shift((0, 0)), 4)
    inner = moved[:, 8:-8, 16:-16]
    np.testing.assert_allclose(inner[1], 8, atol=0.01)
    np.testing.assert_allclose(inner[0], 0, atol=0.01)


def test_displacement_is_relative_to_the_earlier_time_whatever_the_canonical_frame():
    moved = material_displacement(backward_of_shift((3, 1)), backward_of_shift((1, -2)), 4)
    np.testing.assert_allclose(moved[:, 10:-10, 10:-10], np.broadcast_to([[[2.0]], [[3.0]]], (2, 44, 60)), atol=0.01)


def test_a_rotation_is_inverted():
    angle, shape = np.deg2rad(6), (96, 96)
    centre = 47.5
    y, x = np.indices(shape) - centre
    cos, sin = np.cos(angle), np.sin(angle)
    # the structure now at r was at R(-angle) r
    before_y, before_x = cos * y - sin * x, sin * y + cos * x
    backward = np.stack([before_y - y, before_x - x]).astype(np.float32)
    moved = material_displacement(backward, np.zeros_like(backward), 4)
    np.testing.assert_allclose(moved, -backward, atol=0.02)
    back = material_displacement(np.zeros_like(backward), backward, 4)[:, 20:-20, 20:-20]
    after_y, after_x = cos * y + sin * x, -sin * y + cos * x
    expected = np.stack([y - after_y, x - after_x])[:, 20:-20, 20:-20]
    np.testing.assert_allclose(back, expected, atol=0.05)


def test_a_slip_between_two_pixels_stays_one_where_every_pixel_is_looked_at():
    backward = np.zeros((2, 32, 32), np.float32)
    backward[1, 16:] = -4.0
    fine, coarse = (material_displacement(backward, np.zeros_like(backward), lattice)[1] for lattice in (1, 4))
    expected = np.where(np.arange(32) >= 16, 4.0, 0.0)[:, None] + np.zeros(20)
    np.testing.assert_allclose(fine[:, 6:-6], expected, atol=0.01)
    assert np.ptp(coarse[12:17, 16]) > 1, "between the places of a coarser lattice it is smeared"


def test_trajectories_follow_the_structure():
    fields = np.stack([backward_of_shift((0.5 * t, t)) for t in range(5)])
    paths = trajectories(np.array([[30.0, 20.0], [10.0, 40.0]]), fields)
    np.testing.assert_allclose(paths[:, 0], [[30 + 0.5 * t, 20 + t] for t in range(5)], atol=0.01)


@pytest.mark.parametrize(("contrast", "known"), [(100.0, True), (0.0, False)])
def test_displacement_is_determined_only_where_there_is_texture(contrast, known):
    y, x = np.indices((60, 60))
    frames = np.stack([contrast * np.sin(x / 3) * np.sin(y / 3)] * 6)
    mask = determined(*np.gradient(frames, axis=(1, 2)), np.full(6, 25.0), window_px=6, limit_px=0.25)
    assert mask[30, 30] == known


def test_a_single_straight_edge_does_not_determine_both_directions():
    frames = np.broadcast_to(100 * np.sin(np.arange(60) / 3), (6, 60, 60))
    slopes = np.gradient(frames, axis=(1, 2))
    assert not determined(*slopes, np.full(6, 25.0), window_px=6, limit_px=0.25)[30, 30]
