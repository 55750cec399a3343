"""The default settings find the motion of samples that nobody tuned them to."""

from __future__ import annotations

import pytest

from benchmarks.robustness import judged, judged_side_by_side, listed

CASES = {case.name: case for case in listed()}
#: Below 2 px between neighbouring frames, a few seconds each; parts that slide far along a line and dim local
#: deformation are lost as yet (docs/results.md) and stand in the whole list only.
TEN = [
    "two_beam-64-filaments-60-static-0-2",
    "two_beam-64-er-60-translation-8-4",
    "two_beam-64-er-300-rotation-5-7",
    "two_beam-64-filaments-300-shear-0.1-10",
    "two_beam-64-er-300-swirl-1.2-13",
    "two_beam-64-filaments-300-vibration-1-18",
    "dpc-64-cells-2500-translation-5-65",
    "dpc-64-cells-10000-rotation-4-67",
    "dpc-64-cells-10000-flow-3-77",
    "three_beam-64-er-300-translation-8-45",
]


def test_the_list_is_of_the_size_that_it_claims() -> None:
    assert len(CASES) == sum(1 for _ in listed()) <= 120
    small = [case for case in CASES.values() if case.side in (64, 128)]
    assert len(small) > 0.7 * len(CASES)


@pytest.mark.parametrize("name", TEN)
def test_the_motion_is_found(name: str) -> None:
    result = judged(CASES[name])
    assert result.found, f"{result.found_db:.1f} dB, given the motion {result.given_db:.1f} dB"
    assert result.residual < 1, "a fit that explains the frames takes a little of the noise for structure"


@pytest.mark.soak
def test_most_motions_below_two_pixels_per_frame_are_found() -> None:
    slow = [result for result in judged_side_by_side(CASES.values(), jobs=2) if result.interval_px < 2]
    lost = [result.case.name for result in slow if not result.found]
    # 5 of 66: what slides along a sharp line, small eddies, and local deformation in dim light (docs/results.md)
    assert len(lost) <= 0.08 * len(slow), f"lost: {', '.join(lost)}"
    passed = [result.case.name for result in slow if not result.found and result.verdict == "pass"]
    assert len(passed) <= 1, f"lost, and nothing says so: {', '.join(passed)}"
