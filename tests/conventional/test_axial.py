"""Planes to axial frequencies: a stack cut out of a thicker sample is continued as the transfer function demands."""

import numpy as np
import pytest

from nstm.conventional.axial import AxialTransform, axial_axis
from nstm.optics.lens import Lens

LENS = Lens(
    na=1.4, emission_wavelength_um=0.515, pixel_um=0.08, index=1.518, excitation_wavelength_um=0.488, z_step_um=0.125
)


def _transform(planes, order):
    def otf(depth):
        return LENS.otf(depth, 2, 2.3)

    axis = axial_axis(planes, LENS.z_step_um, otf)
    radius = np.array([[0.0, 1.5, 3.0, 9.0]])
    return axis, AxialTransform(axis, otf(axis.depth), order, radius, 0.1), radius


@pytest.mark.parametrize("order", [0, 1])
def test_planes_of_a_thick_sample_come_back(order):
    """A random sample through the transfer function of a long stack, of which twelve planes are recorded."""
    rng = np.random.default_rng(4)
    axis, transform, radius = _transform(12, order)
    table = LENS.otf(96, 2, 2.3)(order, radius)  # (kz, 1, 4)
    sample = rng.normal(size=(96, 200)) + 1j * rng.normal(size=(96, 200))
    for column in (1, 2):
        light = np.fft.ifft(sample * table[:, 0, column, None], axis=0)
        recorded = np.zeros((12, 1, 4, 200), complex)
        recorded[:, 0, column] = light[:12]
        spectra = np.stack([transform(recorded[..., i]) for i in range(200)], axis=-1)
        planes = np.tensordot(axis.to_planes, spectra, 1)[:, 0, column]
        # the response of a full stack is a little below 1, so planes are compared after the best gain
        gain = np.vdot(planes, light[:12]).real / np.vdot(planes, planes).real
        left = np.mean(np.abs(gain * planes - light[:12]) ** 2) / np.mean(np.abs(light[:12]) ** 2)
        assert 1.0 < gain < 1.3
        assert left < 0.02


def test_beyond_the_cutoff_there_is_nothing():
    _, transform, radius = _transform(8, 0)
    box = np.ones((8, *radius.shape), np.complex64)
    assert np.all(transform(box)[..., 3] == 0)
    assert np.all(transform.response[..., 3] == 0)
    assert transform.response.max() <= 1


def test_a_single_plane_has_one_axial_frequency():
    axis = axial_axis(1, 0.0, lambda depth: LENS.otf(depth, 2, 2.3))
    assert (axis.depth, axis.reach) == (1, 0)
