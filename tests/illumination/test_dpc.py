"""Background and order of DPC frames."""

import numpy as np
import pytest

from nstm.acquisition import DataError
from nstm.illumination.dpc import explained, intensity, over_background, over_lowpass
from nstm.optics.dpc import HalfDiscs, Lens, transfer_functions

ROTATIONS = (0, 90, 180, 270)


def transfer(shape=(64, 64)):
    return transfer_functions(HalfDiscs(ROTATIONS, 0.25), shape, 0.454, Lens(0.25, 0.525), "led")


def test_a_background_of_any_brightness_is_divided_out():
    images = np.random.default_rng(0).normal(scale=0.05, size=(4, 32, 40))
    light = np.linspace(500, 900, 40) * np.array([1, 2, 3, 4.0])[:, None, None]
    np.testing.assert_allclose(over_background((1 + images) * light, light), images, atol=1e-6)
    with pytest.raises(DataError, match="not positive"):
        over_background(images, light - 500)


def test_the_low_pass_follows_uneven_light_and_keeps_detail():
    y, x = np.indices((96, 96))
    detail = 0.1 * np.sin(2 * np.pi * x / 6) * np.sin(2 * np.pi * y / 6)
    frames = 1000 * (1 + 0.3 * x / 96)[None] * (1 + detail)
    found = over_lowpass(np.concatenate([frames, 3 * frames]), 0.5)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    np.testing.assert_allclose(found.mean((1, 2)), 0, atol=1e-6)
    inner = np.s_[28:68, 28:68]
    np.testing.assert_allclose(found[0][inner] - found[0][inner].mean(), detail[inner], atol=0.02)
    # a wider box leaves the light
    assert np.ptp(over_lowpass(frames, 1.0)[0].mean(0)) > np.ptp(over_lowpass(frames, 0.2)[0].mean(0))


@pytest.mark.parametrize("left", [1.0, 0.9985, 0.95, 0.6])
def test_a_decay_of_the_light_is_told_from_a_phase_that_rises_across_the_field(left):
    """Both change the means of the images: the phase by up to 0.4 %, with opposite signs for opposite sources."""
    rises = 0.004 * np.array([1, -0.6, -1, 0.6])  # of sources at 0, 90, 180, 270 degrees
    noise = np.random.default_rng(0).normal(scale=0.01, size=(4, 64, 64))
    light = left ** (np.arange(4) / 3)
    images = light[:, None, None] * (1 + rises[:, None, None] + noise) - 1
    expected = light if 1 - left > 0.002 else np.ones(4)
    # four means, each known to 0.01 / 64
    np.testing.assert_allclose(intensity(images, transfer()), expected, atol=1e-3)


def test_light_that_flickers_is_that_of_each_frame():
    images = np.array([1, 0.8, 1.1, 0.7])[:, None, None] * np.ones((4, 64, 64)) - 1
    np.testing.assert_allclose(intensity(images, transfer()), np.array([1, 0.8, 1.1, 0.7]) / 1.1, rtol=1e-6)
    np.testing.assert_allclose(intensity(images, None), np.array([1, 0.8, 1.1, 0.7]) / 1.1, rtol=1e-6)


@pytest.mark.parametrize("case", ["dpc64_static", "dpc64_swirl", "dpc_swirl"])
def test_the_order_of_the_sources_is_found_even_where_the_sample_moves(shared_cases, case):
    with np.load(shared_cases / "spacetime" / f"{case}.npz") as data:
        images = data["img"]
    functions = transfer(images.shape[1:])
    right = explained(images, functions)
    assert right["order"] == [0, 1, 2, 3]
    assert right["unexplained"] == right["order_unexplained"]
    wrong = explained(images[[0, 2, 1, 3]], functions)
    # all sources turned into their opposites explain as much
    assert wrong["order"] in ([0, 2, 1, 3], [1, 3, 0, 2], [3, 1, 2, 0])
    assert wrong["order_unexplained"] < 0.75 * wrong["unexplained"]
    np.testing.assert_allclose(wrong["order_unexplained"], right["unexplained"], rtol=1e-6)


def test_the_unexplained_share_is_the_residual_of_least_squares():
    rng = np.random.default_rng(0)
    images, functions = rng.normal(size=(4, 64, 64)), transfer()
    found = explained(images, functions)["unexplained"]
    window = np.hanning(64)[:, None] * np.hanning(64)
    spectra = np.fft.rfft2((images - images.mean((1, 2), keepdims=True)) * window)
    left = total = 0
    for index in np.ndindex(spectra.shape[1:]):
        h = np.stack([functions.absorption[(..., *index)], 1j * functions.phase[(..., *index)]], 1)
        s = spectra[(..., *index)]
        if np.sum(np.abs(h) ** 2) > 1e-2:
            sample = np.linalg.solve(h.conj().T @ h + 1e-2 * np.eye(2), h.conj().T @ s)
            left += np.vdot(s, s - h @ sample).real
            total += np.vdot(s, s).real
    np.testing.assert_allclose(found, left / total, rtol=1e-9)


def test_of_many_frames_two_that_changed_places_are_found():
    rotations = np.arange(6) * 60
    functions = transfer_functions(HalfDiscs(rotations, 0.25), (64, 64), 0.454, Lens(0.25, 0.525), "led")
    phase = np.random.default_rng(1).normal(size=(64, 64))
    images = np.fft.irfft2(1j * functions.phase * np.fft.rfft2(phase), s=(64, 64))
    order = [0, 4, 2, 3, 1, 5]
    assert explained(images[order], functions)["order"] == order
