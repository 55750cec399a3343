"""The simulated microscope for volumes: transfer in depth, axial pattern, times of planes, truth."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from nstm.simulate.motion import drift, flow, lateral, still, swirl
from nstm.simulate.sim import incoherent_transfer, structure_area
from nstm.simulate.structures import Points, er_network, filaments, through_depth
from nstm.simulate.volume import VolumeMicroscope, _Optics, defocus_transfer, simulate_volume
from nstm.systems.sim import Sim, SimSettings

SMALL = VolumeMicroscope(shape=(32, 32), planes=4, guard_px=8, sub_exposures=1, phase_error_rad=0.0)
DARK = dataclasses.replace(SMALL, modulation=((0.0, 0.0),) * 3)
TRUTH_ONLY = dataclasses.replace(SMALL, angles=1, phases=1, modulation=((0.0, 0.0),))


def point(z=0.0, y=16.0, x=15.0, m=SMALL):
    """One emitter, z in um, y and x in pixels."""
    return Points(np.array([[z, y * m.pixel_um, x * m.pixel_um]]), np.ones(1))


def structure(m, low, high, seed=1):
    area = structure_area(m, 0.4)
    threads = through_depth(filaments(seed, area, number=6), seed, low, high)
    return threads.joined(through_depth(er_network(seed, area), seed + 1, low, high)).merged(0.032)


def test_transfer_in_focus_of_a_small_aperture_is_the_flat_one():
    f = np.linspace(0, 1.2, 30)
    found = defocus_transfer(f, np.zeros(1), na=0.25, index=1.5, wavelength_um=0.5)[0]
    np.testing.assert_allclose(found, incoherent_transfer(f), atol=2e-3)


def test_transfer_out_of_focus_is_that_of_the_point_image():
    """The image of a point as the square of a discrete sum over the pupil, at another sampling."""
    na, index, wavelength, side = 1.4, 1.518, 0.515, 384
    step = 6 * na / wavelength / side
    axis = np.fft.fftfreq(side, 1 / (side * step))
    u2 = axis[:, None] ** 2 + axis**2
    kz = np.sqrt(np.maximum((index / wavelength) ** 2 - u2, 1e-9))
    inside = u2 < (na / wavelength) ** 2
    for z in (0.0, 0.3, 0.9):
        image = np.abs(np.fft.ifft2(np.where(inside, kz**-0.5 * np.exp(2j * np.pi * z * kz), 0))) ** 2
        row = np.fft.fft2(image).real[0, : side // 3] / image.sum()
        lens = {"na": na, "index": index, "wavelength_um": wavelength}
        found = defocus_transfer(axis[: side // 3], np.array([z]), **lens)[0]
        np.testing.assert_allclose(found, row, atol=0.01)


def test_the_factors_of_the_transfer_function_are_exact():
    z, f = np.linspace(-1.9, 1.9, 23), np.linspace(0, SMALL.cutoff * 0.999, 31)
    optics = _Optics(SMALL, 2.0)
    lens = {"na": SMALL.na, "index": SMALL.index, "wavelength_um": SMALL.emission_wavelength_um}
    found = np.einsum("zr,rf->zf", optics.depth(z), optics.lateral(f))
    np.testing.assert_allclose(found, defocus_transfer(f, z, **lens), atol=3e-4)
    assert not optics.lateral(np.array([SMALL.cutoff * 1.01])).any()


def test_all_light_of_a_point_is_in_every_plane_and_sharpest_in_its_own():
    wide = dataclasses.replace(DARK, shape=(64, 64), photons=1e4)
    clean = simulate_volume(point(2 * wide.z_step_um, 32, 31), still(), wide, 1).clean[0, 0, 0]
    light = clean.sum(axis=(1, 2))
    np.testing.assert_allclose(light, light.mean(), rtol=0.03)  # a little leaves the field
    peak = clean.max(axis=(1, 2))
    assert np.argmax(peak) == 2
    np.testing.assert_allclose(clean[1], clean[3], atol=2e-3 * clean.max())


@pytest.mark.parametrize("beams", [2, 3])
def test_a_point_is_lit_by_the_pattern_where_it_is(beams):
    """Frames with and without pattern differ by one number, which in depth follows the focus."""
    modulation = ((0.9, 0.6),) * 3 if beams == 3 else ((0.9,),) * 3
    lit = dataclasses.replace(SMALL, beams=beams, modulation=modulation, axial_phase_rad=0.4)
    emitter = point(0.2, 16.3, 14.8)
    dark = dataclasses.replace(lit, modulation=((0.0,) * (beams - 1),) * 3)
    on, off = (simulate_volume(emitter, still(), m, 1) for m in (lit, dark))
    gain = np.einsum("apzyx,apzyx->apz", on.clean[0], off.clean[0]) / np.sum(off.clean[0] ** 2, axis=(-2, -1))
    distance = 0.2 - np.arange(lit.planes) * lit.z_step_um
    wave, p = lit.index / lit.excitation_wavelength_um, np.hypot(*on.calibration["pattern_vectors"][0])
    axial = np.ones(lit.planes)
    if beams == 3:
        axial = np.cos(2 * np.pi * wave * (1 - np.cos(np.arcsin(p / wave))) * distance + 0.4)
    expected = np.empty(gain.shape)
    for a, p in np.ndindex(3, 5):
        q = 2 * np.pi * emitter.position[0, 1:] @ np.array(on.calibration["pattern_vectors"][a])
        q += on.calibration["phases"][a][p]
        expected[a, p] = 1 + 0.9 * np.cos(q) * axial
        expected[a, p] += 0.6 * np.cos(2 * q) if beams == 3 else 0
    np.testing.assert_allclose(gain / gain.mean(), expected / expected.mean(), rtol=1e-3)


@pytest.mark.parametrize("order", ["angle z phase", "z angle phase", "angle phase z"])
def test_planes_are_taken_one_after_another_and_the_sample_moves_on(order):
    m = dataclasses.replace(DARK, order=order, photons=1e5)
    times = m.times(2)
    assert times.shape == (2, 3, 5, 4)
    moved = np.moveaxis(times, [1 + ("angle", "phase", "z").index(n) for n in order.split()], [1, 2, 3])
    assert np.all(np.diff(moved.ravel()) > 0)
    speed = 4 * m.pixel_um / np.ptp(times[0])
    recording = simulate_volume(point(0.15, 16, 13), drift((0.0, 0.0, speed)), m, 1)
    x = np.arange(32) - 13
    seen = recording.clean[0][..., 4:-4, 3:28].sum(axis=-2)
    centre = (seen * x[3:28]).sum(axis=-1) / seen.sum(axis=-1)
    np.testing.assert_allclose(centre * m.pixel_um, speed * times[0], atol=0.2 * m.pixel_um)


def test_the_truth_holds_all_light_where_it_is():
    m = dataclasses.replace(DARK, planes=16)
    recording = simulate_volume(point(1.0, 16, 15), still(), m, 1, truth_times=np.zeros(1))
    truth = recording.truth[0]
    assert truth.shape == (16, 64, 64)
    assert recording.spacing_um == (m.z_step_um, m.pixel_um / 2, m.pixel_um / 2)
    assert np.unravel_index(truth.argmax(), truth.shape) == (8, 32, 30)
    light = recording.points.weight.sum()
    assert truth.sum() / 4 == pytest.approx(light, rel=0.01)
    assert recording.clean[0, 0, 0, 8].sum() == pytest.approx(light, rel=0.05)


@pytest.mark.parametrize(
    "motion",
    [
        drift((0.8, 1.0, -1.6)),
        lateral(swirl(1.5, (1.3, 1.2), 0.9)),
        flow(5, speed_um_s=0.8, scale_um=2.5, dimensions=3, number=4),
    ],
    ids=["drift", "swirl", "flow"],
)
def test_the_truth_warped_by_the_true_displacement_is_the_later_truth(motion):
    """Wide spots of dense points, so that the samples tell all between them."""
    m = dataclasses.replace(TRUTH_ONLY, planes=20)
    grid = (np.indices((21, 21, 21)).reshape(3, -1).T - 10) * 0.35  # in standard deviations
    centres = np.random.default_rng(0).uniform([0.8, 0.8, 0.8], [1.6, 1.8, 1.8], (3, 3))
    light = np.tile(np.exp(-np.sum(grid**2, axis=1) / 2), 3)
    points = Points((centres[:, None] + grid * [0.15, 0.1, 0.1]).reshape(-1, 3), light)
    recording = simulate_volume(points, motion, m, 1, truth_times=np.array([0.1, 0.4]))
    before, after = recording.truth
    moved = recording.material_displacement(0.1, 0.4)
    assert moved.shape == (3, 20, 64, 64)
    assert np.abs(moved).max() > 0.1
    step = np.array(recording.spacing_um)[:, None, None, None]
    warped = map_coordinates(before, np.indices(before.shape) - moved / step, order=3)
    inner = (slice(4, -4), slice(8, -8), slice(8, -8))
    error = np.linalg.norm((warped - after)[inner]) / np.linalg.norm(after[inner])
    unmoved = np.linalg.norm((before - after)[inner]) / np.linalg.norm(after[inner])
    assert error < 0.04
    assert error < 0.1 * unmoved


def test_the_reconstructions_forward_model_explains_the_frames():
    """Two independent descriptions of the microscope: true scene and light leave the noise, and a tenth of it."""
    m = dataclasses.replace(SMALL, phase_error_rad=0.05)
    points = structure(m, 0.0, 0.4)
    recording = simulate_volume(points, still(), m, 1, seed=2)
    optics = {
        "na": m.na,
        "index": m.index,
        "emission_wavelength_um": m.emission_wavelength_um,
        "excitation_wavelength_um": m.excitation_wavelength_um,
        "pixel_um": m.pixel_um,
        "z_step_um": m.z_step_um,
        "padding_planes": 6,
    }
    light = {"angles": 3, "phases": 5, "beams": 3}
    system = Sim(SimSettings.model_validate({"optics": optics, "illumination": light, "frames": {"planes": 4}}))
    model = system.forward((4, *m.shape), recording.times[0], recording.calibration, m.pixel_um, 8)
    # the same sample on the whole grid of the model, whose planes share the light of each
    depth, *fine = model.scene_shape[1:]
    first = np.array([start for start, _ in model.output_field])
    whole = dataclasses.replace(TRUTH_ONLY, shape=(fine[0] // 2, fine[1] // 2), planes=depth)
    shift = Points(points.position + first * np.array(recording.spacing_um), points.weight)
    scene = simulate_volume(shift, still(), whole, 1, truth_times=np.zeros(1))
    scene = scene.truth[0] * (recording.points.weight[0] / scene.points.weight[0]) * depth
    blocks = model.times.shape[1]
    stacked = jnp.broadcast_to(jnp.asarray(scene), (1, blocks, 1, *scene.shape))
    clean = recording.clean.reshape(15, 4, *m.shape)
    for frame in (0, 7, 14):
        predicted = np.asarray(model.render(stacked, jnp.array([frame])))[0]
        noise = np.sqrt(clean[frame] + m.read_noise**2)
        counts = recording.frames.reshape(clean.shape)[frame] - m.offset
        assert np.sqrt(np.mean(((predicted - clean[frame]) / noise) ** 2)) < 0.12
        assert np.sqrt(np.mean(((predicted - counts) / noise) ** 2)) == pytest.approx(1.0, abs=0.03)


def test_orders_must_be_complete():
    with pytest.raises(ValueError, match="angle, phase and z"):
        VolumeMicroscope(order="angle phase")
