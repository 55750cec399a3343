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


@pytest.mark.parametrize("flips", [["y"], ["x"], ["y", "x"]])
def test_tiles_of_a_turned_file_keep_their_places(tmp_path, sim, stack, flips):
    """The montage is described as it looks; a file that stores it turned gives the same frames."""
    frames = stack(2, 3, 5)
    system = sim(order=None, phases=5)
    system.settings.frames.montage, system.settings.frames.flips = "angle phase", flips
    path = write(tmp_path / "large.tif", frames)
    turned = np.flip(tifffile.imread(path), [1 + "yx".index(axis) for axis in flips])
    tifffile.imwrite(path, turned, photometric="minisblack")
    np.testing.assert_array_equal(open_acquisitions(path, system)["frames"].values[:, :, :, 0], frames)


def test_the_time_of_a_large_image_is_that_of_its_time_point(tmp_path, sim, stack):
    frames = stack(3, 3, 3)
    path = write(tmp_path / "large.ome.tif", frames)
    plane = {"DeltaT": [10.0, 11.5, 14.5]}
    tifffile.imwrite(path, tifffile.imread(path), ome=True, metadata={"axes": "TYX", "Plane": plane})
    system = sim(order=None, exposure_s=0.02)
    system.settings.frames.montage = "angle phase"
    times = open_acquisitions(path, system)["time"].values
    np.testing.assert_allclose(np.diff(times[:, 0, 0, 0]), [1.5, 3])
    np.testing.assert_allclose(np.diff(times[0].ravel()), 0.02)
