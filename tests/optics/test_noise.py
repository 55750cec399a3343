"""The noise of a frame, where bright and dark places have different noise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from nstm.optics.noise import noise_at_most, noise_variance
from nstm.simulate import SimMicroscope, er_network, simulate_sim, still, structure_area


@pytest.mark.parametrize("photons", [60.0, 2000.0])
@pytest.mark.parametrize("seed", [5, 8])  # the middle of the field is darker, or brighter, than its border
def test_noise_of_an_unevenly_bright_field(photons: float, seed: int) -> None:
    microscope = dataclasses.replace(SimMicroscope(), shape=(64, 64), photons=photons)
    recording = simulate_sim(er_network(seed, structure_area(microscope)), still(), microscope, 1, seed)
    frames = recording.frames[0].astype(np.float32) - microscope.offset
    true = np.mean((frames - recording.clean[0]) ** 2)
    found = noise_variance(frames, microscope.pixel_um, microscope.cutoff)
    assert found is not None
    # 9 frames of about 1000 coefficients: 1.5 % standard error; the rest is signal leaking from the edges
    assert np.mean(found) == pytest.approx(true, rel=0.06)


def test_no_estimate_where_the_camera_samples_coarsely() -> None:
    assert noise_variance(np.ones((64, 64), np.float32), 0.1, 7.0) is None


@pytest.mark.parametrize("rows", [1, 2, 3, 64])
def test_the_most_that_the_noise_can_be_is_known_of_any_frame(rows: int) -> None:
    noise = np.random.default_rng(0).normal(scale=3.0, size=(20, rows, 400)).astype(np.float32)
    assert noise_at_most(noise).mean() == pytest.approx(9, rel=0.1)  # 20 frames of 40 coefficients or more
    smooth = 100 * np.sin(np.arange(400) / 10)  # what is transferred well below the highest frequencies
    assert noise_at_most(noise + smooth.astype(np.float32)).mean() == pytest.approx(9, rel=0.1)
