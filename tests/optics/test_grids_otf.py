"""Fourier grids and transfer functions against numpy, closed forms and round trips."""

import numpy as np
import pytest
import scipy.fft

from nstm.optics.grids import fourier_resample, frequencies, rfrequencies
from nstm.optics.otf import cutoff, flat_otf, incoherent_otf, pixel_transfer

NA, WAVELENGTH = 1.4, 0.515


def test_frequencies_are_those_of_numpy():
    fy, fx = frequencies((7, 10), 0.1)
    assert fy.shape == (7, 1)
    assert fx.shape == (1, 10)
    assert fy.dtype == np.float32
    np.testing.assert_allclose(fy[:, 0], np.fft.fftfreq(7, 0.1), rtol=1e-6)
    half_y, half_x = rfrequencies((7, 10), 0.1)
    assert half_y.shape == (7, 1)
    np.testing.assert_allclose(half_x[0], np.fft.rfftfreq(10, 0.1), rtol=1e-6)


@pytest.mark.parametrize(("small", "large"), [((8, 10), (16, 20)), ((7, 9), (14, 15)), ((8, 9), (11, 12))])
def test_resampling_up_and_down_gives_back_the_image(small, large):
    image = np.random.default_rng(0).normal(size=(2, *small)).astype(np.float32)
    up = fourier_resample(image, large)
    assert up.shape == (2, *large)
    np.testing.assert_allclose(up.mean((1, 2)), image.mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(fourier_resample(up, small), image, atol=2e-6)


def test_resampling_keeps_values_and_sample_zero():
    image = np.random.default_rng(1).normal(size=(8, 10)).astype(np.float32)
    np.testing.assert_allclose(fourier_resample(image, (16, 20))[::2, ::2], image, atol=2e-6)
    np.testing.assert_allclose(fourier_resample(np.full((8, 8), 3.0), (12, 12)), 3.0, rtol=1e-6)


def test_otf_is_the_autocorrelation_of_the_pupil():
    n, pitch = 256, 0.02
    fy, fx = frequencies((n, n), pitch)
    radius = np.hypot(fy, fx)
    psf = np.abs(scipy.fft.ifft2(radius <= NA / WAVELENGTH)) ** 2
    numeric = scipy.fft.fft2(psf).real
    numeric /= numeric[0, 0]
    assert np.abs(numeric - incoherent_otf(radius, NA, WAVELENGTH)).max() < 0.02  # steps of the discrete disc
    assert incoherent_otf(np.float32(0), NA, WAVELENGTH) == pytest.approx(1)
    assert incoherent_otf(np.float32(cutoff(NA, WAVELENGTH)), NA, WAVELENGTH) == pytest.approx(0, abs=1e-6)


def test_pixel_transfer_is_the_spectrum_of_a_box():
    fy, fx = frequencies((64, 64), 0.01)
    y = (np.arange(-320, 320) + 0.5) / 6400  # a pixel of 0.1 um
    box = np.array([np.cos(2 * np.pi * f * y).mean() for f in fx[0, :8]])
    np.testing.assert_allclose(pixel_transfer(fy[:1], fx[:, :8], 0.1)[0], box, atol=1e-4)


def test_otf_takes_jax_arrays():
    jnp = pytest.importorskip("jax.numpy")
    fy, fx = frequencies((8, 8), 0.065)
    radius = np.hypot(fy, fx)
    np.testing.assert_allclose(
        incoherent_otf(jnp.asarray(radius), NA, WAVELENGTH), incoherent_otf(radius, NA, WAVELENGTH), atol=1e-6
    )
    np.testing.assert_allclose(
        pixel_transfer(jnp.asarray(fy), jnp.asarray(fx), 0.065), pixel_transfer(fy, fx, 0.065), atol=1e-6
    )


def test_tables_follow_the_formula_up_to_the_cutoff():
    radius = np.random.default_rng(0).uniform(0, 1.2 * cutoff(NA, WAVELENGTH), (50, 3)).astype(np.float32)
    table = flat_otf(NA, WAVELENGTH, 2)
    np.testing.assert_allclose(table(2, radius)[0], incoherent_otf(radius, NA, WAVELENGTH), atol=2e-6)
