"""No wrong match passes: recordings of all families, and noise and samples without any pattern."""

import numpy as np
import pytest

from nstm.illumination.sim import estimate
from nstm.simulate.families import FAMILIES, draw, patternless

from .sim_frames import OPTICS

#: Error of the finest order's vector, frequency bins, from which on another match than the pattern was found.
WRONG_BINS = 0.5
PLANES = [name for name in FAMILIES if "planes" not in FAMILIES[name]]


def _without_pattern(seed):
    beams = 2 + seed // 3 % 2
    found = estimate(patternless(seed, phases=2 * beams - 1, side=96), beams=beams, **OPTICS)
    return [f"seed {seed}, orientation {a}" for a, status in enumerate(found["angle_status"]) if status == "pass"]


def _with_pattern(seed):
    family = PLANES[seed // 2 % len(PLANES)]
    recording = draw(family, seed, side=96)
    m = recording.microscope
    frames = recording.frames[0].astype(np.float32) - m.offset
    found = estimate(
        frames, beams=m.beams, pixel_um=m.pixel_um, na=m.na, emission_wavelength_um=m.emission_wavelength_um
    )
    wrong = np.array(found["pattern_vectors"]) - recording.calibration["pattern_vectors"]
    bins = (m.beams - 1) * np.hypot(*(wrong * found["field_um"]).T)
    return [
        f"{family}, seed {seed}, orientation {a}: {bins[a]:.2f} bins"
        for a, status in enumerate(found["angle_status"])
        if status == "pass" and bins[a] > WRONG_BINS
    ]


def _passed_wrongly(draws):
    return [case for seed in draws for case in (_without_pattern if seed % 2 else _with_pattern)(seed)]


def test_no_wrong_match_passes_in_a_few_draws():
    assert _passed_wrongly(range(20)) == []


@pytest.mark.soak
@pytest.mark.parametrize("block", range(10))
def test_no_wrong_match_passes(block):
    assert _passed_wrongly(range(100 + 20 * block, 120 + 20 * block)) == []
