"""Pixels averaged as a file is read, and colours that are taken at once."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from nstm.acquisition import DataError
from nstm.io.open import open_acquisitions
from nstm.simulate.demo import CASES, simulate_case
from nstm.systems.diffusercam import DiffuserCam, DiffuserSettings

RNG = np.random.default_rng(8)


def camera(colours=1, pixel_um=6.5, **frames):
    return DiffuserCam(
        DiffuserSettings.model_validate(
            {
                "optics": {"pixel_um": pixel_um},
                "frames": {"exposure_s": 0.01, "acquisition_interval_s": 0.1, **frames},
                "readout": {"line_time_s": 1e-4},
                "psf": {"path": "psf.tif"},
                "colours": colours,
            }
        )
    )


def test_pixels_are_averaged(tmp_path):
    frames = RNG.integers(0, 60000, (2, 27, 34)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", frames, photometric="minisblack")
    found = open_acquisitions(tmp_path / "a.tif", camera(binning=4))
    assert found.attrs["pixel_um"] == 26.0
    assert found["frames"].shape == (2, 1, 1, 1, 6, 8)
    expected = frames[:, :24, :32].reshape(2, 6, 4, 8, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(found["frames"].values[:, 0, 0, 0], expected, rtol=1e-6)
    cropped = open_acquisitions(tmp_path / "a.tif", camera(binning=4), crop="1:3,2:7")
    np.testing.assert_allclose(cropped["frames"].values[:, 0, 0, 0], expected[:, 1:3, 2:7], rtol=1e-6)
    with pytest.raises(DataError, match=r"27 x 34 pixels cannot be binned by 30"):
        open_acquisitions(tmp_path / "a.tif", camera(binning=30))


@pytest.mark.parametrize("suffix", ["png", "bmp"])
def test_colours_of_pictures_are_planes_of_one_time(tmp_path, suffix):
    pictures = RNG.integers(0, 255, (3, 12, 16, 3)).astype(np.uint8)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{number}.{suffix}")
    found = open_acquisitions(tmp_path / f"*.{suffix}", camera(3, order="t colour"))
    np.testing.assert_array_equal(found["frames"].values[:, 0, :, 0], np.moveaxis(pictures, -1, 1))
    np.testing.assert_allclose(found["time"].values[:, 0, :, 0], (0.005 + 0.1 * np.arange(3))[:, None].repeat(3, 1))


@pytest.mark.parametrize("case", ["diffusercam_small", "diffusercam_colour"])
def test_the_simulated_files_state_their_times(tmp_path, case):
    simulate_case(case, tmp_path / "a.ome.tif", tmp_path / "truth.ome.zarr")
    lens = CASES[case].microscope
    found = open_acquisitions(tmp_path / "a.ome.tif", camera(lens.colours, pixel_um=None))
    assert found.attrs["time_origin"] == "read"
    assert found.attrs["pixel_um"] == lens.pixel_um
    assert found["frames"].shape == (1, 1, lens.colours, 1, *lens.shape)
    np.testing.assert_allclose(found["time"].values, lens.exposure_s / 2)
