"""The simulated DPC microscope: analytic gratings, the weak limit, signs, motion, and the reconstruction's model."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from nstm.conventional.dpc import tikhonov
from nstm.optics.dpc import HalfDiscs, Lens, transfer_functions
from nstm.simulate.dpc import Blobs, DpcMicroscope, TargetSample, cells, simulate_dpc
from nstm.simulate.motion import drift, flow, opposed, rotation, shear, still
from nstm.simulate.sim import incoherent_transfer
from nstm.simulate.structures import Area
from nstm.simulate.target import usaf_target
from nstm.systems.dpc import ABSORPTION_UNIT, Dpc, DpcSettings

# without its guard band the field is periodic, which gratings need
SMALL = DpcMicroscope(shape=(48, 48), guard_px=0, pixel_integration=False, sub_exposures=1)
R = SMALL.na / SMALL.wavelength_um


@dataclasses.dataclass(frozen=True)
class Grating:
    """``cos(2 pi f x)`` times absorption and phase."""

    f: float
    absorption: float
    phase: float

    def at(self, places, cell_um):
        """See ``Sample.at``."""
        wave = np.cos(2 * np.pi * self.f * places[:, 1])
        return self.absorption * wave, self.phase * wave


def contrast(recording):
    """``image / background - 1`` of the first acquisition."""
    return recording.clean[0] / recording.microscope.photons - 1


def spots(strength=0.01, seed=0, size=48 * 0.454):
    """Round spots in the middle of the field."""
    rng = np.random.default_rng(seed)
    return Blobs(
        centre=rng.uniform(0.3 * size, 0.7 * size, (8, 2)),
        shape=np.eye(2) / rng.uniform(0.8, 2, 8)[:, None, None] ** 2,
        power=np.ones(8),
        absorption=strength * rng.uniform(0, 0.3, 8),
        phase=strength * rng.uniform(-1, 1, 8),
    )


@pytest.mark.parametrize("weak", [True, False])
@pytest.mark.parametrize("order", [5, 9, 14, 18])
def test_gratings_have_their_analytic_contrast(weak, order):
    """Areas that discs share: a lens for the absorption (Goodman's transfer), a segment for the phase."""
    f = order / (48 * SMALL.pixel_um)
    m = dataclasses.replace(SMALL, weak=weak, source_points=64)
    x = np.arange(48) * m.pixel_um
    dark = contrast(simulate_dpc(Grating(f, 1e-3, 0.0), still(), m, 1))
    lens = 2 * float(incoherent_transfer(np.array(f / (2 * R))))
    for image in dark:
        np.testing.assert_allclose(image[7], -1e-3 * lens * np.cos(2 * np.pi * f * x), atol=4e-5)
    images = contrast(simulate_dpc(Grating(f, 0.0, 1e-3), still(), m, 1))
    outside = 2 * (np.arccos(min(f / R, 1)) - min(f / R, 1) * np.sqrt(1 - min(f / R, 1) ** 2)) / np.pi
    # light from +x (the last image) travels towards -x: where the phase falls along +x, more of it is lost
    expected = -1e-3 * (lens - 2 * outside) * np.sin(2 * np.pi * f * x)
    np.testing.assert_allclose(images[3][7], expected, atol=5e-5)
    np.testing.assert_allclose(images[1][7], -expected, atol=5e-5)
    np.testing.assert_allclose(images[[0, 2]], 0, atol=5e-5)


def test_the_weak_model_is_the_limit_of_the_exact_one():
    """What it leaves out is of second order: ten times weaker, ten times less of the contrast."""
    left = {}
    for strength in (0.3, 0.03):
        both = [
            contrast(simulate_dpc(spots(strength), still(), dataclasses.replace(SMALL, weak=weak), 1))
            for weak in (True, False)
        ]
        left[strength] = np.linalg.norm(both[1] - both[0]) / np.linalg.norm(both[1])
    assert left[0.3] > 0.02
    assert left[0.3] / left[0.03] == pytest.approx(10, rel=0.15)


def test_an_empty_field_has_its_photons_and_noise():
    m = DpcMicroscope(shape=(64, 48), photons=500, guard_px=4)
    recording = simulate_dpc(Grating(0.1, 0.0, 0.0), still(), m, 2)
    assert recording.frames.shape == (2, 4, 64, 48)
    np.testing.assert_allclose(recording.clean, 500, rtol=1e-6)
    counts = recording.frames.astype(float)
    assert counts.mean() == pytest.approx(600, abs=0.5)
    assert counts.var() == pytest.approx(500 + 1.6**2, rel=0.03)
    assert recording.calibration == {"background": [500.0] * 4}
    np.testing.assert_allclose(np.diff(recording.times.ravel()), [0.025, 0.025, 0.025, 0.025, 0.025, 0.025, 0.025])


def test_an_aperture_wider_than_the_pupil_adds_no_light_to_the_background():
    m = dataclasses.replace(SMALL, illumination_na=0.35)
    np.testing.assert_allclose(simulate_dpc(Grating(0.1, 0.0, 0.0), still(), m, 1).clean, m.photons, rtol=1e-5)
    ring = dataclasses.replace(SMALL, inner_na=0.3, illumination_na=0.35)
    with pytest.raises(ValueError, match="no light"):
        simulate_dpc(Grating(0.1, 0.0, 0.0), still(), ring, 1)


def test_a_camera_pixel_averages():
    f = 12 / (48 * SMALL.pixel_um)
    on, off = (
        contrast(simulate_dpc(Grating(f, 1e-2, 0.0), still(), dataclasses.replace(SMALL, pixel_integration=i), 1))
        for i in (True, False)
    )
    np.testing.assert_allclose(on, off * np.sinc(0.25), atol=2e-4 * np.sinc(0.25))


def test_motion_within_an_exposure_blurs():
    """A grating that moves by a quarter of its period loses ``sinc(1/4)`` of its contrast."""
    f = 8 / (48 * SMALL.pixel_um)
    m = dataclasses.replace(SMALL, weak=True, sub_exposures=16, illumination_delay_s=0.0)
    motion = drift((0.0, 0.25 / f / m.exposure_s))
    moving, at_rest = (contrast(simulate_dpc(Grating(f, 1e-2, 0.0), o, m, 1)) for o in (motion, still()))
    amplitude = [np.abs(np.fft.fft(c[:, 5])[:, 8]) for c in (moving, at_rest)]
    np.testing.assert_allclose(amplitude[0] / amplitude[1], np.sinc(0.25), rtol=0.01)


@pytest.mark.parametrize(
    "motion",
    [
        drift((30.0, -50.0)),
        rotation(2.0, (10.9, 10.9)),
        shear(1.5, (10.9, 10.9)),
        flow(1, speed_um_s=20.0, scale_um=15.0),
        opposed((0.0, 40.0), (10.9, 10.9), (1, 0), 2.0),
    ],
    ids=["drift", "rotation", "shear", "flow", "opposed"],
)
def test_the_truth_warped_by_the_true_displacement_is_the_later_truth(motion):
    recording = simulate_dpc(spots(1.0), motion, SMALL, 1, truth_times=np.array([0.0, 0.08]))
    assert recording.truth.shape == (2, 2, 48, 48)
    before, after = recording.truth
    moved = recording.material_displacement(0.0, 0.08)
    assert 1 < np.abs(moved).max() < 6
    there = np.indices((48, 48)) - moved / SMALL.pixel_um
    for channel in range(2):
        warped = map_coordinates(before[channel], there, order=3, mode="nearest")
        np.testing.assert_allclose(warped, after[channel], atol=0.01 * np.ptp(after))


def test_frames_of_a_moving_sample_show_it_at_their_times():
    m = dataclasses.replace(SMALL, guard_px=8, exposure_s=1e-4)
    velocity = (20.0, 35.0)
    recording = simulate_dpc(spots(0.1), drift(velocity), m, 1)
    for j, t in enumerate(recording.times[0]):
        turned = dataclasses.replace(m, rotations_deg=(m.rotations_deg[j],))
        base = spots(0.1)
        there = dataclasses.replace(base, centre=base.centre + np.array(velocity) * t)
        alone = simulate_dpc(there, still(), turned, 1)
        np.testing.assert_allclose(recording.clean[0, j], alone.clean[0, 0], atol=1e-3 * m.photons * 0.1)


def test_a_fold_is_refused():
    with pytest.raises(ValueError, match="folds"):
        simulate_dpc(spots(), opposed((0.0, 400.0), (10.9, 10.9), (0, 1), 0.1), SMALL, 1)


def settings(**changes):
    optics = {"na": SMALL.na, "emission_wavelength_um": SMALL.wavelength_um, "pixel_um": SMALL.pixel_um}
    return DpcSettings.model_validate({"optics": optics, "background": {"method": "none"}, **changes})


@pytest.mark.parametrize("weak", [True, False])
def test_the_reconstructions_forward_model_explains_the_frames(weak):
    """Two independent descriptions of the microscope; what is left of a rather weak sample is noise."""
    m = dataclasses.replace(SMALL, weak=weak, pixel_integration=True)
    recording = simulate_dpc(spots(0.05), still(), m, 1, seed=3)
    model = Dpc(settings()).forward((1, 48, 48), recording.times[0][:, None], {}, m.pixel_um, 0)
    scene = recording.truth[0] / np.array([ABSORPTION_UNIT, 1.0])[:, None, None]
    stacked = jnp.broadcast_to(jnp.asarray(scene, jnp.float32)[None, None, :, None], (4, 1, 2, 1, 48, 48))
    predicted = np.asarray(model.render(stacked, jnp.arange(4)))[:, 0]
    noise = np.sqrt(m.photons + m.read_noise**2) / m.photons
    measured = (recording.frames[0].astype(float) - m.offset) / m.photons - 1
    assert np.std(contrast(recording)) > 0.5 * noise
    assert np.sqrt(np.mean((predicted - contrast(recording)) ** 2)) < 0.1 * noise
    assert np.sqrt(np.mean((predicted - measured) ** 2)) / noise == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    "sample", [cells(1, Area(-5, -5, 35, 35), spacing_um=14), TargetSample(usaf_target(9, 2, (14.5, 14.5)), 0.3)]
)
def test_the_conventional_reconstruction_of_a_still_sample_is_close_to_it(sample):
    m = DpcMicroscope(shape=(64, 64), photons=50000, pixel_integration=False)
    recording = simulate_dpc(sample, still(), m, 1)
    images = (recording.frames[0].astype(float) - m.offset) / m.photons - 1
    halves = HalfDiscs(m.rotations_deg, m.na)
    transfer = transfer_functions(halves, (64, 64), m.pixel_um, Lens(m.na, m.wavelength_um), "led")
    found = tikhonov(images, transfer, absorption_weight=1e-3, phase_weight=1e-3)
    inner = (slice(6, -6), slice(6, -6))
    phase, truth = found[1][inner], recording.truth[0, 1][inner]
    assert np.corrcoef(phase.ravel(), truth.ravel())[0, 1] > 0.9
