"""Presets: they fill gaps and nothing else, they are valid settings, and their numbers are those of their sources."""

import copy

import numpy as np
import pytest

from nstm.acquisition import DataError, computed_times
from nstm.illumination.sim import estimate
from nstm.io.order import parse_order
from nstm.systems.instruments import INSTRUMENTS, instrument, with_preset
from nstm.systems.sim import Sim, SimSettings
from tests.illumination.sim_frames import OPTICS, degrees, dots, lit_frames, vectors_at

NEEDED = {"optics": {"na": 1.4, "emission_wavelength_um": 0.525, "excitation_wavelength_um": 0.488}}


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_a_preset_completes_settings_that_are_valid_with_an_order_for_all_its_axes(name):
    settings = SimSettings.model_validate(with_preset({**NEEDED, "frames": {"planes": 7}}, name))
    axes = Sim(settings).frame_axes
    names = parse_order(settings.frames.order, axes, settings.frames.planes)
    assert set(names) >= {"t", "z", *(axis for axis, length in axes.items() if length > 1)}
    assert settings.frames.planes == 7


def test_what_the_settings_give_wins_and_only_empty_keys_are_filled():
    given = {**NEEDED, "illumination": {"phases": 7, "angles": None}, "frames": {"order": "t z angle phase"}}
    before = copy.deepcopy(given)
    merged = with_preset(given, "elyra")
    assert merged["illumination"] == {"angles": 3, "phases": 7, "beams": 3}
    assert merged["frames"]["order"] == "t z angle phase"
    assert merged["frames"]["orientation_delay_s"] == 0.3
    assert merged["optics"] == NEEDED["optics"]
    merged["optics"]["na"] = merged["frames"]["order"] = None
    assert given == before
    assert with_preset({}, "elyra")["frames"]["order"] == "t angle z phase"


def test_a_value_of_the_wrong_kind_is_left_for_the_settings_to_refuse():
    assert with_preset({"frames": "fast", "unknown": None}, "omx")["frames"] == "fast"
    assert "unknown" in with_preset({"unknown": None}, "omx")


def test_the_order_is_left_out_where_the_file_tells_it():
    frames = with_preset({}, "elyra", order=False)["frames"]
    assert "order" not in frames
    assert frames["exposure_s"] == 0.005


def test_an_unknown_instrument_is_refused_with_the_list_of_all():
    with pytest.raises(DataError, match=r"no instrument 'Elyra'.*elyra, omx, omx_fast, nsim, lattice"):
        instrument("Elyra")


def test_times_of_elyra_are_those_of_the_publication():
    settings = SimSettings.model_validate(with_preset(NEEDED, "elyra"))
    frames = settings.frames
    axes = {"angle": 3, "phase": 5, "z": 4}
    times = computed_times(
        2,
        axes,
        exposure_s=frames.exposure_s,
        delays_s=frames.delays_s(),
        interval_s=None,
        order=[n for n in frames.order.split() if n in axes],
    )
    phase, z, angle, t = np.arange(5), np.arange(4), np.arange(3), np.arange(2)
    # 5 ms exposures, 20 ms from phase to phase and plane to plane, 300 ms from orientation to orientation
    of_phase = phase * 0.025
    of_z = z * (0.025 + of_phase[-1])
    of_angle = angle * (0.305 + of_z[-1] + of_phase[-1])
    of_t = t * (0.305 + of_angle[-1] + of_z[-1] + of_phase[-1])
    start = of_t[:, None, None, None] + of_angle[:, None, None] + of_phase[:, None] + of_z
    np.testing.assert_allclose(times - times.min(), start, atol=1e-12)


def test_the_direction_of_phase_turns_the_sign_of_the_vector_and_leaves_the_light_as_it_is():
    rng = np.random.default_rng(5)
    k = vectors_at(4.3, [0.4])
    phases = 0.6 + 2 * np.pi * np.arange(5)[None] / 5
    frames = lit_frames(dots((128, 128), 1500, rng), k, phases, [[0.8]], rng)
    up, down = (estimate(f, beams=2, **OPTICS) for f in (frames, frames[:, ::-1]))
    assert (up["status"], down["status"]) == ("pass", "pass")
    np.testing.assert_allclose(up["pattern_vectors"], k, atol=0.01)
    np.testing.assert_allclose(down["pattern_vectors"], -k, atol=0.01)
    # the light of every frame: cos(2 pi k.r + phase) = cos(-2 pi k.r - phase)
    assert np.abs(degrees(np.array(up["phases"]) + np.array(down["phases"])[:, ::-1])).max() < 4
