"""Fourier ring correlation of images whose resolution is known."""

import numpy as np
import pytest

from nstm.metrics import fourier_ring_correlation, frc_resolution_um, limit

PIXEL = 0.05


def noise(seed, shape=(160, 160)):
    return np.random.default_rng(seed).standard_normal(shape)


def test_an_image_and_itself():
    truth = noise(0)
    frequencies, curve = fourier_ring_correlation(3 * truth + 1, truth, PIXEL)
    assert frequencies[-1] == pytest.approx(0.5 / PIXEL)
    np.testing.assert_allclose(curve[1:], 1, atol=1e-6)
    assert frc_resolution_um(truth, truth, PIXEL) == 2 * PIXEL


def test_white_noise_lowers_the_curve_as_it_should():
    truth = noise(0, (400, 400))
    _, curve = fourier_ring_correlation(truth + noise(1, (400, 400)), truth, PIXEL)
    assert np.mean(curve[20:]) == pytest.approx(1 / np.sqrt(2), abs=0.02)


@pytest.mark.parametrize("kc", [3.0, 5.0])
def test_resolution_is_where_the_signal_ends(kc):
    truth = noise(0)
    image = limit(truth, PIXEL, kc) + 0.02 * noise(1)
    # from there on the image is noise; window and rings blur the edge by about one ring
    image -= limit(image, PIXEL, kc) - limit(truth, PIXEL, kc)
    assert frc_resolution_um(image, truth, PIXEL) == pytest.approx(1 / kc, rel=0.06)


def test_volumes_and_nan():
    truth = np.stack([noise(0), noise(1)])
    assert frc_resolution_um(truth, truth, PIXEL) == 2 * PIXEL
    assert np.isnan(frc_resolution_um(np.full_like(truth, np.nan), truth, PIXEL))
