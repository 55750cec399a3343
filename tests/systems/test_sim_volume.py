"""Volumes: the forward model against simulated stacks, and the times of planes."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile

import nstm
from nstm.acquisition import DataError
from nstm.settings import Reconstruction
from nstm.simulate import VolumeMicroscope, simulate_volume
from nstm.simulate.imaging import calibration_of, system_of
from nstm.simulate.motion import still
from nstm.simulate.sim import structure_area
from nstm.simulate.structures import er_network, through_depth
from nstm.systems.sim import Sim, SimSettings, _scene_times

OPTICS = {"na": 1.4, "index": 1.518, "emission_wavelength_um": 0.515, "excitation_wavelength_um": 0.488}


def system(planes, **optics):
    return Sim(
        SimSettings.model_validate(
            {
                "optics": {**OPTICS, "pixel_um": 0.08, "z_step_um": 0.125, **optics},
                "illumination": {"angles": 3, "phases": 5, "beams": 3},
                "frames": {"planes": planes},
            }
        )
    )


def test_a_published_kind_of_stack_is_predicted_from_its_truth(shared_cases):
    """Emitters between the samples and beyond the stack are not in the model; the rest is little more than noise."""
    case = json.loads((shared_cases / "sim" / "v3_128x16_mid.json").read_text())
    raw = tifffile.imread(shared_cases / "sim" / "v3_128x16_mid_raw.tif").astype(np.float32) - 100
    raw = raw.reshape(16, 3, 5, 128, 128).transpose(1, 2, 0, 3, 4).reshape(15, 16, 128, 128)
    calibration = {
        "pattern_vectors": (np.array(case["k"])[:, ::-1] / 2).tolist(),
        "phases": np.array(case["phases"]).reshape(3, 5).tolist(),
        "modulation": np.transpose([case["mods"], case["mods2"]]).tolist(),
    }
    model = system(16, padding_planes=0).forward((16, 128, 128), np.zeros((3, 5, 16)), calibration, 0.08, 0)
    truth = np.load(shared_cases / "sim" / "v3_128x16_mid_truth.npz")["gt"].astype(np.float32)
    for frame in (0, 7, 14):
        seen = np.asarray(model.render(jnp.asarray(truth)[None, None, None], jnp.array([frame])))[0]
        inner = (slice(4, 12), slice(16, -16), slice(16, -16))
        assert np.corrcoef(seen[inner].ravel(), raw[frame][inner].ravel())[0, 1] > 0.93


@pytest.mark.parametrize(("z_step_um", "planes"), [(0.125, 3), (0.2, 2)])
def test_the_default_padding_keeps_light_from_going_round_the_stack(z_step_um, planes):
    """Below 4 % of what an end plane emits at a seventh of the cutoff comes out at the other end; unpadded, most."""
    calibration = {
        "pattern_vectors": [[0.0, 2.0]] * 3,
        "phases": [[2 * np.pi * j / 5 for j in range(5)]] * 3,
        "modulation": [[0.8, 0.5]] * 3,
    }
    frames = []
    for padding in (None, 0, 30):  # after thirty planes nothing of the end plane is left
        optics = {"z_step_um": z_step_um, "padding_planes": padding, "pixel_integration": False}
        model = system(6, **optics).forward((6, 4, 48), np.zeros((3, 5, 6)), calibration, 0.08, 0)
        first, _ = model.output_field[0]
        scene = np.zeros(model.scene_shape, np.float32)
        scene[0, first] = 1 + np.cos(2 * np.pi * 3 * np.arange(96) / 96)  # 0.78 cycles/um of 5.4
        seen = model.render(jnp.broadcast_to(scene, (5, 1, *scene.shape)), jnp.arange(5))
        light = np.fft.rfft(np.asarray(seen).mean(axis=(0, 2)))[:, 3]  # order 0 at that frequency
        frames.append(light / light[0])
        if padding is None:
            assert first == planes
    default, none, wide = frames
    assert abs(none - wide).max() > 0.5
    assert abs(default - wide).max() < 0.04


@pytest.mark.parametrize(("planes_step", "blocks"), [(0.0, 1), (0.004, 1), (0.1, 5)])
def test_planes_that_take_longer_than_the_next_frame_waits_have_times_of_their_own(planes_step, blocks):
    times = np.arange(15.0).reshape(3, 5, 1) * 0.1 + np.arange(5) * planes_step
    scene_times, own = _scene_times(times, None)
    assert scene_times.shape == (15, blocks)
    assert own.tolist() == (list(range(5)) if blocks == 5 else [0] * 5)
    np.testing.assert_allclose(scene_times.mean(axis=1), times.reshape(15, 5).mean(axis=1))
    assert _scene_times(times, 2)[0].shape == (15, 2)


def test_every_block_of_planes_sees_its_own_scene():
    calibration = {
        "pattern_vectors": [[0.0, 2.0]] * 3,
        "phases": [[2 * np.pi * j / 5 for j in range(5)]] * 3,
        "modulation": [[0.8, 0.5]] * 3,
    }
    times = np.arange(15.0).reshape(3, 5, 1) * 0.1 + np.arange(4) * 0.1
    model = system(4).forward((4, 16, 16), times, calibration, 0.08, 4)
    assert model.times.shape == (15, 4)
    dark = jnp.zeros((1, 4, *model.scene_shape))
    frames = model.render(dark.at[:, 2].set(1.0), jnp.array([0]))
    light = np.asarray(frames[0]).mean(axis=(1, 2))
    assert light[2] > 0.5
    np.testing.assert_allclose(np.delete(light, 2), 0, atol=1e-6)


def filaments(shape, shift, seed=1):
    """Random walks in a volume, moved by ``shift`` (z, y, x) samples."""
    rng = np.random.default_rng(seed)
    volume = np.zeros(shape, np.float32)
    for _ in range(30):
        place, direction = rng.uniform(0, shape), rng.normal(size=3) * [0.1, 1, 1]
        for _ in range(shape[1]):
            direction = direction + rng.normal(size=3) * [0.02, 0.1, 0.1]
            place = place + 0.8 * direction / np.linalg.norm(direction)
            low = np.floor(place + shift).astype(int)
            for corner in np.ndindex(2, 2, 2):
                at = low + corner
                weight = np.prod(1 - np.abs(place + shift - at))
                if np.all(at >= 0) and np.all(at < shape):
                    volume[tuple(at)] += weight
    return volume


def test_a_moving_volume_is_recovered():
    sim, planes, side = system(4, padding_planes=1), 4, 32
    known = {
        "status": "pass",
        "reasons": [],
        "pattern_vectors": [[2.4 * np.sin(a), 2.4 * np.cos(a)] for a in (0.3, 1.35, 2.4)],
        "phases": [[2 * np.pi * j / 5 for j in range(5)]] * 3,
        "modulation": [[0.9, 0.7]] * 3,
    }
    times = np.broadcast_to(np.arange(15.0).reshape(3, 5, 1), (3, 5, planes))
    model = sim.forward((planes, side, side), times, known, 0.08, 8)
    shape = model.scene_shape[1:]
    frames = np.stack(
        [
            np.asarray(model.render(jnp.asarray(filaments(shape, (0, 0.4 * i, 0)))[None, None, None], jnp.array([i])))[
                0
            ]
            for i in range(15)
        ]
    )
    frames = np.random.default_rng(0).poisson(np.maximum(frames * 400 / frames.max(), 0)).astype(np.float32)
    short = Reconstruction.model_validate({"steps": 120, "starts": 1})
    frames = frames.reshape(3, 5, planes, side, side)
    moving = nstm.reconstruct(sim, frames, times, short, calibration=known)
    still = nstm.reconstruct(sim, frames, times, short, calibration=known, move=False)
    assert moving.trace.loss[-1] < 0.7 * still.trace.loss[-1]
    ends = np.array([0.0, 14.0])
    assert moving.scene(ends).shape == (2, 1, planes, 64, 64)
    travelled = moving.motion(ends)[1]
    assert travelled.shape == (3, planes, 64, 64)
    np.testing.assert_allclose(np.nanmedian(travelled[1]), 14 * 0.4 * 0.04, rtol=0.15)
    path = moving.trajectory(np.array([[0.25, 1.2, 1.2]]), ends)
    np.testing.assert_allclose(path[1, 0] - path[0, 0], [0, 0.224, 0], atol=0.06)


def test_a_pattern_that_cannot_be_projected_is_refused():
    calibration = {"pattern_vectors": [[0.0, 3.2]] * 3, "phases": [[0.0] * 5] * 3, "modulation": [[0.8, 0.5]] * 3}
    with pytest.raises((DataError, ValueError), match="cannot be projected"):
        system(4).forward((4, 16, 16), np.zeros((3, 5, 4)), calibration, 0.08, 4)


def test_the_distance_of_planes_may_stand_in_the_file_alone(shared_data):
    settings = {
        "optics": {"na": 1.42, "index": 1.515, "excitation_wavelength_um": 0.488},
        "illumination": {"angles": 3, "phases": 5, "beams": 3},
        "frames": {"order": "angle z phase", "planes": 9},
    }
    left_open = Sim(SimSettings.model_validate(settings))
    recording = nstm.open_acquisitions(shared_data / "sim" / "omx_3d" / "raw.dv", left_open)
    optics = left_open.of(recording).settings.optics
    assert (optics.z_step_um, optics.emission_wavelength_um) == pytest.approx((0.125, 0.528))


def test_a_result_holds_the_axial_frequencies_that_are_transferred():
    """Those below what the simulated microscope says reaches its data; none from one and a half times that on."""
    m = VolumeMicroscope(shape=(16, 16), planes=8, z_step_um=0.05, beams=3)
    known = calibration_of(
        simulate_volume(through_depth(er_network(3, structure_area(m)), 3, 0.0, 0.35), still(), m, 1, 3)
    )
    model = system_of(m).forward((8, 16, 16), m.times(1)[0], known, m.pixel_um, 4)
    depth = model.scene_shape[1]
    first, planes = model.output_field[0]
    f = np.fft.rfftfreq(depth, m.z_step_um)
    for number, frequency in enumerate(f):
        wave = np.cos(2 * np.pi * number * np.arange(depth) / depth)
        scene = np.broadcast_to(wave[:, None, None], model.scene_shape[1:]).astype(np.float32)
        passed = np.asarray(model.output(jnp.asarray(scene[None])))[0, :, 4, 4]
        if frequency <= 0.97 * m.axial_reach:
            np.testing.assert_allclose(passed, wave[first : first + planes], atol=1e-4)
        if frequency >= 1.55 * m.axial_reach:
            np.testing.assert_allclose(passed, 0, atol=1e-4)
    assert f.max() > 1.55 * m.axial_reach  # both were seen
