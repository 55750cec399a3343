"""Parts of the sample that slide past each other, which a smooth motion does not follow."""

import importlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nstm
from benchmarks.robustness import Case, quality, recorded
from nstm.settings import Multigrid, Reconstruction, override
from nstm.simulate.imaging import calibration_of, stacked, system_of
from nstm.spacetime.checkpoint import Stopped
from nstm.spacetime.fit import fit as fitting
from nstm.spacetime.multigrid import MotionGrids
from nstm.spacetime.reconstruct import sliding, start_of
from nstm.spacetime.representation import mean_squared_gradient, usual_squared_gradient
from nstm.spacetime.residual import lost_in_several_frames
from tests.spacetime import test_reconstruct as blobs

results = importlib.import_module("nstm.spacetime.result")

SHAPE = (1, 48, 40)
FEW = {"steps": 40, "starts": 1, "padding_px": 4, "multigrid": {"scene_levels": 3, "motion_levels": 3}}


def lost(fit):
    return lost_in_several_frames(fit.residual, fit.pixel_um, fit.system.passband())[0]


def test_a_motion_is_the_same_with_levels_for_parts_that_slide():
    settings = Multigrid(motion_levels=4)
    plain = MotionGrids(SHAPE, 9, settings)
    finer = MotionGrids(SHAPE, 9, settings.model_copy(update={"motion_sliding_levels": 2}))
    rng = np.random.default_rng(0)
    motion = [jnp.asarray(rng.normal(size=c.shape), jnp.float32) for c in plain.initial(0)]
    tau = np.linspace(0, 1, 9)
    here, there = (
        m.render(c, m.in_time(tau), jnp.float32(1)) for m, c in ((plain, motion), (finer, finer.with_sliding(motion)))
    )
    # levels whose cells do not divide those of the finest are drawn on its nodes, which are closer now
    assert np.std(here - there) < 0.03 * np.std(here)
    assert finer.cells == plain.cells
    assert finer.freedom == 16 * plain.freedom
    assert finer.shaking == plain.shaking, "it shakes as a whole all the same"
    twice = finer.with_sliding(finer.with_sliding(motion))
    assert jax.tree.structure(twice) == jax.tree.structure(finer.initial(0))


def test_a_few_neighbours_that_differ_hardly_count_where_parts_slide():
    edge = np.zeros((1, 1, 2, 65, 65), np.float32)
    edge[..., 0, :, 33:] = 8.0
    shear = np.zeros_like(edge)
    shear[..., 0, :, :] = np.linspace(0, 8, 65, dtype=np.float32)
    ones = (1.0, 1.0)
    turned = np.swapaxes(edge, -1, -2)
    np.testing.assert_allclose(mean_squared_gradient(turned), mean_squared_gradient(edge))
    assert mean_squared_gradient(edge).sum() > 50 * mean_squared_gradient(shear).sum()
    assert usual_squared_gradient(edge, ones, 1e-3) < 0.5 * usual_squared_gradient(shear, ones, 1e-3)
    slope = 8 / 64  # along one of two axes
    expected = np.sqrt((slope**2 + 1e-3) * 1e-3)
    np.testing.assert_allclose(usual_squared_gradient(shear, ones, 1e-3), expected, rtol=1e-4)


def test_a_fit_is_judged_by_fits_that_may_slide_only_if_it_does():
    asked = Reconstruction()
    assert not start_of(asked, asked).sliding
    again = start_of(sliding(asked), asked)
    assert again.sliding
    assert again.multigrid.motion_sliding_levels == 0


def test_two_halves_that_slide_past_each_other_are_found(tmp_path, monkeypatch):
    recording = recorded(Case("two_beam", 64, "er", 300.0, "opposed", 4.0, 15))
    system, (frames, times) = system_of(recording.microscope), stacked(recording)

    def fitted(slides):
        settings = override(Reconstruction(), dict(system.fit_defaults) | {"sliding": slides})
        return nstm.reconstruct(system, frames, times, settings, calibration=calibration_of(recording))

    smooth, found = fitted(False), fitted(True)
    assert lost(smooth) > 120  # pixels; 176 measured
    assert lost(found) == 0
    assert found.settings.multigrid.motion_sliding_levels == 2
    looked_at = []
    monkeypatch.setattr(results, "material_displacement", lambda now, before, every: looked_at.append(every) or now)
    for fit in (smooth, found):
        fit.motion(recording.truth_times[[0, -1]])
    assert looked_at == [4, 1], "result pixels; edges lie between nodes that are 1.7 of them apart"
    assert smooth.smooth_residual is None
    np.testing.assert_array_equal(found.smooth_residual, smooth.residual)
    found.save(tmp_path / "fit.npz")
    np.testing.assert_array_equal(nstm.load(tmp_path / "fit.npz").smooth_residual, smooth.residual)
    gain = quality(recording, system, found.scene(recording.truth_times)) - quality(
        recording, system, smooth.scene(recording.truth_times)
    )
    assert gain > 3  # dB; 4.4 measured


def test_what_is_found_at_once_is_not_fitted_again():
    recording = recorded(Case("two_beam", 64, "filaments", 60.0, "static", 0.0, 2))
    fit = nstm.reconstruct(system_of(recording.microscope), *stacked(recording), calibration=calibration_of(recording))
    assert lost(fit) == 0
    assert fit.settings.multigrid.motion_sliding_levels == 0


def test_a_fit_that_is_stopped_among_parts_that_slide_goes_on_as_if_it_had_not(tmp_path, monkeypatch):
    module = sys.modules["nstm.spacetime.reconstruct"]  # the package's attribute of this name is the function
    # a mean square of 88 in the end of the start and 4 in that of the first pass: so few steps leave all of it lost
    monkeypatch.setattr(
        module, "lost_in_several_frames", lambda residual, *_: (400, 0.4) if np.mean(residual**2) > 20 else (0, 0.0)
    )
    system, frames, times, known = blobs.recorded((0, 4), noise=0.1)
    settings = Reconstruction.model_validate(FEW | {"steps": 100})
    whole = nstm.reconstruct(system, frames, times, settings, calibration=known)
    assert whole.settings.multigrid.motion_sliding_levels == 2
    asked = []

    def in_a_pass():
        asked.append(1)
        return len(asked) in (6, 11)  # of 5 dispatches per fit; the 6th is repeated by nothing

    options = {"calibration": known, "checkpoint": tmp_path}
    for number in range(2):
        with pytest.raises(Stopped, match=rf"step 20 of 100.*sliding-{number}\.npz"):
            nstm.reconstruct(system, frames, times, settings, stop=in_a_pass, **options)
    again = nstm.reconstruct(system, frames, times, settings, **options)
    assert whole.settings == again.settings
    for one, other in zip(jax.tree.leaves(whole.parameters), jax.tree.leaves(again.parameters), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("change", [{"sliding": False}, {"engine": "networks", "networks": {"levels": 2}}])
def test_parts_that_slide_are_left_where_nobody_asked_or_no_grid_moves(change):
    system, frames, times, known = blobs.recorded((0, 4), noise=0.1)
    fit = nstm.reconstruct(system, frames, times, Reconstruction.model_validate(FEW | change), calibration=known)
    assert lost(fit) > 200
    assert fit.settings.multigrid.motion_sliding_levels == 0


@pytest.mark.parametrize(("lost_of_field", "passes"), [((400, 0.4), True), ((400, 0.6), False), ((90, 0.1), False)])
def test_parts_may_slide_where_regions_are_lost_but_not_most_of_the_field(monkeypatch, lost_of_field, passes):
    module = sys.modules["nstm.spacetime.reconstruct"]
    monkeypatch.setattr(module, "lost_in_several_frames", lambda *_: lost_of_field)
    system, frames, times, known = blobs.recorded((0, 4), noise=0.1)
    labels = []
    monkeypatch.setattr(
        module, "fit", lambda *args, **more: labels.append(more["checkpoint"]) or fitting(*args, **more)
    )
    kept = {"calibration": known, "checkpoint": "unused"}
    monkeypatch.setattr("nstm.spacetime.fit.write_checkpoint", lambda *_: None)
    nstm.reconstruct(system, frames, times, Reconstruction.model_validate(FEW), **kept)
    assert any("sliding" in str(label) for label in labels) == passes
