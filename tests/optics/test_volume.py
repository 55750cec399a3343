"""The transfer function of a volume."""

import numpy as np
import pytest

from nstm.optics.otf import incoherent_otf
from nstm.optics.volume import axial_frequency, volume_otf

LENS = {"na": 0.8, "index": 1.33, "wavelength_um": 0.525}


def test_all_axial_frequencies_together_are_the_focal_plane():
    radius = np.linspace(0, 3.2, 40)
    in_focus = volume_otf(1, 64, 0.2, **LENS)(0, radius).mean(axis=0)
    expected = incoherent_otf(radius, 0.8, 0.525)
    # the scalar pupil with the sine condition weighs its rim more than the flat one
    np.testing.assert_allclose(in_focus / in_focus[0], expected, atol=0.06)


def test_nothing_outside_the_support():
    planes, step = 64, 0.2
    radius = np.array([0.0, 0.5, 1.0, 2.0, 2.8])
    transfer = np.abs(volume_otf(1, planes, step, **LENS)(0, radius))
    kz = np.abs(np.fft.fftfreq(planes, step))
    n, alpha = 1.33 / 0.525, np.arcsin(0.8 / 1.33)
    for column, r in enumerate(radius):
        beta = np.arcsin(np.clip((0.8 - r * 0.525) / 1.33, -1, 1))
        limit = n * (np.cos(beta) - np.cos(alpha))
        beyond = kz > limit + 2.5 / (planes * step)
        assert transfer[beyond, column].max() < 0.02 * max(transfer[:, 0].max(), 1e-9)
    assert transfer[0, 0] == pytest.approx(1)


def test_an_axial_pattern_shifts_the_transfer_to_both_sides():
    planes, step = 80, 0.1
    axial = 10 / (planes * step)  # ten steps of frequency
    plain = volume_otf(1, planes, step, **LENS)(0, np.array([1.5]))[:, 0]
    shifted = volume_otf(2, planes, step, **LENS, axial=axial)(1, np.array([1.5]))[:, 0]
    np.testing.assert_allclose(shifted, (np.roll(plain, 10) + np.roll(plain, -10)) / 2, atol=1e-5)


def test_the_axial_frequency_of_three_beams():
    p, n, wavelength = 2.0, 1.5, 0.5
    beta = np.arcsin(p * wavelength / n)
    assert axial_frequency(p, n, wavelength) == pytest.approx(n / wavelength * (1 - np.cos(beta)))
    with pytest.raises(ValueError, match="cannot be projected"):
        axial_frequency(3.1, n, wavelength)
