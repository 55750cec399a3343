"""Random light has the statistics that theory gives it, and the frames are those of the model that is inverted."""

import dataclasses

import numpy as np
import pytest
import scipy.fft

from nstm.simulate.motion import drift, still
from nstm.simulate.random_light import projected_masks, speckle
from nstm.simulate.sim import incoherent_transfer
from nstm.simulate.speckle import SpeckleMicroscope, simulate_speckle, stack, transfer_on
from nstm.simulate.structures import Area, Points, filaments

PITCH, NA, WAVELENGTH = 0.06, 1.0, 0.5


def patterns(na=NA, number=40, shape=(128, 128), pitch=PITCH):
    return speckle(shape, pitch, na, WAVELENGTH, number, np.random.default_rng(3))


def test_speckle_is_fully_developed():
    light = patterns()
    assert light.std() == pytest.approx(1.0, abs=0.02)
    assert np.mean(light < 0.1) == pytest.approx(1 - np.exp(-0.1), abs=0.003)
    assert np.mean(light > 2) == pytest.approx(np.exp(-2), abs=0.005)


@pytest.mark.parametrize("number", [10, 20, 40])
def test_mean_of_patterns_is_uniform_to_one_over_root(number):
    assert patterns(number=number, shape=(192, 192)).mean(axis=0).std() == pytest.approx(number**-0.5, rel=0.04)


@pytest.mark.parametrize("na", [0.6, 1.0, 1.2])
def test_power_spectrum_is_the_overlap_of_two_pupils(na):
    light = patterns(na=na, number=60, pitch=0.05)
    power = np.mean(np.abs(scipy.fft.rfft2(light - 1)) ** 2, axis=0)
    radius = np.hypot(np.fft.fftfreq(128, 0.05)[:, None], np.fft.rfftfreq(128, 0.05))
    relative = radius / (2 * na / WAVELENGTH)
    assert power[relative > 1.02].max() < 1e-9 * power.max()
    expected = incoherent_transfer(relative)
    scale = power[1:, 1:][relative[1:, 1:] < 0.5].sum() / expected[1:, 1:][relative[1:, 1:] < 0.5].sum()
    for low in (0.1, 0.3, 0.5, 0.7):
        ring = (relative > low) & (relative < low + 0.2)
        assert power[ring].mean() == pytest.approx(scale * expected[ring].mean(), rel=0.05)


def test_masks_have_less_contrast_the_less_coherent_the_light():
    def contrast(coherence):
        light = projected_masks(
            (96, 96), PITCH, NA, WAVELENGTH, 6, np.random.default_rng(0), element_um=0.3, coherence=coherence
        )
        assert light.min() >= 0
        assert light.mean() == pytest.approx(1)
        radius = np.hypot(np.fft.fftfreq(96, PITCH)[:, None], np.fft.rfftfreq(96, PITCH))
        beyond = radius > 2 * NA / WAVELENGTH * 1.02
        assert np.abs(scipy.fft.rfft2(light))[:, beyond].max() < 1e-6 * np.abs(scipy.fft.rfft2(light)).max()
        return light.std()

    coherent, partial, incoherent = contrast(0.0), contrast(0.7), contrast(1.5)
    assert incoherent < partial < min(coherent, 1)


@pytest.mark.parametrize("make", [lambda **k: patterns(**k), lambda **k: patterns(na=2.5)])
def test_too_coarse_a_grid_is_refused(make):
    with pytest.raises(ValueError, match="too coarse"):
        make(pitch=0.2)


MICROSCOPE = SpeckleMicroscope(shape=(32, 32), guard_px=8, patterns=4, photons=1000)


def recorded(microscope=MICROSCOPE, motion=None, acquisitions=1, **options):
    points = filaments(2, Area.of_field(microscope.shape, microscope.pixel_um, 1.2), number=8)
    return simulate_speckle(points, motion or still(), microscope, acquisitions, seed=5, **options)


def test_recording_follows_the_model_of_a_reconstruction():
    """Truth times pattern on the 2x grid, blurred by objective and pixel, is the frame (inside: nothing wraps)."""
    recording = recorded()
    m = recording.microscope
    assert recording.frames.shape == (1, 4, 32, 32)
    assert recording.truth.shape == (4, 64, 64)
    product = recording.truth[0] * recording.patterns[0]
    transfer = transfer_on((64, 64), m, m.pixel_um / 2, 2)
    seen = scipy.fft.irfft2(scipy.fft.rfft2(product) * transfer, s=(64, 64))[:, ::2, ::2]
    inside = np.s_[:, 8:-8, 8:-8]
    error = seen[inside] - recording.clean[0][inside]
    assert np.sqrt(np.mean(error**2)) < 0.02 * np.sqrt(np.mean(recording.clean[0][inside] ** 2))


def test_noise_is_that_of_photons_and_readout():
    microscope = dataclasses.replace(MICROSCOPE, shape=(64, 64), background=20.0)
    recording = recorded(microscope)
    error = recording.frames - recording.clean - microscope.offset
    expected = recording.clean + microscope.read_noise**2 + 1 / 12
    assert np.mean(error**2) == pytest.approx(expected.mean(), rel=0.05)
    assert recording.clean.min() >= 20


def test_sample_moves_through_the_light():
    moving = recorded(motion=drift((0.0, 20.0)), acquisitions=2)
    still_ = recorded(acquisitions=2)
    np.testing.assert_array_equal(moving.patterns, still_.patterns)
    later = float(moving.times[1, 3] - moving.times[0, 0])
    assert later == pytest.approx(0.07)
    shift = round(20.0 * later / moving.spacing_um[1])
    a, b = moving.truth[0], moving.truth[-1]
    inside = np.s_[4:-4, 30:-4]
    assert np.corrcoef(np.roll(a, shift, axis=1)[inside].ravel(), b[inside].ravel())[0, 1] > 0.95
    assert np.corrcoef(a[inside].ravel(), b[inside].ravel())[0, 1] < 0.8


@pytest.mark.parametrize("binning", [1, 2])
def test_stack_is_an_exact_miniature(binning):
    rng = np.random.default_rng(0)
    density = rng.random((48, 48)) ** 4
    microscope = dataclasses.replace(MICROSCOPE, patterns=6)
    found = stack(density, microscope, 0.054, 1, binning=binning)
    product = density / density.max() * found.patterns
    transfer = transfer_on((48, 48), microscope, 0.054, binning)
    np.testing.assert_allclose(
        scipy.fft.irfft2(scipy.fft.rfft2(product) * transfer, s=(48, 48)), found.clean, atol=1e-5
    )
    measured = np.sum((found.frames - found.clean) ** 2, dtype=np.float64)
    assert measured == pytest.approx(found.noise_energy, rel=0.05)
    with pytest.raises(ValueError, match="negative"):
        stack(-density, microscope, 0.054, 1)


def test_points_outside_light_the_edge():
    """One emitter just outside of the field still reaches it."""
    outside = Points(np.array([[-0.05, 1.5], [1.7, 1.7]]), np.ones(2))
    recording = simulate_speckle(outside, still(), MICROSCOPE, 1)
    assert recording.clean[0, :, 0].max() > 0.05 * recording.clean.max()
