"""Simulated motions: signs, sizes and inversion."""

import numpy as np
import pytest

from nstm.simulate.motion import deformation, drift, largest_travel, rotation, still, swirl, vibration

POINTS = np.random.default_rng(0).random((200, 2)) * 8


def eddies(amplitude=0.3):
    return deformation(5, (0, 0, 8, 8), size_um=1.5, amplitude_um=amplitude, period_s=1.0)


def test_still_and_drift():
    np.testing.assert_array_equal(still().positions(POINTS, 3.0), POINTS)
    moved = drift((0.5, -2.0)).displacement(POINTS, 2.0)
    np.testing.assert_allclose(moved, np.broadcast_to([1.0, -4.0], POINTS.shape))


def test_vibration_returns_after_a_period():
    motion = vibration((0.1, 0.2), 0.5)
    np.testing.assert_allclose(motion.displacement(POINTS, 0.5), 0, atol=1e-12)
    np.testing.assert_allclose(motion.displacement(POINTS, 0.125)[0], [0.1, 0.2])


def test_rotation_turns_x_towards_y_and_keeps_distances():
    motion = rotation(np.pi / 2, (0.0, 0.0))
    np.testing.assert_allclose(motion.positions(np.array([[0.0, 1.0]]), 1.0), [[1.0, 0.0]], atol=1e-12)
    moved = motion.positions(POINTS, 0.3)
    np.testing.assert_allclose(np.hypot(*moved.T), np.hypot(*POINTS.T))


def test_swirl_fades():
    motion = swirl(1.0, (4.0, 4.0), 1.0)
    near, far = motion.displacement(np.array([[4.5, 4.0], [4.0, 9.0]]), 1.0)
    assert np.hypot(*near) > 0.3
    assert np.hypot(*far) < 1e-9


def test_deformation_is_deterministic_and_does_not_fold():
    np.testing.assert_array_equal(eddies().displacement(POINTS, 0.7), eddies().displacement(POINTS, 0.7))
    step = 1e-4
    for t in (0.0, 0.3, 0.9):
        columns = [
            (eddies().positions(POINTS + step * e, t) - eddies().positions(POINTS - step * e, t)) / (2 * step)
            for e in np.eye(2)
        ]
        determinant = np.linalg.det(np.stack(columns, axis=-1))
        assert determinant.min() > 0.2


def test_following_points_is_the_same_as_asking_for_their_positions():
    motion = eddies() + drift((1, 1)) + rotation(0.2, (4, 4)) + swirl(0.5, (3, 3), 1.0)
    np.testing.assert_allclose(motion.followed(POINTS)(0.4), motion.positions(POINTS, 0.4))


def test_rest_positions_invert_positions():
    motion = eddies() + drift((0.3, 0.2))
    there = motion.positions(POINTS, 0.8)
    np.testing.assert_allclose(motion.rest_positions(there, 0.8), POINTS, atol=1e-6)


def test_material_displacement_is_that_of_what_is_there_now():
    motion = eddies() + drift((0.3, 0.2))
    now = motion.positions(POINTS, 0.8)
    expected = now - motion.positions(POINTS, 0.5)
    np.testing.assert_allclose(motion.material_displacement(now, 0.5, 0.8), expected, atol=1e-6)


def test_scaled_and_travel():
    motion = drift((0.0, 2.0))
    spans = [(0.0, 1.0), (1.0, 1.5)]
    np.testing.assert_allclose(largest_travel(motion, POINTS, spans), [2.0, 1.0])
    np.testing.assert_allclose(largest_travel(motion.scaled(3), POINTS, spans), [6.0, 3.0])
    assert largest_travel(eddies().scaled(2), POINTS, spans)[0] == pytest.approx(
        2 * largest_travel(eddies(), POINTS, spans)[0]
    )
