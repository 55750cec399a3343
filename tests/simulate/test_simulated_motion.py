"""Simulated motions: signs, sizes and inversion."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.spatial.transform import Rotation

from nstm.simulate.motion import (
    affine,
    deformation,
    drift,
    flow,
    largest_travel,
    lateral,
    opposed,
    rotation,
    shear,
    still,
    swirl,
    vibration,
)

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


def test_shear_slides_rows_along_x():
    moved = shear(0.3, (4.0, 4.0)).displacement(POINTS, 2.0)
    np.testing.assert_allclose(moved, np.stack([np.zeros(200), 0.6 * (POINTS[:, 0] - 4)], axis=1), atol=1e-12)


def test_affine_motion_of_a_volume_turns_about_any_axis():
    points, axis = np.random.default_rng(1).random((50, 3)), np.array([0.2, -0.5, 0.3])
    rate = np.cross(np.eye(3), axis)  # rate @ v = axis x v
    moved = affine(rate, (0.5, 0.5, 0.5)).positions(points, 1.5)
    np.testing.assert_allclose(moved, Rotation.from_rotvec(1.5 * axis).apply(points - 0.5) + 0.5, atol=1e-12)


def test_lateral_motion_is_the_same_at_every_depth():
    motion = swirl(1.0, (4.0, 4.0), 2.0)
    moved = lateral(motion).displacement(np.column_stack([np.linspace(-1, 1, 200), POINTS]), 0.7)
    np.testing.assert_array_equal(moved[:, 0], 0)
    np.testing.assert_array_equal(moved[:, 1:], motion.displacement(POINTS, 0.7))


def test_objects_on_two_sides_move_against_each_other():
    motion = opposed((0.0, 1.0), point_um=(4.0, 0.0), normal=(2.0, 0.0), width_um=0.2)
    above, below, between = motion.displacement(np.array([[6.0, 1.0], [2.0, 1.0], [4.0, 7.0]]), 0.5)
    np.testing.assert_allclose([above, below, between], [[0, 0.5], [0, -0.5], [0, 0]], atol=1e-6)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_flow_carries_points_and_keeps_volumes(dimensions):
    """Against another integrator; and the Jacobian determinant of an incompressible flow is 1."""
    motion = flow(3, speed_um_s=1.0, scale_um=3.0, turnover_s=2.0, dimensions=dimensions)
    points = np.random.default_rng(2).random((20, dimensions)) * 6
    speed = np.linalg.norm(motion.velocity(np.random.default_rng(0).random((4000, dimensions)) * 60, 0.3), axis=1)
    assert np.sqrt(np.mean(speed**2)) == pytest.approx(1.0, rel=0.1)
    for end in (1.3, -0.7):
        exact = solve_ivp(
            lambda t, p: motion.velocity(p.reshape(-1, dimensions), t).ravel(), (0, end), points.ravel(), rtol=1e-9
        )
        moved = motion.positions(points, end)
        np.testing.assert_allclose(moved.ravel(), exact.y[:, -1], atol=1e-4)
    step = 1e-4
    columns = [
        (motion.positions(points + step * e, 1.3) - motion.positions(points - step * e, 1.3)) / (2 * step)
        for e in np.eye(dimensions)
    ]
    np.testing.assert_allclose(np.linalg.det(np.stack(columns, axis=-1)), 1, atol=1e-3)
    assert np.linalg.norm(moved - points, axis=1).max() > 0.3


def test_points_are_followed_alike_in_any_order_of_times():
    motion = flow(3, speed_um_s=1.0, scale_um=3.0)
    follow = motion.followed(POINTS)
    times = [0.5, 1.7, 0.2, -0.4, 1.7]
    for t in times:
        np.testing.assert_allclose(follow(t), motion.positions(POINTS, t), atol=1e-12)


MOTIONS = {
    "rotation": (2, rotation(0.35, (4, 4))),
    "shear": (2, shear(0.3, (4, 4))),
    "swirl": (2, swirl(1.2, (4, 4), 2.5)),
    "opposed": (2, opposed((0.0, 1.0), (4, 4), (1, 0), 0.3)),
    "vibration": (2, vibration((0.3, 0.8), 0.7)),
    "flow": (2, flow(1, speed_um_s=0.8, scale_um=4.0, turnover_s=3.0)),
    "sum": (2, eddies() + drift((0.3, 0.2)) + swirl(0.6, (4, 4), 2.0) + flow(1, speed_um_s=0.3, scale_um=4.0)),
    "affine in 3D": (3, affine([[0.1, 0.2, 0], [0, -0.2, 0.3], [-0.3, 0, 0.1]], (1, 4, 4))),
    "flow in 3D": (3, flow(2, speed_um_s=0.8, scale_um=4.0, dimensions=3)),
    "lateral": (3, lateral(swirl(1.2, (4, 4), 2.5)) + vibration((0.2, 0, 0), 0.7)),
}


@pytest.mark.parametrize("name", MOTIONS)
def test_the_material_displacement_of_every_motion(name):
    dimensions, motion = MOTIONS[name]
    rest = np.random.default_rng(4).random((300, dimensions)) * 8
    now, before = motion.positions(rest, 1.0), motion.positions(rest, 0.35)
    assert np.linalg.norm(now - before, axis=1).max() > 0.15
    np.testing.assert_allclose(motion.rest_positions(now, 1.0), rest, atol=1e-4)
    np.testing.assert_allclose(motion.material_displacement(now, 0.35, 1.0), now - before, atol=1e-4)


def test_where_nothing_passes_there_is_no_rest_position():
    parting = opposed((0.0, 4.0), (4, 4), normal=(0, 1), width_um=1e-3)
    rest = parting.rest_positions(np.array([[4.0, 9.0], [4.0, 6.0]]), 1.0)
    np.testing.assert_allclose(rest, [[4.0, 5.0], [np.nan, np.nan]])
