"""Frames that are tiles of one large image."""

import numpy as np
import pytest
import tifffile

from nstm.acquisition import DataError
from nstm.io import open_acquisitions


def write(path, frames):
    """Frames ``(t, angle, phase, y, x)`` as one image per t: angles down the rows, phases along the columns."""
    t, angles, phases, height, width = frames.shape
    large = frames.transpose(0, 1, 3, 2, 4).reshape(t, angles * height, phases * width)
    tifffile.imwrite(path, large, photometric="minisblack")
    return path


def test_tiles_become_frames_whose_order_is_known(tmp_path, sim, stack):
    frames = stack(2, 3, 5)
    system = sim(order=None, phases=5)
    system.settings.frames.montage = "angle phase"
    found = open_acquisitions(write(tmp_path / "large.tif", frames), system)
    # the file only counts its images; that they are times follows from the montage holding a whole acquisition
    np.testing.assert_array_equal(found["frames"].values[:, :, :, 0], frames)
    assert found.attrs["source"]["order"] == "t angle phase"


@pytest.mark.parametrize(
    ("montage", "words"),
    [("angle", "two of angle, phase"), ("angle t", "two of angle, phase"), ("phase angle", "no montage of 5 x 3")],
)
def test_what_is_no_montage_is_refused(tmp_path, sim, stack, montage, words):
    system = sim(order=None, phases=5)
    system.settings.frames.montage = montage
    with pytest.raises(DataError, match=words):
        open_acquisitions(write(tmp_path / "large.tif", stack(1, 3, 5, size=(16, 24))), system)
