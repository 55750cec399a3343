"""The simulated lensless camera: its pattern, a scene at rest, and what a moving one does to rows."""

import numpy as np
import pytest

from nstm.simulate.diffusercam import (
    LenslessCamera,
    bounce,
    caustics,
    seen,
    simulate_diffusercam,
    textured_disc,
)
from nstm.simulate.motion import still

LENS = LenslessCamera(shape=(32, 40), exposure_lines=3, read_noise=0.0)


def test_a_pattern_has_sharp_lines_and_all_light() -> None:
    made = caustics(3, (64, 80))
    assert made.sum() == pytest.approx(1, rel=1e-3)
    assert made.max() > 8 * made.mean()


def test_a_scene_at_rest_is_one_convolution() -> None:
    disc, psf = textured_disc(1, LENS.scene_shape, LENS.pixel_um), caustics(1, LENS.shape)[None]
    recording = simulate_diffusercam(disc, still(), LENS, psf, 1)
    frame = seen(recording.truth[0], psf, LENS.shape)
    assert recording.clean[0, 0] == pytest.approx(frame, rel=1e-3, abs=1e-3 * float(frame.max()))


def test_rows_that_are_read_first_show_the_beginning() -> None:
    disc, psf = textured_disc(1, LENS.scene_shape, LENS.pixel_um), caustics(1, LENS.shape)[None]
    recording = simulate_diffusercam(disc, bounce(LENS, 6.0, 1.0, 1), LENS, psf, 1)
    first, last = (
        seen(recording.truth[layers].mean(axis=0), psf, LENS.shape) for layers in (slice(3), slice(-3, None))
    )
    clean = recording.clean[0, 0]
    for rows, expected in (((0, -1), first), ((15, 16), last)):
        for row in rows:
            assert clean[:, row] == pytest.approx(expected[:, row], abs=1e-3 * float(clean.max()))
    assert np.abs(first - last).max() > 0.05 * clean.max()
    assert recording.times.shape == (1, 1, 1)
    assert recording.truth_times[1] - recording.truth_times[0] == pytest.approx(LENS.line_time_s)
