"""Baselines of the lensless camera: adjoints, proximal operators, and scenes that they must find."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nstm.conventional.diffusercam import Admm, total_variation, wiener
from nstm.conventional.diffusercam_video import Camera, Prior, exact, fista, haar, lipschitz, no_dual
from nstm.optics.lensless import Diffuser
from nstm.optics.rolling_shutter import Blocks, Readout

SENSOR, SCENE = (32, 40), (16, 20)
RNG = np.random.default_rng(5)


def speckle(shape: tuple[int, int]) -> np.ndarray:
    """A sparse pattern with sharp features, sum 1."""
    psf = (RNG.random(shape) > 0.9).astype(float)
    return (psf / psf.sum())[None]


def make_camera(colours: int = 1) -> tuple[Camera, Blocks]:
    readout = Readout(SENSOR[0], 4)
    blocks = Blocks.of(readout, 6)
    psf = np.concatenate([speckle(SENSOR) for _ in range(colours)])
    return Camera(Diffuser(psf, SCENE), blocks, readout.layers), blocks


@pytest.mark.parametrize("colours", [1, 3])
def test_the_adjoint_is_the_adjoint(colours: int) -> None:
    camera, blocks = make_camera(colours)
    video = RNG.standard_normal((camera.layers, colours, *SCENE)).astype(np.float32)
    frame = RNG.standard_normal((len(blocks.row), colours, blocks.row.shape[1], SENSOR[1])).astype(np.float32)
    there = float(jnp.vdot(camera.forward(jnp.asarray(video)), frame))
    back = float(jnp.vdot(video, camera.adjoint(jnp.asarray(frame))))
    assert there == pytest.approx(back, rel=1e-4, abs=1e-3)


def test_power_iteration_finds_the_largest_eigenvalue() -> None:
    camera, _ = make_camera()
    places = range(0, camera.layers * SCENE[0] * SCENE[1], 7)
    points = np.zeros((len(places), camera.layers, 1, *SCENE), np.float32)
    points.reshape(len(places), -1)[np.arange(len(places)), places] = 1
    columns = np.asarray(jax.lax.map(camera.forward, jnp.asarray(points))).reshape(len(places), -1)
    part = float(np.linalg.svd(columns, compute_uv=False)[0] ** 2)  # some of the columns: a lower bound
    assert float(lipschitz(camera, 1, 60)) >= part


def test_haar_without_weight_changes_nothing_and_keeps_what_is_constant() -> None:
    video = jnp.asarray(RNG.standard_normal((5, 1, 7, 6)), jnp.float32)
    assert np.asarray(haar(video, Prior(0.0))) == pytest.approx(np.asarray(video), abs=1e-6)
    constant = jnp.full((5, 2, 7, 6), 3.0)
    assert np.asarray(haar(constant, Prior(0.7, 5.0))) == pytest.approx(np.asarray(constant))


def test_exact_operator_of_a_step_is_that_of_one_dimension() -> None:
    """A step of height 1 along y, long enough: each side comes closer by the weight over its length."""
    step = jnp.zeros((1, 1, 8, 4)).at[:, :, 4:].set(1.0) + 1.0
    found, _ = exact(step, Prior(0.4), no_dual(step.shape), rounds=400)
    assert np.asarray(found[0, 0, :, 0]) == pytest.approx([1.1] * 4 + [1.9] * 4, abs=1e-3)


def test_exact_operator_is_no_worse_than_any_neighbour() -> None:
    video = jnp.asarray(RNG.standard_normal((4, 1, 5, 6)), jnp.float32)
    prior = Prior(0.3, 2.0)

    def objective(z: jnp.ndarray) -> float:
        slopes = [2.0 * jnp.abs(jnp.diff(z, axis=0)).sum(), *(jnp.abs(jnp.diff(z, axis=a)).sum() for a in (-2, -1))]
        return float(0.5 * jnp.sum((z - video) ** 2) + 0.3 * sum(slopes))

    found, _ = exact(video, prior, no_dual(video.shape), rounds=500)
    best = objective(found)
    for _ in range(20):
        near = jnp.maximum(found + 0.02 * RNG.standard_normal(video.shape), 0)
        assert objective(near) > best - 1e-4


@pytest.fixture
def still() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    psf = speckle(SENSOR)
    scene = np.zeros((1, *SCENE))
    scene[:, 5:11, 6:14] = 1
    scene[:, 7:9, 8:10] = 2
    return scene, psf, np.asarray(Diffuser(psf, SCENE).still(scene))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_static_baselines_find_a_scene_at_rest(still: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    scene, psf, frame = still
    assert correlation(wiener(frame, psf, SCENE, 1e-3), scene) > 0.8  # the frame ends where the sensor does
    found = total_variation(frame, psf, SCENE, 300, Admm())
    assert found.min() >= 0
    assert correlation(found, scene) > 0.97
    assert found.sum() == pytest.approx(scene.sum(), rel=0.1)


@pytest.mark.parametrize("proximal", ["haar", "exact"])
def test_video_of_a_moving_scene_is_found(proximal: str) -> None:
    camera, _ = make_camera()
    video = np.zeros((camera.layers, 1, *SCENE), np.float32)
    for t in range(camera.layers):
        left = 3 + round(8 * t / camera.layers)
        video[t, :, 5:11, left : left + 6] = 1
    data = np.asarray(camera.forward(jnp.asarray(video)))
    found, left_over = fista(camera, data, Prior(1e-5), 400, proximal=proximal)
    assert left_over < 0.05 * np.mean(data**2)
    middle = camera.layers // 2
    assert correlation(found[middle], video[middle]) > 0.8
