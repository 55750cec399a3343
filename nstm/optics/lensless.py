"""What a sensor without a lens sees: the scene convolved with the pattern of one point behind the diffuser.

``y(r, c) = sum_t S_t(r) (h * x_t)(r, c)``, a linear convolution cropped to the sensor (Antipa et al., ICCP 2019;
Cao et al., Nature Methods 2024, Methods). A row is a sum over rows of the scene of one-dimensional convolutions along
x, so that the layers that expose it are added first and every row costs as much as one of a single still image.
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int
from scipy.fft import next_fast_len

from nstm.acquisition import DataError


def prepared_psf(psf: np.ndarray, background: float, binning: int) -> np.ndarray:
    """A recorded point spread function as it is used: background removed, binned, its brightest colour of sum 1.

    Args:
        psf: ``(c, y, x)``, counts.
        background: counts of a dark pixel.
        binning: pixels averaged along each side.

    Raises:
        DataError: nothing is left.
    """
    clean = binned(np.maximum(psf - background, 0), binning)
    largest = float(clean.sum(axis=(-2, -1)).max())
    if not largest > 0:
        raise DataError(f"the point spread function holds no light above its background of {background:g}")
    return clean / largest


def binned(images: np.ndarray, binning: int) -> np.ndarray:
    """Mean over squares of ``binning`` pixels; what is left over at the last rows and columns is cut off."""
    if binning == 1:
        return images
    rows, columns = (n // binning for n in images.shape[-2:])
    cut = images[..., : rows * binning, : columns * binning]
    return np.asarray(cut.reshape(*cut.shape[:-2], rows, binning, columns, binning).mean(axis=(-3, -1)))


class Diffuser(eqx.Module):
    """The sensor behind the diffuser, for scenes in the middle of its field.

    A point in the middle of the scene gives the point spread function as it is.
    """

    spectra: Complex[Array, "c rows f"]  # along x, of the point spread function; rows of nothing around it
    scene_shape: tuple[int, int] = eqx.field(static=True)
    sensor_shape: tuple[int, int] = eqx.field(static=True)
    length: int = eqx.field(static=True)  # of the transforms along x

    def __init__(self, psf: np.ndarray, scene_shape: tuple[int, int]) -> None:
        """Prepare the transforms.

        Args:
            psf: ``(c, y, x)``, one for all colours or one for each, at the pixels of the sensor.
            scene_shape: rows and columns of the scene, same pixels.
        """
        self.scene_shape, self.sensor_shape = scene_shape, (psf.shape[-2], psf.shape[-1])
        (rows, columns), (height, width) = self.sensor_shape, scene_shape
        before = self._start(0)
        # what wraps around must not reach the columns of the sensor
        self.length = int(next_fast_len(max(width + columns - self._start(1), self._start(1) + columns), True))
        padded = np.zeros((len(psf), rows + height - 1, columns))
        source = np.arange(rows + height - 1) - (height - 1) + before
        inside = (source >= 0) & (source < rows)
        padded[:, inside] = psf[:, source[inside]]
        self.spectra = jnp.asarray(np.fft.rfft(padded, self.length), jnp.complex64)

    def _start(self, axis: int) -> int:
        """Place in the full convolution of the sensor's first pixel."""
        return self.scene_shape[axis] // 2

    def rows(
        self, scenes: Float[Array, "k c y x"], share: Float[Array, "lines k"], row: Int[Array, "halves*lines"]
    ) -> Float[Array, "c halves*lines u"]:
        """Rows of the sensor that are exposed, line by line, to some layers of a scene.

        Args:
            scenes: the layers.
            share: of each line's exposure that falls into each layer.
            row: which rows of the sensor the lines are, half by half.
        """
        mixed = jnp.tensordot(share, scenes, axes=1)  # lines c y x
        spectra = jnp.fft.rfft(mixed, self.length)
        lines, height = len(share), self.scene_shape[0]
        beside = row[:, None] + (height - 1) - jnp.arange(height)
        start, colours = self._start(1), (spectra.shape[1], lines, height, spectra.shape[-1])

        def half(which: Int[Array, "lines y"]) -> Array:
            seen = jnp.einsum("lcyf,clyf->clf", spectra, jnp.broadcast_to(self.spectra[:, which], colours))
            return jnp.fft.irfft(seen, self.length)[..., start : start + self.sensor_shape[1]]

        halves = [half(beside[i : i + lines]) for i in range(0, len(row), lines)]
        return jnp.concatenate(halves, axis=1)

    def still(self, scene: Float[Array, "c y x"]) -> Float[Array, "c v u"]:
        """The frame of a scene at rest."""
        rows = self.sensor_shape[0]
        return self.rows(scene[None], jnp.ones((rows, 1)), jnp.arange(rows))
