"""A window of which too many frames are full has no result, says why, and stops nothing else."""

import numpy as np
import pytest

from nstm.acquisition import DataError
from nstm.blindsim.unrolled import Unrolled
from nstm.blindsim.weights import save_weights
from nstm.io.store import open_timelapse
from nstm.pipeline.conventional import run_conventional
from nstm.simulate.motion import still
from nstm.simulate.speckle import simulate_speckle
from nstm.simulate.structures import Area, er_network
from tests.pipeline.test_spoilt_frames import MICROSCOPE, checked

FULL = 4095.0


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Twelve frames, the last full in a corner; windows of six, a step of two, a network of six stacked frames."""
    folder = tmp_path_factory.mktemp("speckle")
    area = Area.of_field(MICROSCOPE.shape, MICROSCOPE.pixel_um, 1.2)
    recording = simulate_speckle(er_network(1, area, mesh_um=1.2, sheets=2), still(), MICROSCOPE, 1, seed=1)
    frames = recording.frames[:, :, None].copy()
    frames[0, 11, 0, :4, :4] = FULL
    save_weights(folder / "net.safetensors", Unrolled.new("stacked", 6, 2), 2, {})
    params = checked(
        folder,
        recording,
        frames,
        camera={"offset": MICROSCOPE.offset, "saturation": FULL},
        window={"frames": 6, "step": 2},
        solver={"methods": ["ubsim", "per_frame"], "weights": str(folder / "net.safetensors"), "iterations": 3},
    )
    return folder, params


def made(sample, product, **solver):
    folder, params = sample
    system = {**params["system"], "solver": {**params["system"]["solver"], **solver}}
    out = folder / f"{product}.ome.zarr"
    run_conventional({**params, "system": system}, folder / "raw.ome.zarr", folder / "illumination.json", product, out)
    return open_timelapse(out)


def test_only_the_window_with_a_full_frame_has_no_result(sample):
    found = made(sample, "conventional")
    assert np.isfinite(found.values).all(axis=(1, 2, 3, 4)).tolist() == [True, True, True, False]
    assert np.isnan(found.values[3]).all()
    flags = found.attrs["flags"]
    assert flags[:3] == ["", "", ""]
    assert flags[3] == ("1 of the 6 frames of this window are dead, damaged or full: the network takes 6 together")


@pytest.mark.parametrize("product", ["per_frame", "widefield"])
def test_others_go_on_without_the_frame(sample, product):
    assert np.isfinite(made(sample, product).values).all()


def test_a_network_of_other_windows_is_an_error_not_a_flag(sample):
    folder, _ = sample
    save_weights(folder / "five.safetensors", Unrolled.new("stacked", 5, 2), 2, {})
    with pytest.raises(DataError, match="trained for 5 stacked frames and cannot take 6"):
        made(sample, "conventional", weights=str(folder / "five.safetensors"))
