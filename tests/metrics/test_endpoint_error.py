"""End-point error of displacement fields."""

import numpy as np
import pytest

from nstm.acquisition import DataError
from nstm.metrics import endpoint_error


def test_known_difference():
    truth = np.zeros((2, 4, 4))
    estimated = truth + np.array([3.0, 4.0])[:, None, None]
    assert endpoint_error(estimated, truth) == {"mean": 5, "rms": 5, "median": 5, "max": 5, "known": 1}


def test_weights_and_unknown_places():
    truth = np.zeros((2, 1, 4))
    estimated = truth.copy()
    estimated[0, 0] = [1, 2, np.nan, 100]
    found = endpoint_error(estimated, truth, weight=np.array([[1, 1, 2, 0]]))
    assert found["mean"] == pytest.approx(1.5)
    assert found["rms"] == pytest.approx(np.sqrt(2.5))
    assert found["known"] == pytest.approx(0.5)


def test_nothing_known():
    found = endpoint_error(np.full((2, 3, 3), np.nan), np.zeros((2, 3, 3)))
    assert found["known"] == 0
    assert np.isnan(found["mean"])


def test_shapes_must_fit():
    with pytest.raises(DataError, match="shapes"):
        endpoint_error(np.zeros((2, 3, 3)), np.zeros((2, 4, 3)))
