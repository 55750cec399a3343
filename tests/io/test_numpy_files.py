"""NumPy files as recordings: arrays of frames, the one that is named, never pickled."""

import numpy as np
import pytest

from nstm.acquisition import DataError
from nstm.io import open_acquisitions
from nstm.io.files import open_recording
from nstm.io.protocol import PositionUnknown

FRAMES = np.random.default_rng(0).normal(size=(2, 9, 12, 10)).astype(np.float32)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_named_array_of_an_archive(tmp_path, sim, save, order):
    save(tmp_path / "a.npz", img=np.asarray(FRAMES, order=order), s=np.zeros((4, 12, 10)), t=np.arange(4.0))
    found = open_acquisitions(tmp_path / "a.npz", sim(), position="img")
    np.testing.assert_array_equal(found["frames"].values, FRAMES.reshape(2, 3, 3, 1, 12, 10))
    with pytest.raises(PositionUnknown, match=r"give `position`, one of 0: 'img', 1: 's'$") as refused:
        open_recording(tmp_path / "a.npz")
    assert refused.value.positions == ("img", "s")


@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">u2", "uint8"])
def test_an_array_by_itself(tmp_path, dtype):
    values = (1000 * np.abs(FRAMES[0])).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    recording = open_recording(tmp_path)
    assert recording.axes == {"I": 9}
    np.testing.assert_array_equal(recording.read_plane(7), values[7])
    np.save(tmp_path / "a.npy", values[0])
    assert open_recording(tmp_path / "a.npy").axes == {}


def test_objects_are_never_loaded_and_other_archives_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", img=np.array([FRAMES, None], dtype=object))
    with pytest.raises(DataError, match=r"a\.npz: no array \(\.\.\., y, x\) of plain numbers"):
        open_recording(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", np.array([None]))
    with pytest.raises(DataError, match=r"b\.npy: .*pickled"):
        open_recording(tmp_path / "b.npy")
    np.savez(tmp_path / "c.npz", Hp=np.zeros((4, 5, 5), complex), t=np.arange(3.0))
    with pytest.raises(DataError, match=r"it holds Hp .* complex128"):
        open_recording(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", img=FRAMES)
    (tmp_path / "d.npz").write_bytes((tmp_path / "d.npz").read_bytes()[:900])
    with pytest.raises(DataError, match=r"d\.npz"):
        open_recording(tmp_path / "d.npz")
