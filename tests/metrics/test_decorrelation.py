"""Decorrelation analysis against known cut-offs."""

import numpy as np
import pytest
import scipy.fft

from nstm.acquisition import DataError
from nstm.metrics import decorrelation
from nstm.simulate.sim import incoherent_transfer
from nstm.simulate.structures import Area, filaments

SIDE, PIXEL = 256, 0.06


@pytest.fixture(scope="module")
def image_of():
    points = filaments(1, Area(0, 0, SIDE * PIXEL, SIDE * PIXEL), number=40)
    density = np.zeros((SIDE, SIDE))
    np.add.at(density, tuple(np.rint(points.position / PIXEL).astype(int).T % SIDE), points.weight)
    radius = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)) / 0.5

    def make(cutoff, photons):
        blurred = scipy.fft.irfft2(scipy.fft.rfft2(density) * incoherent_transfer(radius / cutoff), s=density.shape)
        blurred = np.maximum(blurred, 0) / blurred.max()
        return np.random.default_rng(0).poisson(blurred * photons).astype(float)

    return make


# cut-offs found by an independent implementation of the published code on another phantom of filaments
@pytest.mark.parametrize(("cutoff", "expected"), [(0.24, 0.209), (0.48, 0.408), (0.72, 0.617), (0.96, 0.837)])
def test_regression(image_of, cutoff, expected):
    found = decorrelation(image_of(cutoff, 2000), PIXEL)
    assert found.cutoff == pytest.approx(expected, abs=0.03)
    assert found.resolution_um == pytest.approx(2 * PIXEL / found.cutoff)


def test_twice_the_band_is_twice_the_resolution(image_of):
    found = [decorrelation(image_of(c, 2000), PIXEL).cutoff for c in (0.24, 0.48, 0.96)]
    assert found[1] / found[0] == pytest.approx(2, rel=0.05)
    assert found[2] / found[1] == pytest.approx(2, rel=0.05)


def test_scale_and_offset_change_nothing_noise_lowers_the_amplitude(image_of):
    bright = image_of(0.48, 2000)
    found, scaled = decorrelation(bright, PIXEL), decorrelation(7 * bright + 100, PIXEL)
    assert scaled.cutoff == pytest.approx(found.cutoff, abs=1e-9)
    assert decorrelation(image_of(0.48, 3), PIXEL).amplitude < found.amplitude


def test_what_has_no_resolution():
    for image in (np.zeros((64, 64)), np.full((64, 64), np.nan)):
        assert np.isnan(decorrelation(image, PIXEL).resolution_um)
    with pytest.raises(DataError, match="at least 60"):
        decorrelation(np.zeros((50, 80)), PIXEL)
