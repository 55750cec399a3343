"""The time axis that all stores of a sample share, and which results stand on it."""

import numpy as np
import pytest

from nstm.acquisition import computed_times, make_acquisitions
from nstm.pipeline.timeaxis import measured_at, place, time_axis
from nstm.systems.sim import Sim, SimSettings
from nstm.systems.speckle import Speckle
from nstm.systems.speckle_settings import SpeckleSettings

OPTICS = {"na": 1.4, "emission_wavelength_um": 0.515, "excitation_wavelength_um": 0.488, "pixel_um": 0.1}
SIM = Sim(SimSettings.model_validate({"optics": OPTICS}))


@pytest.fixture
def raw():
    times = computed_times(
        2, {"angle": 3, "phase": 3, "z": 1}, exposure_s=1.0, delays_s={}, interval_s=20.0, order=["angle", "phase", "z"]
    )
    frames = np.zeros((2, 3, 3, 1, 4, 4))
    return make_acquisitions(frames, times, ["angle", "phase"], pixel_um=0.1, time_origin="computed")


def test_orientations_are_the_mean_times_of_the_blocks(raw) -> None:
    axis = time_axis(raw, SIM, "orientations")
    assert axis.times_s == pytest.approx([1.5, 4.5, 7.5, 21.5, 24.5, 27.5])
    assert axis.block.tolist() == [0, 1, 2, 0, 1, 2]
    assert axis.of(1).tolist() == [3, 4, 5]


def test_frames_and_numbers_stay_within_the_acquisition(raw) -> None:
    assert time_axis(raw, SIM, "frames").times_s == pytest.approx([*np.arange(9) + 0.5, *np.arange(9) + 20.5])
    assert time_axis(raw, SIM, 3).times_s == pytest.approx([0.5, 4.5, 8.5, 20.5, 24.5, 28.5])
    assert time_axis(raw, SIM, 1).times_s == pytest.approx([4.5, 24.5])  # where a whole acquisition's result is


def test_results_stand_at_their_own_time_or_nowhere(raw) -> None:
    results = {(0, 1): 4.5, (1, 1): 24.5}
    assert place(time_axis(raw, SIM, "orientations"), results, 0.1) == {1: (0, 1), 4: (1, 1)}
    assert place(time_axis(raw, SIM, 1), results, 0.1) == {0: (0, 1), 1: (1, 1)}
    assert place(time_axis(raw, SIM, 2), results, 0.1) == {}


def test_windows_have_their_own_mean_times() -> None:
    """A window over the border of two acquisitions may stand between them, where neither has measured."""
    times = computed_times(
        2, {"pattern": 6, "z": 1}, exposure_s=1.0, delays_s={}, interval_s=None, order=["pattern", "z"]
    )
    raw = make_acquisitions(np.zeros((2, 6, 1, 4, 4)), times, ["pattern"], pixel_um=0.1, time_origin="computed")
    optics = {"na": 1.0, "emission_wavelength_um": 0.52}
    settings = {"optics": optics, "illumination": {"patterns": 6}, "window": {"step": 1}}
    system = Speckle(SpeckleSettings.model_validate(settings))
    axis = time_axis(raw, system, "windows")
    assert axis.times_s == pytest.approx(3.0 + np.arange(7))
    assert axis.times_s[3] == pytest.approx(times.ravel()[5:7].mean())
    assert measured_at(raw, system, axis).tolist() == [True, True, True, False, True, True, True]
