"""The transfer function in the data: as assumed where that is right, off where it is not."""

import numpy as np
import pytest

from nstm.illumination.sim import estimate
from nstm.illumination.transfer import seen_transfer
from nstm.visual.optics import transfer_figure

from .sim_frames import OPTICS, dots, lit_frames, vectors_at


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(5)
    phases = np.tile(2 * np.pi * np.arange(5) / 5, (2, 1))
    return lit_frames(dots((160, 192), 900, rng), vectors_at(2.3, [0.3, 1.7]), phases, [[0.8, 0.6]] * 2, rng, 1000.0)


def _off(frames, optics):
    """Mean distance of what is seen from what is assumed; every order is seen over most of the passband."""
    found = seen_transfer(frames, estimate(frames, beams=3, **optics), **optics)
    assert min(np.isfinite(one.seen).sum() for one in found) > 20
    return float(np.nanmean([np.abs(one.seen - one.assumed)[3:] for one in found]))


def test_the_right_transfer_is_seen_and_a_wrong_one_shows(frames):
    right, wrong = _off(frames, OPTICS), _off(frames, OPTICS | {"na": 1.3})
    assert right < 0.015
    assert wrong > 2 * right


def test_the_figure_has_a_line_and_dots_for_every_order(frames):
    figure = transfer_figure(seen_transfer(frames, estimate(frames, beams=3, **OPTICS), **OPTICS))
    assert len(figure.axes[0].lines) == 4
