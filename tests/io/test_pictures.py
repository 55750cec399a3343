"""PNG and BMP: sets of pictures as the frames of a recording, without loss or not at all."""

import pickle

import numpy as np
import pytest
from PIL import Image

from nstm.acquisition import DataError
from nstm.io import open_acquisitions
from nstm.io.files import open_recording


@pytest.mark.parametrize(("ending", "dtype"), [(".png", np.uint8), (".png", np.uint16), (".bmp", np.uint8)])
def test_a_set_of_pictures_is_a_recording(tmp_path, sim, stack, ending, dtype):
    frames = (stack(18, size=(9, 13)) % 256).astype(dtype) * dtype(1 if dtype == np.uint8 else 200)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"frame{number}{ending}")
    found = open_acquisitions(tmp_path / f"frame*{ending}", sim())
    assert found["frames"].dtype == dtype
    np.testing.assert_array_equal(found["frames"].values, frames.reshape(2, 3, 3, 1, 9, 13))
    again = pickle.loads(pickle.dumps(open_recording(tmp_path)))
    np.testing.assert_array_equal(again.read_plane(11), frames[11])


def test_colours_are_channels(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (5, 6, 3)).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "a.png")
    recording = open_recording(tmp_path / "a.png")
    assert recording.axes == {"C": 3}
    assert recording.headers[0].channels == ("red", "green", "blue")
    np.testing.assert_array_equal(recording.read_plane(1), colours[..., 1])


def test_pictures_beside_a_recording_do_not_count(tmp_path, stack):
    import tifffile

    tifffile.imwrite(tmp_path / "raw.tif", stack(3), photometric="minisblack")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a_preview.png")
    np.save(tmp_path / "sources.npy", np.zeros((4, 8, 8)))
    assert [h.format for h in open_recording(tmp_path).headers] == ["TIFF"]


def test_what_would_lose_something_or_is_damaged_is_refused(tmp_path):
    grey = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    with pytest.raises(DataError, match=r"palette\.png: colours of the kind P"):
        open_recording(tmp_path / "palette.png")
    for ending in ("png", "bmp"):
        path = tmp_path / f"cut.{ending}"
        Image.fromarray(grey).save(path)
        content = path.read_bytes()
        for length in (20, len(content) // 2, len(content) - 30):
            path.write_bytes(content[:length])
            with pytest.raises(DataError, match=rf"cut\.{ending}"):
                open_recording(path)
    path = tmp_path / "cut.png"
    Image.fromarray(grey).save(path)
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cut\.png"):
        open_recording(path).read_plane(0)
    with pytest.raises(DataError, match="holds one image"):
        open_recording(path, "2")
