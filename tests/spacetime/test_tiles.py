"""Fields fitted in tiles: the geometry, the memory that asks for it, and agreement with the fit of the whole field."""

import dataclasses
import importlib

import jax.numpy as jnp
import numpy as np
import pytest

import nstm
from nstm.acquisition import DataError
from nstm.optics.grids import samples
from nstm.settings import Reconstruction, override
from nstm.spacetime.tiles import SMALLEST_PX, Tiles, plan, tiling
from nstm.systems.sim import Sim
from tests.systems.test_sim import calibration, settings

SIDE, TILE = 80, 48
PIXEL = 0.065
TIMES = 0.02 * np.arange(9.0).reshape(3, 3, 1)


@pytest.mark.parametrize(
    ("field", "tile", "ratio"),
    [((120, 100), 72, 2.0), ((128, 96), 64, 1.6), ((81, 81), 50, 2.0), ((100, 300), 100, 1), ((101, 103), 52, 1.5)],
)
def test_tiles_have_one_shape_cover_the_field_and_weigh_one_everywhere(field, tile, ratio):
    tiles = tiling(field, tile, ratio)
    assert max(tiles.shape) <= tile
    assert len(tiles.corners) > 1
    total = np.zeros([samples(n, ratio) for n in field])
    for weight, place in zip(tiles.weights(ratio), tiles.places(ratio), strict=True):
        total[place] += weight
        assert weight.min() >= 0
    np.testing.assert_allclose(total, 1, atol=1e-6)  # float32
    for corner in np.ravel(tiles.corners):
        np.testing.assert_allclose(corner * ratio, round(corner * ratio), atol=1e-9)


@pytest.mark.parametrize("ratio", [1.6, 1.4709])
def test_a_field_of_one_tile_is_the_field(ratio):
    tiles = tiling((81, 60), 81, ratio)
    assert (tiles.shape, tiles.corners, tiles.overlap_px) == ((81, 60), ((0, 0),), np.inf)
    np.testing.assert_array_equal(tiles.weights()[0], 1)


def test_tiles_that_cannot_lie_on_both_grids_are_refused():
    with pytest.raises(DataError, match=r"optics\.upsampling a ratio of small whole numbers"):
        tiling((200, 200), 96, 1.4709)


def test_a_margin_must_leave_what_tiles_share():
    assert tiling((96, 96), 64, 2.0).overlap_px == 32
    system, frames = Sim(settings()), np.random.default_rng(0).uniform(1, 9, (3, 3, 1, 96, 96))
    wide = Reconstruction(tile_px=64, margin_px=16)
    with pytest.raises(DataError, match=r"margin_px = 16: tiles of \(64, 64\) pixels share 32"):
        nstm.reconstruct(system, frames, TIMES, wide, calibration=calibration())


def test_a_part_of_the_field_sees_its_part_of_the_pattern():
    system, known, corner = Sim(settings()), calibration(), (14, 23)
    whole = system.forward((1, SIDE, SIDE), TIMES, known, PIXEL, 8)
    part = system.forward((1, 32, 40), TIMES, system.cropped(known, corner, PIXEL), PIXEL, 8)
    which = jnp.arange(9)
    (_, (y, _), (x, _)), (_, (v, h), (u, w)) = whole.output_field, part.output_field
    expected = whole.pattern.of(which)[:, y + 28 : y + 28 + h, x + 46 : x + 46 + w]
    np.testing.assert_allclose(part.pattern.of(which)[:, v : v + h, u : u + w], expected, atol=2e-4)


def needed(shape, chosen):
    """Bytes by a simple law: 1 kB per pixel, padding included, and 100 B more for every frame rendered together."""
    padded = (shape[0] + 2 * chosen.padding_px) * (shape[1] + 2 * chosen.padding_px)
    return padded * (1000 + 100 * (chosen.frames_at_once or 9))


@pytest.mark.parametrize(
    ("kilobytes", "at_once", "tiles"),
    [(530_000, None, 1), (430_000, 3, 1), (200_000, 1, 4), (20_000, 1, 36)],
)
def test_less_memory_first_takes_fewer_frames_together_then_tiles(kilobytes, at_once, tiles):
    found, changed = plan((512, 512), 9, 2.0, Reconstruction(), needed, 1000 * kilobytes)
    assert (changed.frames_at_once, len(found.corners)) == (at_once, tiles)
    assert 0.8 * kilobytes < needed(found.shape, changed) / 1000 <= kilobytes


def test_memory_that_does_not_suffice_for_any_tile_is_said_so():
    least = needed((SMALLEST_PX, SMALLEST_PX), Reconstruction(frames_at_once=1))
    with pytest.raises(DataError, match=r"needs 0.31 GB of memory.*memory_gb"):
        plan((512, 512), 9, 2.0, Reconstruction(), needed, least - 1)


def sample(time_s):
    """Spots on the grid of the results that turn about the middle and drift, ``(y, x)``."""
    rng, side, middle = np.random.default_rng(0), 2 * SIDE, np.full(2, SIDE)
    places, brightness = rng.uniform(0, side, (220, 2)), rng.uniform(0.3, 1, 220)
    angle = 0.4 * time_s
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved = (places - middle) @ turn + middle + np.array([10.0, 25.0]) * time_s
    y, x = np.indices((side, side))
    image = np.zeros((side, side))
    for (cy, cx), b in zip(moved, brightness, strict=True):
        image += b * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 2.5**2))
    return image


@pytest.fixture(scope="module")
def both():
    """The same frames fitted as a whole and in four tiles."""
    system, known = Sim(settings(camera={"offset": 100})), calibration()
    model = system.forward((1, SIDE, SIDE), TIMES, known, PIXEL, 0)
    truth = np.stack([200 * sample(t) for t in TIMES.ravel()])
    frames = np.asarray(model.render(truth[:, None, None, None].astype(np.float32), np.arange(9)))
    frames = 100 + frames + np.random.default_rng(1).normal(scale=2, size=frames.shape)
    frames = frames.reshape(3, 3, 1, SIDE, SIDE).astype(np.float32)
    short = {"steps": 160, "padding_px": 8, "starts": 1, "multigrid": {"scene_levels": 5, "motion_levels": 5}}
    whole, tiled = (
        nstm.reconstruct(
            system, frames, TIMES, Reconstruction.model_validate({**short, **more}), calibration=known, snapshots=(160,)
        )
        for more in ({}, {"tile_px": TILE})
    )
    return truth, whole, tiled


def inner(image, border=20):
    return image[..., border:-border, border:-border]


def test_tiles_agree_with_the_whole_and_their_seams_are_not_worse(both):
    truth, whole, tiled = both
    assert isinstance(tiled, Tiles)
    assert len(tiled.fits) == 4
    some, truth = TIMES.ravel()[::4], truth[::4]
    expected, scenes = (fit.scene(some)[:, 0, 0] for fit in (whole, tiled))
    assert scenes.shape == expected.shape == truth.shape
    apart = np.sqrt(np.mean(inner(scenes - expected) ** 2))
    assert 20 * np.log10(np.ptp(truth) / apart) > 35
    error = inner(scenes - truth)
    assert np.std(error) < 1.1 * np.std(inner(expected - truth))
    seam = np.zeros((2 * SIDE, 2 * SIDE), bool)
    seam[2 * (SIDE - TILE) : 2 * TILE] = seam[:, 2 * (SIDE - TILE) : 2 * TILE] = True
    seam = inner(seam)
    assert np.std(error[:, seam]) < 1.2 * np.std(error[:, ~seam])


def test_tiles_have_one_intensity_scale(both):
    truth, _, tiled = both
    assert len({fit.scale for fit in tiled.fits}) == 1
    first = tiled.scene(TIMES.ravel()[:1])[0, 0, 0]
    for corner in (np.s_[20:80, 20:80], np.s_[20:80, 80:140], np.s_[80:140, 20:80], np.s_[80:140, 80:140]):
        np.testing.assert_allclose(first[corner].mean(), truth[0][corner].mean(), rtol=0.02)


def test_motion_and_paths_go_on_from_tile_to_tile(both):
    _, whole, tiled = both
    ends = np.array([TIMES.min(), TIMES.max()])
    one, other = (inner(fit.motion(ends)[1], 30) for fit in (whole, tiled))
    assert np.isnan(tiled.motion(ends)[0]).all()
    known = np.isfinite(one) & np.isfinite(other)
    assert known.mean() > 0.8
    assert np.median(np.abs(one - other)[known]) < 0.15 * PIXEL
    points = np.array([[2.6, 2.0], [2.6, 3.0], [1.5, 2.6]])
    times = np.sort(TIMES.ravel())
    np.testing.assert_allclose(tiled.trajectory(points, times)[-1], whole.trajectory(points, times)[-1], atol=0.04)


def test_residual_noise_and_losses_are_those_of_the_whole_field(both):
    _, whole, tiled = both
    assert tiled.residual.shape == whole.residual.shape
    np.testing.assert_allclose(np.std(tiled.residual), np.std(whole.residual), rtol=0.1)
    np.testing.assert_allclose(tiled.noise_variance, whole.noise_variance, rtol=0.3)  # few frequencies tell it
    np.testing.assert_allclose(tiled.residual + tiled.predicted(), whole.residual + whole.predicted(), atol=0.1)
    assert tiled.trace.loss.shape == whole.trace.loss.shape
    assert tiled.frame_shape == whole.frame_shape
    assert {k: np.shape(v) for k, v in tiled.parameters["illumination"].items()} == {
        k: np.shape(v) for k, v in whole.parameters["illumination"].items()
    }


def test_where_parts_slide_in_one_tile_the_whole_says_so(both):
    *_, tiled = both
    assert tiled.smooth_residual is None
    assert tiled.settings.multigrid.motion_sliding_levels == 0
    finer = override(tiled.fits[2].settings, {"multigrid": {"motion_sliding_levels": 2}})
    slid = dataclasses.replace(tiled.fits[2], settings=finer, smooth_residual=tiled.fits[2].residual + 3)
    some = dataclasses.replace(tiled, fits=(*tiled.fits[:2], slid, tiled.fits[3]))
    assert some.settings.multigrid.motion_sliding_levels == 2
    (y, x), more = tiled.tiling.corners[2], some.smooth_residual - some.residual
    np.testing.assert_allclose(more[..., :20, :20] if y else more[..., -20:, -20:], 0, atol=1e-4)
    alone = more[..., -20:, :20] if y else more[..., :20, -20:]
    assert (y, x) in [(0, SIDE - TILE), (SIDE - TILE, 0)]
    np.testing.assert_allclose(alone, 3, rtol=1e-4)


def test_snapshots_of_tiles_are_scenes_in_the_middle_of_the_acquisition(both):
    _, _, tiled = both
    middle = tiled.scene(np.array([TIMES.mean()]))[0]
    np.testing.assert_array_equal(tiled.snapshots[160], middle)  # the last step


def test_saved_tiles_are_the_same_tiles(both, tmp_path):
    *_, tiled = both
    tiled.save(tmp_path / "fit.npz")
    again = nstm.load(tmp_path / "fit.npz")
    at = np.array([TIMES.min(), TIMES.mean()])
    np.testing.assert_array_equal(again.scene(at), tiled.scene(at))
    np.testing.assert_array_equal(again.motion(at), tiled.motion(at))
    assert list(tmp_path.iterdir()) == [tmp_path / "fit.npz"]


def test_too_little_memory_makes_tiles_of_a_volume(monkeypatch, capsys):
    """Light of the right amount everywhere, and less memory than the whole field takes."""
    system = Sim(
        settings(
            optics={"index": 1.518, "pixel_um": 0.08, "z_step_um": 0.2, "padding_planes": 1},
            illumination={"angles": 3, "phases": 5, "beams": 3},
            frames={"planes": 2},
        )
    )
    known, times = calibration(phases=5, orders=2), np.broadcast_to(np.arange(15.0).reshape(3, 5, 1), (3, 5, 2))
    model = system.forward((2, 72, 32), times, known, 0.08, 0)
    rng = np.random.default_rng(0)
    scene = np.clip(rng.normal(size=model.scene_shape), 0, None) + 1
    lit = np.broadcast_to(scene.astype(np.float32), (15, 1, *model.scene_shape))
    frames = np.asarray(model.render(lit, np.arange(15))).reshape(3, 5, 2, 72, 32)
    few = {"steps": 40, "starts": 1, "padding_px": 4, "multigrid": {"scene_levels": 2, "motion_levels": 2}}
    chosen = Reconstruction.model_validate({**few, "memory_gb": 0.7 * np.prod(frames.shape) / 1e6})
    module = importlib.import_module("nstm.spacetime.reconstruct")
    monkeypatch.setattr(module, "peak_bytes", lambda renderer, shape, *_: 1000 * np.prod(shape))
    result = nstm.reconstruct(system, 100 * frames, times, chosen, calibration=known)
    assert isinstance(result, Tiles)
    assert "needs 0.069 GB of memory, there are 0.048 GB: 2 tiles" in capsys.readouterr().err
    assert result.tiling.shape[0] < 72
    assert result.tiling.shape[1] == 32
    seen = result.scene(times[0, 0, :1])[0, 0]
    assert seen.shape == (2, 144, 64)
    rows = seen.mean(axis=(0, 2)).reshape(9, 16).mean(axis=1)
    np.testing.assert_allclose(rows[1:-1], rows[1:-1].mean(), rtol=0.05)
