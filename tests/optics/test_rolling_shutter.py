"""The rolling shutter against its closed form, and a sensor behind a diffuser against a direct convolution."""

import jax
import numpy as np
import pytest
from scipy.signal import fftconvolve

from nstm.acquisition import DataError
from nstm.optics.lensless import Diffuser, binned, prepared_psf
from nstm.optics.rolling_shutter import Blocks, Readout

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("rows", [20, 270])
@pytest.mark.parametrize("exposure", [3, 6, 11])
def test_rows_are_exposed_when_they_are_read(rows: int, exposure: int) -> None:
    shutter = Readout(rows, exposure).shutter()
    row, time = np.arange(rows), np.arange(rows // 2 + exposure - 1)[:, None]
    since = time - np.minimum(row, rows - 1 - row)
    assert np.array_equal(shutter, ((since >= 0) & (since < exposure)).astype(float))


def test_the_published_camera_has_140_layers() -> None:
    assert Readout(270, 6).layers == 140
    assert Readout(270, 6, lines_per_layer=2).layers == 70
    assert Readout(270, 6, dual=False).layers == 275


@pytest.mark.parametrize("per_layer", [1, 2, 3])
def test_a_row_sees_all_of_its_exposure(per_layer: int) -> None:
    shutter = Readout(30, 6, lines_per_layer=per_layer).shutter()
    assert shutter.sum(axis=0) == pytest.approx(6 / per_layer)


def test_dual_readout_needs_halves() -> None:
    with pytest.raises(DataError, match="271 rows"):
        Readout(271, 6)


@pytest.mark.parametrize("dual", [True, False])
def test_blocks_hold_every_row_once_and_join_again(dual: bool) -> None:
    readout = Readout(46, 4, dual)
    blocks = Blocks.of(readout, 10)
    assert sorted(blocks.row[blocks.present]) == list(range(46))
    frame = RNG.random((3, 46, 7))
    assert np.array_equal(blocks.joined(blocks.cut(frame), 46), frame)
    whole = np.zeros((46, readout.layers))
    for block in range(len(blocks.row)):
        halves = 2 if dual else 1
        share = np.tile(blocks.share[block], (halves, 1))[blocks.present[block]]
        whole[blocks.row[block][blocks.present[block]][:, None], blocks.layer[block]] = share
    assert whole == pytest.approx(readout.shutter().T / 4)


@pytest.mark.parametrize("scene", [(10, 12), (21, 16), (9, 7)])
def test_a_still_scene_is_convolved_and_cropped(scene: tuple[int, int]) -> None:
    psf, image = RNG.random((1, 22, 31)), RNG.random((2, *scene))
    seen = np.asarray(Diffuser(psf, scene).still(image))
    whole = np.stack([fftconvolve(plane, psf[0]) for plane in image])
    top, left = scene[0] // 2, scene[1] // 2
    assert seen == pytest.approx(whole[:, top : top + 22, left : left + 31], abs=2e-5)  # float32 transforms


def test_a_point_in_the_middle_gives_the_point_spread_function() -> None:
    psf = RNG.random((3, 16, 20))
    image = np.zeros((3, 8, 10))
    image[:, 4, 5] = 1
    assert np.asarray(Diffuser(psf, (8, 10)).still(image)) == pytest.approx(psf, abs=1e-5)


def test_rows_see_the_layers_that_expose_them() -> None:
    readout = Readout(20, 4)
    blocks = Blocks.of(readout, 4)
    diffuser = Diffuser(RNG.random((1, 20, 18)), (9, 10))
    video = RNG.random((readout.layers, 1, 9, 10)).astype(np.float32)
    each = np.asarray(jax.vmap(diffuser.still)(video))
    expected = np.einsum("tr,tcru->cru", readout.shutter() / 4, each)
    seen = np.stack(
        [
            diffuser.rows(video[layer], share, row)
            for layer, share, row in zip(blocks.layer, blocks.share, blocks.row, strict=True)
        ]
    )
    assert blocks.joined(seen, 20) == pytest.approx(expected, rel=1e-4)


def test_the_point_spread_function_is_cleaned_and_binned() -> None:
    psf = 100.0 + binned(RNG.random((3, 9, 8)) * [[[1]], [[2]], [[3]]], 1)
    ready = prepared_psf(psf, 100.0, 2)
    assert ready.shape == (3, 4, 4)
    assert ready.sum(axis=(1, 2)).max() == pytest.approx(1)
    with pytest.raises(DataError, match="no light"):
        prepared_psf(psf, 1e6, 2)
