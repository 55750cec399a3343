"""The simulated microscope: intensity scale, pattern, transfer, blur, noise, borders."""

import dataclasses

import numpy as np
import pytest

from nstm.simulate import Points, SimMicroscope, drift, er_network, simulate_sim, still, structure_area
from nstm.simulate.camera import camera
from nstm.simulate.sim import incoherent_transfer

SMALL = SimMicroscope(shape=(48, 40), photons=500, sub_exposures=4)


def uniform(microscope, value=1.0):
    """Emitters on a regular grid, finer than the pixel, beyond the field."""
    area = structure_area(microscope, 0.5)
    step = microscope.pixel_um / 4
    y, x = np.arange(area.y0, area.y1, step), np.arange(area.x0, area.x1, step)
    position = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    return Points(position, np.full(len(position), value / 16))


def test_deterministic():
    points = er_network(2, structure_area(SMALL, 0.3))
    first, again = (simulate_sim(points, drift((0, 1)), SMALL, 1, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.frames, again.frames)
    assert np.any(simulate_sim(points, drift((0, 1)), SMALL, 1, seed=4).frames != first.frames)


def test_uniform_sample_gives_the_pattern_with_the_scale_of_the_truth():
    recording = simulate_sim(uniform(SMALL), still(), SMALL, 1)
    m, truth = recording.calibration, recording.truth[0]
    value = truth.mean()
    assert np.ptp(truth) < 0.01 * value
    assert recording.clean.mean() == pytest.approx(value, rel=0.01)
    y, x = np.indices(SMALL.shape) * SMALL.pixel_um
    for angle in range(3):
        k = np.array(m["pattern_vectors"][angle])
        assert np.hypot(*k) == pytest.approx(0.85 * SMALL.cutoff)
        seen = incoherent_transfer(np.array(0.85)) * np.prod(np.sinc(k * SMALL.pixel_um)) * m["modulation"][angle][0]
        for phase in range(3):
            q = 2 * np.pi * (k[0] * y + k[1] * x) + m["phases"][angle][phase]
            expected = value * (1 + seen * np.cos(q))
            np.testing.assert_allclose(recording.clean[0, angle, phase], expected, rtol=0.01)


def test_three_beams_have_two_orders():
    m = dataclasses.replace(SMALL, beams=3, phases=5, modulation=((0.8, 0.5),) * 3)
    recording = simulate_sim(uniform(m), still(), m, 1)
    assert recording.frames.shape == (1, 3, 5, 48, 40)
    k = np.array(recording.calibration["pattern_vectors"][0])
    assert np.hypot(*k) == pytest.approx(0.425 * m.cutoff)
    y, x = np.indices(m.shape) * m.pixel_um
    frame = recording.clean[0, 0, 2] / recording.clean.mean()
    q = 2 * np.pi * (k[0] * y + k[1] * x) + recording.calibration["phases"][0][2]
    for order, modulation in ((1, 0.8), (2, 0.5)):
        found = 2 * np.mean((frame - 1) * np.exp(-1j * order * q))
        transfer = incoherent_transfer(np.array(order * 0.425)) * np.prod(np.sinc(order * k * m.pixel_um))
        assert abs(found) == pytest.approx(modulation * transfer, rel=0.1)


def test_phases_rise_with_their_index():
    phases = np.array(SMALL.calibration(5)["phases"])
    step = np.angle(np.exp(1j * (np.diff(phases, axis=1) - 2 * np.pi / 3)))
    assert np.abs(step).max() < 0.5


def test_a_point_is_where_it_should_be_and_is_blurred_within_the_exposure():
    m = dataclasses.replace(SMALL, exposure_s=0.1, sub_exposures=32, modulation=((0.0,),) * 3)
    place = np.array([[20 * m.pixel_um, 18 * m.pixel_um]])
    y, x = np.indices(m.shape)
    speed = 4 * m.pixel_um / m.exposure_s  # 4 px per exposure along x
    widths = {}
    for name, motion in {"still": still(), "moving": drift((0.0, speed))}.items():
        recording = simulate_sim(Points(place, np.ones(1)), motion, m, 1)
        frame = recording.clean[0, 0, 0]
        light = frame / frame.sum()
        centre = np.array([(light * y).sum(), (light * x).sum()])
        shift = recording.motion.displacement(place, recording.times[0, 0, 0])[0] / m.pixel_um
        np.testing.assert_allclose(centre, np.array([20, 18]) + shift, atol=0.1)
        near = np.abs(x - centre[1]) < 8
        widths[name] = np.sum((light * (x - centre[1]) ** 2)[near])
    assert widths["moving"] - widths["still"] == pytest.approx(4**2 / 12, rel=0.15)


def test_truth_moves_by_the_material_displacement():
    m = dataclasses.replace(SMALL, shape=(48, 48))
    shift_px = 2.0
    velocity = shift_px * m.pixel_um / m.times(1).ravel()[-1]
    points = er_network(2, structure_area(m, 0.5))
    times = m.times(1).ravel()
    recording = simulate_sim(points, drift((0.0, velocity)), m, 1, truth_times=np.array([0.0, times[-1]]))
    before, after = recording.truth
    moved = np.roll(before, round(shift_px * 2), axis=1)
    inside = (slice(None), slice(8, -8))
    np.testing.assert_allclose(after[inside], moved[inside], atol=0.02 * before.max())
    displacement = recording.material_displacement(0.0, times[-1])
    assert displacement.shape == (2, 96, 96)
    np.testing.assert_allclose(displacement[1], shift_px * m.pixel_um, rtol=1e-6)
    np.testing.assert_allclose(displacement[0], 0, atol=1e-12)


def test_light_from_outside_enters_and_borders_are_not_periodic():
    m = dataclasses.replace(SMALL, modulation=((0.0,),) * 3)
    outside = np.array([[24 * m.pixel_um, -1.5 * m.pixel_um]])
    frame = simulate_sim(Points(outside, np.ones(1)), still(), m, 1).clean[0, 0, 0]
    assert frame[24, 0] > 50 * frame[24, -1]


def test_bleaching_and_background():
    m = dataclasses.replace(SMALL, bleaching=0.4, background=20.0)
    recording = simulate_sim(uniform(m), still(), m, 2)
    light = recording.clean.mean(axis=(-2, -1)) - 20
    assert light[-1, -1, -1] / light[0, 0, 0] == pytest.approx(0.6, rel=0.01)
    assert recording.truth[-1].mean() / recording.truth[0].mean() == pytest.approx(0.6, rel=0.01)


def test_camera_noise():
    counts = camera(np.full((300, 300), 50, np.float32), offset=100, read_noise=1.6, seed=1).astype(float)
    assert counts.mean() == pytest.approx(150, abs=0.2)
    assert counts.var() == pytest.approx(50 + 1.6**2, rel=0.03)


def test_brightness_is_the_percentile():
    recording = simulate_sim(er_network(2, structure_area(SMALL)), still(), SMALL, 1)
    assert np.percentile(recording.clean.mean(axis=(0, 1, 2)), 99.9) == pytest.approx(500, rel=1e-4)


def test_modulation_must_fit_the_beams():
    with pytest.raises(ValueError, match="modulation"):
        SimMicroscope(beams=3)
