"""The forward model of SIM against the published simulator's data, its adjoint and its conventions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

from nstm.acquisition import DataError
from nstm.systems.sim import Sim, SimSettings
from nstm.systems.sim_forward import padded_side


def settings(**changes):
    optics = {"na": 1.4, "emission_wavelength_um": 0.515, "excitation_wavelength_um": 0.488, "pixel_um": 0.065}
    return SimSettings.model_validate({"optics": {**optics, **changes.pop("optics", {})}, **changes})


def calibration(angles=3, phases=3, orders=1):
    turn = np.arange(angles) * np.pi / angles
    return {
        "status": "pass",
        "reasons": [],
        "pattern_vectors": (4.4 / orders * np.stack([np.sin(turn), np.cos(turn)], 1)).tolist(),
        "phases": [[0.3 + 2 * np.pi * j / phases for j in range(phases)] for _ in range(angles)],
        "modulation": [[0.8, 0.5][:orders]] * angles,
    }


def test_a_uniform_scene_gives_the_pattern_as_the_camera_sees_it():
    system = Sim(settings(optics={"pixel_integration": False}))
    model = system.forward((1, 32, 48), np.zeros((3, 3, 1)), calibration(), 0.065, 8)
    frames = model.render(jnp.full((9, 1, *model.scene_shape), 7.0), jnp.arange(9))
    assert frames.shape == (9, 1, 32, 48)
    # the phases of an orientation add to a uniform frame
    np.testing.assert_allclose(frames.reshape(3, 3, 32, 48).mean(1), 7.0, rtol=1e-4)
    # |k| = 4.4 /um of a passband of 5.44 /um is transferred with the incoherent transfer function
    q = 4.4 / (2 * 1.4 / 0.515)
    otf = 2 / np.pi * (np.arccos(q) - q * np.sqrt(1 - q * q))
    x = 0.065 * np.arange(48)
    expected = 7 * (1 + 0.8 * otf * np.cos(2 * np.pi * 4.4 * x + 0.3))
    np.testing.assert_allclose(frames[0, 0, 16, 8:-8], expected[8:-8], rtol=0.01)


def test_the_pattern_has_its_phase_at_the_centre_of_the_first_pixel():
    system = Sim(settings(illumination={"angles": 3, "phases": 5, "beams": 3}))
    model = system.forward((1, 32, 40), np.zeros((3, 5, 1)), calibration(orders=2, phases=5), 0.065, 8)
    _, (y, _), (x, _) = model.output_field
    phases = 0.3 + 2 * np.pi * np.arange(5) / 5
    at_first_pixel = model.pattern.of(jnp.arange(15))[:5, y, x]
    np.testing.assert_allclose(at_first_pixel, 1 + 0.8 * np.cos(phases) + 0.5 * np.cos(2 * phases), rtol=2e-4)


def test_gains_change_the_brightness_of_frames_and_have_a_mean_of_one():
    model = Sim(settings()).forward((1, 16, 20), np.zeros((3, 3, 1)), calibration(), 0.065, 4)
    scenes = np.random.default_rng(0).random((9, 1, *model.scene_shape), dtype=np.float32)
    frames, offsets = model.render(scenes, jnp.arange(9)), model.offsets()
    np.testing.assert_array_equal(model.seen(scenes, jnp.arange(9), offsets), frames)
    offsets["intensity"] = offsets["intensity"] + 0.5  # of all frames: none
    np.testing.assert_allclose(model.seen(scenes, jnp.arange(9), offsets), frames, rtol=1e-6)
    offsets["intensity"] = offsets["intensity"].at[0].set(2.0)  # 3 beside eight times 1.5
    np.testing.assert_allclose(model.seen(scenes[:2], jnp.arange(2), offsets)[0], frames[0] * 27 / 15, rtol=1e-5)
    np.testing.assert_allclose(model.seen(scenes[:2], jnp.arange(2), offsets)[1], frames[1] * 13.5 / 15, rtol=1e-5)


def test_corrections_change_what_their_name_says():
    model = Sim(settings()).forward((1, 32, 32), np.zeros((3, 3, 1)), calibration(), 0.065, 0)
    same = model.corrected(model.offsets())
    np.testing.assert_allclose(same.pattern.of(jnp.arange(9)), model.pattern.of(jnp.arange(9)), atol=1e-6)
    offsets = model.offsets()
    offsets["phases"] = offsets["phases"].at[0].set(0.2)
    offsets["vectors"] = offsets["vectors"].at[1, 0].set(0.1)
    changed = model.corrected(offsets)
    np.testing.assert_allclose(changed.pattern.phases[0] - model.pattern.phases[0], 0.2, rtol=1e-5)
    turned, length = changed.pattern.vectors - model.pattern.vectors, model.pattern.y[-1] - model.pattern.y[0]
    edge = 2 * np.pi * turned[1, 0] * length / 2
    np.testing.assert_allclose(edge, 0.1, rtol=1e-3)


def in_double(model):
    """The same model with all its numbers in double precision."""
    wide = {"f": jnp.float64, "c": jnp.complex128}
    return jax.tree.map(lambda a: a.astype(wide[a.dtype.kind]) if a.dtype.kind in wide else a, model)


def volume_calibration():
    return {**calibration(phases=5, orders=2), "pattern_vectors": [[0.5, 2.0], [2.0, -0.7], [-1.6, 1.4]]}


@pytest.mark.parametrize("planes", [1, 3])
def test_rendering_and_its_derivative_are_adjoint(planes):
    """A plane under two beams, and a volume under three whose planes see two times."""
    with jax.enable_x64(True):
        if planes == 1:
            model = Sim(settings()).forward((1, 16, 20), np.zeros((3, 3, 1)), calibration(), 0.065, 4)
        else:
            times = np.arange(15.0).reshape(3, 5, 1) * 0.1 + np.arange(planes) * 0.1
            system = Sim(settings(optics={"z_step_um": 0.125, "index": 1.518}, illumination={"beams": 3, "phases": 5}))
            model = system.forward((planes, 16, 16), times, volume_calibration(), 0.08, 4)
            assert model.times.shape[1] > 1
        model, rng = in_double(model), np.random.default_rng(0)
        which = jnp.array([4, 0, 8])
        scenes = jnp.asarray(rng.normal(size=(3, model.times.shape[1], *model.scene_shape)))
        out, pull_back = jax.vjp(lambda s: model.render(s, which), scenes)
        other = jnp.asarray(rng.normal(size=out.shape))
        assert out.dtype == jnp.float64
        np.testing.assert_allclose(jnp.vdot(out, other), jnp.vdot(scenes, pull_back(other)[0]), rtol=1e-11)


@pytest.mark.parametrize("name", ["vectors", "phases", "modulation", "intensity"])
def test_derivatives_of_the_corrections_are_those_of_finite_differences(name):
    with jax.enable_x64(True):
        model = in_double(Sim(settings()).forward((1, 12, 14), np.zeros((3, 3, 1)), calibration(), 0.065, 0))
        rng = np.random.default_rng(0)
        scenes, frames = jnp.asarray(rng.uniform(size=(9, 1, *model.scene_shape))), jnp.arange(9)
        direction = jnp.asarray(rng.normal(size=model.offsets()[name].shape))

        def total(step):
            offsets = {k: 0.05 * jnp.ones_like(v) for k, v in model.offsets().items()}
            offsets[name] = offsets[name] + step * direction
            return jnp.sum(model.seen(scenes, frames, offsets) ** 2)

        step = 1e-5
        slope = (total(step) - total(-step)) / (2 * step)
        np.testing.assert_allclose(jax.grad(total)(0.0), slope, rtol=1e-6, atol=1e-6)


def test_clean_frames_of_the_published_simulator_are_reproduced(shared_cases):
    case = np.load(shared_cases / "spacetime" / "sim2d_swirl.npz")
    pixel, ratio = float(case["ps"]), 1.6
    system = Sim(
        settings(
            optics={
                "na": 1.28,
                "index": 1.33,
                "pixel_um": pixel,
                "upsampling": ratio,
                "pixel_integration": False,
            },
            illumination={"angles": 3, "phases": 5, "beams": 3},
        )
    )
    model = system.forward((1, 80, 80), np.zeros((3, 5, 1)), swirl_calibration(case), pixel, 0)
    truth = jnp.asarray(case["fluo_gt"].reshape(15, 1, 1, 1, 128, 128).astype(np.float32))
    frames = np.asarray(model.render(truth, jnp.arange(15)))[:, 0]
    clean = case["img_clean"].reshape(15, 128, 128)
    spectrum = np.fft.fftshift(np.fft.fft2(clean), axes=(1, 2))[:, 24:104, 24:104]
    expected = np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(1, 2))).real * (80 / 128) ** 2
    np.testing.assert_allclose(frames, expected, atol=2e-4 * expected.max())


def swirl_calibration(case):
    """Pattern parameters of the case in this package's convention (its phases fall with the index: the sign turns)."""
    spacing, angles, starts = case["line_spacing"], case["k0angles"] + np.pi, np.ravel(case["start_phase"])
    fine = float(case["ps"]) / 1.6
    vectors, phases = [], []
    for s, a, start in zip(spacing, angles, starts, strict=True):
        ky, kx = np.sin(a) / s, np.cos(a) / s
        vectors.append([-ky, -kx])
        origin = -2 * np.pi * 64 * fine * (kx + ky) + start
        phases.append([-(origin - 2 * np.pi * j / 5) for j in range(5)])
    return {
        "status": "pass",
        "reasons": [],
        "pattern_vectors": vectors,
        "phases": phases,
        "modulation": [[1.0, 0.5]] * 3,
    }


def test_padding_gives_fast_whole_sides_and_refuses_what_cannot_be():
    assert padded_side(128, 8, 2.0) == (144, 288)
    camera, fine = padded_side(80, 8, 1.6)
    assert camera >= 96
    assert fine == camera * 1.6
    assert padded_side(80, 0, 1.6) == (80, 128)
    with pytest.raises(DataError, match=r"optics.upsampling = 1.7"):
        padded_side(81, 0, 1.7)


def test_the_support_is_what_the_shifted_bands_reach():
    system = Sim(settings())
    model = system.forward((1, 64, 64), np.zeros((3, 3, 1)), calibration(), 0.065, 0)
    scene = jnp.asarray(np.random.default_rng(0).normal(size=(1, 1, 128, 128)).astype(np.float32))
    spectrum = np.abs(np.fft.fft2(np.asarray(model.output(scene))[0, 0]))
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(128, 0.0325), np.fft.fftfreq(128, 0.0325)))
    assert spectrum[f > system.cutoff(calibration())].max() < 1e-3 * spectrum.max()
    assert spectrum[f < system.passband()].min() > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optics": {"na": 1.6, "index": 1.518}}, "must be below the refractive index"),
        ({"optics": {"pixel_um": 65}}, "pixel_um"),
        ({"optics": {"emission_wavelength_um": 525}}, "emission_wavelength_um"),
        ({"illumination": {"beams": 3}}, "at least 5 phases"),
        ({"frames": {"orientation_from_acquisition": [0, 1]}}, "one per orientation"),
        ({"frames": {"phase_delay": 1}}, "phase_delay"),
    ],
)
def test_impossible_settings_are_refused_by_name(changes, words):
    with pytest.raises(ValidationError, match=words):
        settings(**changes)
