import numpy as np
import pytest

from nstm.pipeline.counts import MOST_PIXELS, MOST_PLANES, chosen_planes, count_range


def _range(data, saturation=None):
    return count_range(lambda i: data[i], len(data), data.shape[1:], saturation)


def test_figures_of_few_planes_are_those_of_all_pixels():
    data = np.random.default_rng(0).integers(90, 4000, (9, 30, 40)).astype(np.uint16)
    found = _range(data)
    assert found["planes"] == list(range(9))
    assert (found["min"], found["max"]) == (data.min(), data.max())
    low, median, high = np.percentile(data, [0.1, 50, 99.9])
    assert (found["low"], found["median"], found["high"]) == (low, median, high)
    assert found["bits"] == pytest.approx(np.log2(high - low + 1), abs=0.05)
    assert (found["full_value"], found["full_percent"], found["nan_percent"]) == (65535, 0, 0)


def test_full_pixels_are_counted_at_the_limit_of_camera_or_type():
    data = np.full((4, 10, 10), 7, np.uint16)
    data[0, :2] = 4095
    data[1, 0, 0] = 65535
    assert _range(data)["full_percent"] == pytest.approx(100 / 400)
    found = _range(data, saturation=4095)
    assert (found["full_value"], found["full_percent"]) == (4095, pytest.approx(100 * 21 / 400))


@pytest.mark.parametrize(("shift", "bits"), [(0, 8.0), (4, 8.0), (8, 8.0)])
def test_bits_that_are_always_zero_are_not_used(shift, bits):
    data = (np.arange(256, dtype=np.uint16) << shift).reshape(1, 16, 16)
    assert _range(data)["bits"] == pytest.approx(bits, abs=0.05)


def test_constant_planes_use_no_bits():
    assert _range(np.full((3, 5, 5), 100, np.uint8))["bits"] == 0


def test_real_numbers_have_no_bits_and_may_be_missing():
    data = np.linspace(0, 1, 200, dtype=np.float32).reshape(2, 10, 10)
    data[1, 0, :5] = np.nan
    found = _range(data)
    assert (found["bits"], found["full_value"], found["full_percent"]) == (None, None, None)
    assert found["nan_percent"] == pytest.approx(2.5)
    assert found["max"] == 1
    nothing = _range(np.full((1, 4, 4), np.nan, np.float32))
    assert (nothing["min"], nothing["median"], nothing["nan_percent"]) == (None, None, 100)


def test_what_is_read_is_bounded_and_spread_from_first_to_last():
    assert len(chosen_planes(100_000, (64, 64))) == MOST_PLANES
    assert (chosen_planes(100_000, (64, 64))[0], chosen_planes(100_000, (64, 64))[-1]) == (0, 99_999)
    assert chosen_planes(5, (64, 64)) == [0, 1, 2, 3, 4]
    large = (16384, 16384)
    assert len(chosen_planes(1000, large)) * large[0] * large[1] <= max(MOST_PIXELS, large[0] * large[1])
    read = []
    count_range(lambda i: read.append(i) or np.zeros((8, 8), np.uint8), 5000, (8, 8))
    assert len(read) == MOST_PLANES
