"""A single frame of a lensless camera as the picture of a sample at rest: Wiener filter, and ADMM with total variation.

``y = crop(h * x)``: with a rolling shutter every row sees the same sample, for the same time. What moves is blurred or
torn.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float
from scipy.fft import next_fast_len


class Admm(NamedTuple):
    """Weight of the total variation and penalties of the splittings, for data and pattern of norm 1.

    The penalties decide how fast it converges, not what it converges to. Those of the DiffuserCam tutorial (Waller-Lab;
    1e-6, 1e-5, 4e-5 with a weight of 1e-4) take thousands of iterations where these take hundreds.
    """

    total_variation: float = 1e-5
    uncropped: float = 1e-4
    gradient: float = 1e-3
    positive: float = 1e-3


class _Grid:
    """Twice the sensor along each side, the sensor in its middle."""

    def __init__(self, psf: np.ndarray) -> None:
        self.sensor = psf.shape[-2:]
        self.shape = tuple(int(next_fast_len(2 * n, True)) for n in self.sensor)
        centred = np.fft.ifftshift(self.padded(psf), axes=(-2, -1))
        self.transfer = np.fft.rfft2(centred).astype(np.complex64)

    def window(self, size: tuple[int, ...]) -> tuple[slice, slice]:
        """The middle of the grid."""
        top, left = (n // 2 - s // 2 for n, s in zip(self.shape, size, strict=True))
        return slice(top, top + size[0]), slice(left, left + size[1])

    def padded(self, images: np.ndarray) -> np.ndarray:
        """Images of the sensor with zeros around them."""
        whole = np.zeros((*images.shape[:-2], *self.shape), np.float32)
        rows, columns = self.window(self.sensor)
        whole[..., rows, columns] = images
        return whole


def wiener(frame: np.ndarray, psf: np.ndarray, scene_shape: tuple[int, int], parameter: float) -> np.ndarray:
    """``conj(H) Y / (|H|^2 + parameter max |H|^2)``, the frame with zeros around it.

    Args:
        frame: ``(c, y, x)``, counts.
        psf: ``(1 or c, y, x)``, the pattern of one point in the middle of the scene.
        scene_shape: rows and columns of the scene, in the middle of the sensor's field.
        parameter: larger is smoother.

    Returns:
        ``(c, y, x)`` of ``scene_shape``, counts.
    """
    grid = _Grid(psf)
    power = np.abs(grid.transfer) ** 2
    filtered = np.conj(grid.transfer) / (power + parameter * power.max(axis=(-2, -1), keepdims=True))
    found = np.fft.irfft2(filtered * np.fft.rfft2(grid.padded(frame)), s=grid.shape)
    rows, columns = grid.window(scene_shape)
    return np.asarray(found[..., rows, columns], np.float32)


def total_variation(
    frame: np.ndarray, psf: np.ndarray, scene_shape: tuple[int, int], iterations: int, weights: Admm
) -> np.ndarray:
    """The scene that is not negative and has little (anisotropic) total variation, by ADMM with the crop split off.

    ``u = Psi v`` (finite differences), ``x = h * v`` before the crop, ``w = v`` (not negative); every update is a
    product by pixels or by frequencies (methods of the DiffuserCam tutorial).

    Args:
        frame: as for :func:`wiener`, as ``psf`` and ``scene_shape``.
        iterations: of ADMM.
        weights: of the prior and of the splittings.

    Returns:
        ``(c, y, x)`` of ``scene_shape``, counts.
    """
    strength = float(np.linalg.norm(frame)) or 1.0
    size = float(np.linalg.norm(psf)) or 1.0
    grid = _Grid(psf / size)
    found = _admm(
        jnp.asarray(grid.padded(frame / strength)),
        jnp.asarray(grid.transfer),
        jnp.asarray(grid.padded(np.ones((1, *frame.shape[-2:]), np.float32))),
        Admm(*(jnp.float32(v) for v in weights)),  # type: ignore[arg-type]  # numbers of the device
        iterations,
    )
    rows, columns = grid.window(scene_shape)
    return np.asarray(found[..., rows, columns]) * np.float32(strength / size)


def _differences(image: Float[Array, "c y x"]) -> Float[Array, "2 c y x"]:
    return jnp.stack([jnp.roll(image, -1, axis) - image for axis in (-2, -1)])


def _adjoint_differences(slopes: Float[Array, "2 c y x"]) -> Float[Array, "c y x"]:
    parts = [jnp.roll(s, 1, axis) - s for s, axis in zip(slopes, (-2, -1), strict=True)]
    return parts[0] + parts[1]


def soft(values: Array, threshold: Array | float) -> Array:
    """Closer to zero by ``threshold``."""
    return jnp.sign(values) * jnp.maximum(jnp.abs(values) - threshold, 0)


@functools.partial(jax.jit, static_argnames="iterations")
def _admm(
    data: Float[Array, "c y x"],
    transfer: Complex[Array, "b y h"],
    sensor: Float[Array, "1 y x"],
    weights: Admm,
    iterations: int,
) -> Float[Array, "c y x"]:
    tau, mu1, mu2, mu3 = weights
    shape = data.shape[-2:]
    fy, fx = jnp.fft.fftfreq(shape[0])[:, None], jnp.fft.rfftfreq(shape[1])
    laplacian = 4 - 2 * jnp.cos(2 * jnp.pi * fy) - 2 * jnp.cos(2 * jnp.pi * fx)
    inverse = 1 / (mu1 * jnp.abs(transfer) ** 2 + mu2 * laplacian + mu3)
    uncropped = 1 / (sensor + mu1)

    def convolved(image: Array, by: Array) -> Array:
        return jnp.fft.irfft2(jnp.fft.rfft2(image) * by, s=shape)

    def body(_: Array, state: tuple) -> tuple:
        v, seen, slopes, xi, eta, rho = state
        u = soft(slopes + eta / mu2, tau / mu2)
        x = uncropped * (xi + mu1 * seen + data)
        w = jnp.maximum(rho / mu3 + v, 0)
        right = mu3 * w - rho + _adjoint_differences(mu2 * u - eta) + convolved(mu1 * x - xi, jnp.conj(transfer))
        v = convolved(right, inverse)
        seen, slopes = convolved(v, transfer), _differences(v)
        return v, seen, slopes, xi + mu1 * (seen - x), eta + mu2 * (slopes - u), rho + mu3 * (v - w)

    zero = jnp.zeros_like(data)
    start = (zero, zero, jnp.zeros((2, *data.shape), data.dtype), zero, jnp.zeros((2, *data.shape), data.dtype), zero)
    found = jax.lax.fori_loop(0, iterations, body, start)
    return jnp.maximum(found[0], 0)
