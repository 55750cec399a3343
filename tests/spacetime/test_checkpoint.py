"""Fits that are asked to stop, and checkpoints that were damaged: the same numbers as if nothing had happened."""

import jax
import numpy as np
import pytest

import nstm
from nstm.settings import Reconstruction
from nstm.spacetime.checkpoint import CheckpointError, Progress, Stopped, read_checkpoint, write_checkpoint
from tests.spacetime.test_reconstruct import recorded

FEW = Reconstruction.model_validate(
    {"steps": 60, "starts": 2, "sliding": False, "padding_px": 4, "multigrid": {"scene_levels": 3}}
)


def progress(step):
    return Progress(([np.full(50, float(step))], [np.zeros(50)]), step, [np.ones((step, 2))])


def read(path):
    return read_checkpoint(path, "mark", ([np.zeros(50)], [np.zeros(50)]), [], None)


@pytest.mark.parametrize("damage", ["cut", "bit", "absent"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, capsys, damage):
    path = tmp_path / "new" / "fit.npz"
    for step in (20, 40):
        write_checkpoint(path, "mark", progress(step))
    assert read(path).step == 40
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "bit":
        content[content.index(np.full(50, 40.0).tobytes()) + 77] ^= 1  # within the coefficients
        path.write_bytes(content)
    else:
        path.unlink()
    found = read(path)
    assert found.step == 20
    np.testing.assert_array_equal(found.state[0][0], 20.0)
    assert ("is damaged" in capsys.readouterr().err) == (damage != "absent")
    for content in (b"torn", b""):
        for place in path.parent.iterdir():
            place.write_bytes(content)
        with pytest.raises(CheckpointError, match="no checkpoint"):
            read(path)


def test_a_reconstruction_that_is_stopped_goes_on_and_does_not_repeat_finished_starts(tmp_path):
    system, frames, times, known = recorded((0, 4), noise=0.1)  # lost by either start at this noise
    whole = nstm.reconstruct(system, frames, times, FEW, calibration=known)
    asked = []

    def in_the_second_start():
        asked.append(1)
        return len(asked) == 4

    options = {"calibration": known, "checkpoint": tmp_path / "kept"}
    with pytest.raises(Stopped, match=r"step 20 of 60.*start-1\.npz"):
        nstm.reconstruct(system, frames, times, FEW, stop=in_the_second_start, **options)
    dispatches = []
    again = nstm.reconstruct(system, frames, times, FEW, stop=lambda: bool(dispatches.append(1)), **options)
    assert len(dispatches) == 2  # of the second start; the first was finished
    for one, other in zip(jax.tree.leaves(whole.parameters), jax.tree.leaves(again.parameters), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(whole.residual, again.residual)
    assert whole.settings == again.settings
