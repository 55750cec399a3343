"""Tikhonov inversion of DPC against a solve of every frequency by itself, and against known samples."""

import numpy as np
import pytest

from nstm.conventional.dpc import brightfield, tikhonov
from nstm.optics.dpc import HalfDiscs, Leds, Lens, transfer_functions

LENS, PIXEL = Lens(0.25, 0.525), 0.454
HALVES = HalfDiscs((0, 90, 180, 270), 0.25)


def score(image, truth):
    """PSNR in dB of the published figures: border of 1/8 cut, means removed, range of the truth."""
    cut = tuple(slice(n // 8, n - n // 8) for n in truth.shape)
    a, b = image[cut] - image[cut].mean(), truth[cut] - truth[cut].mean()
    return 10 * np.log10(np.ptp(b) ** 2 / np.mean((a - b) ** 2))


@pytest.mark.parametrize("weights", [(1e-4, 1e-4), (1e-1, 5e-3), (None, 1e-4)])
def test_it_equals_a_solve_of_every_frequency_by_itself(weights):
    leds = Leds([[(0.1, 0.02, 1), (0.05, -0.1, 2)], [(-0.03, 0.15, 1)], [(-0.2, -0.05, 1)], [(0.0, -0.2, 3)]])
    shape = (18, 21)
    transfer = transfer_functions(leds, shape, 0.7, LENS, "wave")
    images = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    found = tikhonov(images, transfer, absorption_weight=weights[0], phase_weight=weights[1])
    spectra, used = np.fft.rfft2(images.astype(np.float64)), [w for w in weights if w is not None]
    expected = np.zeros((len(used), shape[0], shape[1] // 2 + 1), complex)
    for index in np.ndindex(expected.shape[1:]):
        a, b = (t[(slice(None), *index)] for t in transfer)
        h = np.stack([a, 1j * b], axis=1)[:, -len(used) :]
        stacked = np.concatenate([h, np.diag(np.sqrt(used))])
        right = np.concatenate([spectra[(slice(None), *index)], np.zeros(len(used))])
        expected[(slice(None), *index)] = np.linalg.lstsq(stacked, right, rcond=None)[0]
    expected = np.fft.irfft2(expected, s=shape)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("coordinates", ["wave", "led"])
def test_a_bump_comes_back_with_its_sign(coordinates):
    transfer = transfer_functions(HALVES, (96, 96), PIXEL, LENS, coordinates)
    y, x = np.indices((96, 96))
    phase = np.exp(-((y - 40) ** 2 + (x - 50) ** 2) / 50)
    absorption = 0.3 * np.exp(-((y - 60) ** 2 + (x - 30) ** 2) / 50)
    spectra = transfer.absorption * np.fft.rfft2(absorption) + 1j * transfer.phase * np.fft.rfft2(phase)
    images = np.fft.irfft2(spectra, s=(96, 96))
    found = tikhonov(images, transfer, absorption_weight=1e-6, phase_weight=1e-6)
    np.testing.assert_allclose(found[0], absorption, atol=0.01)
    np.testing.assert_allclose(found[1] - found[1].mean(), phase - phase.mean(), atol=0.02)


@pytest.mark.parametrize(("case", "least"), [("dpc_swirl", 11.6), ("dpc_translation", 10.4), ("dpc64_swirl", 13.9)])
def test_published_cases_reach_the_published_figures(shared_cases, case, least):
    with np.load(shared_cases / "spacetime" / f"{case}.npz") as data:
        images, truth = data["img"], data["phase_gt"] / 0.525
    transfer = transfer_functions(HALVES, truth.shape[1:], PIXEL, LENS, "led")
    phase = tikhonov(images, transfer, absorption_weight=1e-4, phase_weight=1e-4)[1]
    # the samples move, the image does not
    assert least < np.mean([score(phase, t) for t in truth]) < least + 0.5


def test_a_sample_at_rest_is_recovered(shared_cases):
    with np.load(shared_cases / "spacetime" / "dpc64_static.npz") as data:
        images, truth = data["img"], data["phase_gt"] / 0.525
    transfer = transfer_functions(HALVES, truth.shape[1:], PIXEL, LENS, "led")
    phase = tikhonov(images, transfer, absorption_weight=None, phase_weight=1e-4)[0]
    assert score(phase, truth[0]) > 20


def test_bright_field_is_the_mean_over_the_sources():
    images = np.stack([np.full((4, 5), v) for v in (0.1, 0.3, -0.2, 0.0)])
    np.testing.assert_allclose(brightfield(images), 1.05, rtol=1e-6)
