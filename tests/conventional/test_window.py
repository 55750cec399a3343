"""The centred moving window."""

import numpy as np
import pytest

from nstm.acquisition import DataError
from nstm.conventional.window import windows
from nstm.io.order import plane_order


def _times(acquisitions, blocks, step=0.1, wait=0.1):
    start = np.arange(acquisitions) * (step * (blocks - 1) + wait)
    return start[:, None] + np.arange(blocks) * step


@pytest.mark.parametrize("acquisitions", [1, 2, 5])
def test_three_orientations_give_3t_minus_2(acquisitions):
    found = windows(_times(acquisitions, 3), 3)
    assert len(found) == 3 * acquisitions - 2
    assert found.mixed is (acquisitions > 1)
    for w in found:
        assert [b for _, b in w.members] == [0, 1, 2]
        assert w.centre in w.members
    times = [w.time_s for w in found]
    np.testing.assert_allclose(np.diff(times), 0.1, atol=1e-9)
    assert found[0].centre == (0, 1)
    assert found[0].time_s == pytest.approx(0.1)


def test_members_of_a_mixed_window():
    second = windows(_times(2, 3), 3)[1]
    assert second.members == [(1, 0), (0, 1), (0, 2)]
    assert second.centre == (0, 2)


def test_a_step_leaves_results_out():
    times = np.arange(60.0).reshape(3, 20)
    found = windows(times, 20, 2)
    assert len(found) == (60 - 20) // 2 + 1
    np.testing.assert_allclose([w.time_s for w in found], 9.5 + 2 * np.arange(21))
    assert {len(w.members) for w in found} == {20}


def test_the_note_says_why_acquisitions_are_not_mixed_and_how_long_a_window_is():
    times = np.arange(60.0).reshape(3, 20)
    assert "resolution is that of a whole acquisition." in windows(times, 20).explanation
    assert "resolution is that of 4 of the 20 blocks of an acquisition." in windows(times, 4).explanation
    far = windows(times, 20, 50)
    assert not far.mixed
    assert far.explanation == "Windows lie within their acquisition: in steps of 50 blocks none holds blocks of two."
    assert "One acquisition" in windows(times[:1], 20).explanation


def test_long_wait_keeps_acquisitions_apart():
    found = windows(_times(4, 3, wait=1.0), 3)
    assert len(found) == 4
    assert not found.mixed
    assert [w.centre for w in found] == [(t, 1) for t in range(4)]
    assert "not mixed" in found.explanation


def test_slightly_longer_wait_is_tolerated_and_a_single_pause_splits():
    assert windows(_times(3, 3, wait=0.105), 3).mixed
    times = _times(4, 3)
    times[2:] += 5
    found = windows(times, 3)
    assert len(found) == 2 * 4
    assert "1 place" in found.explanation
    assert all({t for t, _ in w.members} <= {0, 1} or {t for t, _ in w.members} <= {2, 3} for w in found)


def test_widefield_has_one_result_per_block():
    found = windows(_times(3, 3, wait=1.0), 1)
    assert len(found) == 9
    assert not found.mixed
    assert found[4].members == [(1, 1)]


def test_even_window_takes_the_later_middle():
    found = windows(_times(2, 4), 4)
    assert len(found) == 5
    assert found[0].centre == (0, 2)
    assert found[0].time_s == pytest.approx(0.15)


def test_blocks_taken_in_another_order():
    found = windows(_times(1, 3)[:, [2, 0, 1]], 3)
    assert len(found) == 1
    assert found[0].centre == (0, 2)  # the block taken in the middle
    assert found[0].members == [(0, 0), (0, 1), (0, 2)]


def test_single_block_acquisitions():
    assert len(windows([[0.0], [1.0]], 1)) == 2


@pytest.mark.parametrize("window", [0, 4])
def test_impossible_windows_are_refused(window):
    with pytest.raises(DataError, match="blocks"):
        windows(_times(2, 3), window)


def test_changing_order_is_refused():
    times = _times(2, 3)
    times[1] = times[1, ::-1]
    with pytest.raises(DataError, match="order"):
        windows(times, 3)


@pytest.mark.parametrize(("patterns", "dropped", "results"), [(20, 19, 1), (13, 0, 14), (39, 0, 10)])
def test_a_video_loses_frames_beyond_its_last_whole_acquisition(patterns, dropped, results):
    """As docs/speckle.md says it of 39 frames, windows of 20 or of an acquisition, and a step of 2."""
    order = plane_order(39, ("t", "pattern"), {"pattern": patterns}, 1)
    found = windows(_times(order.axes["t"], patterns), min(20, patterns), 2)
    assert (order.dropped, len(found)) == (dropped, results)
